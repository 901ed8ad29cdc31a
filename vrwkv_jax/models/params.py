"""A module as a function of flat parameters: ``{"down_blocks/0/resnets/1/conv1/kernel": array, ...}``.

Everything outside the models (checkpoints, optimizers, sharding) speaks this form: paths are plain text that a regular
expression can match, and ``jax.jit`` dispatches on plain dicts several times faster than on modules.
"""

from collections.abc import Callable, Iterable
from functools import cache
from typing import Any, TypeVar

import jax
from flax import nnx

from vrwkv_jax.models.parameter_rules import FLOAT32

GraphDef = nnx.GraphDef[Any]
Params = dict[str, Any]  # path -> jax.Array, or ShapeDtypeStruct of a model that was not initialised
M = TypeVar("M", bound=nnx.Module)


class Keys(nnx.Rngs):
    """``nnx.Rngs(seed)`` of parameters, for the inside of a trace: the same keys, which it counts in Python.

    Where the count is traced, Flax asks it for a property that it does not have, twice for each key; and JAX goes
    through all of the trace to say why. That took most of the time in which a U-Net is described.
    """

    def __init__(self, seed: int):
        super().__init__(seed)
        self._key, self._count = jax.random.key(seed), 0

    def params(self) -> jax.Array:
        self._count += 1
        return jax.random.fold_in(self._key, self._count - 1)


def split(module: nnx.Module) -> tuple[GraphDef, Params]:
    """The static half of ``module`` and its flat parameters."""
    graphdef, state = nnx.split(module)
    return graphdef, {_text(path): leaf.get_value() for path, leaf in nnx.to_flat_state(state)}


def merge(graphdef: GraphDef, params: Params) -> Any:
    """The module with ``params`` in place; meant for the inside of a jitted function."""
    flat = [(_path(text), nnx.Param(leaf)) for text, leaf in params.items()]
    return nnx.merge(graphdef, nnx.from_flat_state(flat))


def abstract(build: Callable[[nnx.Rngs], M]) -> tuple[GraphDef, Params]:
    """``split`` of the module that ``build`` makes, with shapes in place of arrays: nothing is allocated."""
    return split(nnx.eval_shape(lambda: build(Keys(0))))


def described(model: Callable[..., nnx.Module], *configuration: Any, **options: Any) -> tuple[GraphDef, Params]:
    """``abstract`` of ``model(*configuration, **options)``, traced once for all who ask."""
    graphdef, shapes = _described(model, *configuration, **options)
    return graphdef, dict(shapes)


@cache  # tracing a U-Net takes seconds
def _described(model: Callable[..., nnx.Module], *configuration: Any, **options: Any) -> tuple[GraphDef, Params]:
    return abstract(lambda rngs: model(*configuration, **options, rngs=rngs))


def count(params: Params) -> int:
    """Number of scalars in ``params``."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def _text(path: Iterable[object]) -> str:
    return "/".join(map(str, path))


def _path(text: str) -> tuple[str | int, ...]:
    return tuple(int(part) if part.isdigit() else part for part in text.split("/"))


def cast(params: Params, dtype: str) -> Params:
    """``params`` in ``dtype``, save for those that are to stay as they are (float32)."""
    return {path: leaf if FLOAT32.search(path) else leaf.astype(dtype) for path, leaf in params.items()}
