"""One program for all mixers of one shape, of which a U-Net has many."""

from functools import partial
from typing import Any

import jax
from flax import nnx

from vrwkv_jax.models.bypass import Bypass
from vrwkv_jax.models.control import Control, Injection, Layers
from vrwkv_jax.typing import Array, Float


class SharedMixer(nnx.Module):
    """A mixer whose call, ``mix``, is traced and lowered once for all of its shape, wherever they stand."""

    def __call__(self, x: Float[Array, "B F H W C"], control: Control | None = None) -> Float[Array, "B F H W C"]:
        graphdef, state = nnx.split(self)
        given: tuple[Any, ...] = (None, None, 0)
        if control is not None:
            control = control.of("mixer")
            given = (control.injection, control.layers, control.rows)
        mixed: Array = _mix(graphdef, state, x, *given)
        return mixed

    @classmethod
    def bypass(cls, channels: int, config: Any, *, heads: int, rngs: nnx.Rngs) -> Bypass | None:
        return None

    def mix(self, x: Float[Array, "B F H W C"], control: Control | None) -> Float[Array, "B F H W C"]:
        raise NotImplementedError


@partial(jax.jit, static_argnames=("graphdef", "layers", "rows"))
def _mix(
    graphdef: nnx.GraphDef[SharedMixer],
    state: nnx.State[Any, Any],
    x: Float[Array, "B F H W C"],
    injection: Injection | None,
    layers: Layers | None,
    rows: int,
) -> Float[Array, "B F H W C"]:
    control = None if injection is None or layers is None else Control(injection, layers, rows)
    mixer: SharedMixer = nnx.merge(graphdef, state)
    return mixer.mix(x, control)
