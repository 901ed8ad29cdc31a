"""Feature reuse (DeepCache): which steps of sampling take the deep features of an earlier one, and what that costs."""

from collections.abc import Callable, Collection, Sequence
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vrwkv_jax.editing.controls.base import Needs
from vrwkv_jax.editing.denoiser import Denoiser
from vrwkv_jax.models import params as P
from vrwkv_jax.models.control import Injection
from vrwkv_jax.models.deep_cache import Deep, DeepCache
from vrwkv_jax.models.mixers.vrwkv import set_recurrences
from vrwkv_jax.models.unet import UNet
from vrwkv_jax.system.errors import UserError, setting
from vrwkv_jax.system.operations import count_operations
from vrwkv_jax.typing import Array


def whole_steps(
    asked: Sequence[tuple[Needs, bool]], injections: Sequence[Injection] | None, interval: int, until: float
) -> list[int]:
    """Of each step, the one whose deep features it uses: itself, or one of the ``interval - 1`` before it.

    From the share ``until`` of all steps on each uses its own. ``asked`` says what rows each step needs for its
    controls, and whether it is guided. Deep features have in them what controls put there. So a step for which these
    give something else, or which has a row that the earlier step had not, runs all blocks, and the steps are counted
    from there.
    """
    found: list[int] = []
    for step, (need, is_guided) in enumerate(asked):
        whole = found[-1] if found else step
        is_due = (
            step - whole >= interval
            or step >= round(until * len(asked))
            or need is not asked[whole][0]
            or is_guided > asked[whole][1]
        )
        is_due = is_due or (injections is not None and not _is_same(injections[step], injections[whole]))
        found.append(step if is_due else whole)
    return found


def _is_same(one: Injection, other: Injection) -> bool:
    return all(map(np.array_equal, jax.tree.leaves(one), jax.tree.leaves(other)))


def of_rows(deep: Deep, has: list[int], wanted: list[int]) -> Deep:
    """Those of the ``wanted`` rows, of all that it ``has``."""
    return deep if has == wanted else deep._replace(features=deep.features[jnp.array([has.index(r) for r in wanted])])


def check_cache_depth(depth: int, paths: Collection[str]) -> None:
    """Raises UserError where a U-Net with these paths of parameters has no deep blocks at that depth."""
    skips = len(
        {path.rpartition("/conv1/")[0] for path in paths if path.startswith("up_blocks/") and "/conv1/" in path}
    )
    if not 1 <= depth < skips:
        raise UserError(
            f"{setting('cache_depth')} is {depth}, expected 1 to {skips - 1}: this U-Net has {skips} skip connections"
        )


def share_of_operations(denoiser: Denoiser, latents: tuple[int, ...], text: tuple[int, ...], depth: int) -> float:
    """The operations of a row that runs the shallow blocks alone, as a share of one that runs all.

    The shapes are those of the latents, ``N F H W C``, and of the text, ``S B L E``. Counted, not measured.
    """
    shapes = tuple((path, leaf.shape) for path, leaf in denoiser.params.items())
    return _share(denoiser.graphdef, shapes, (1, *latents[1:]), (1, *text[2:]), depth)


@cache  # tracing a U-Net takes seconds
def _share(
    graphdef: P.GraphDef,
    shapes: tuple[tuple[str, tuple[int, ...]], ...],
    latents: tuple[int, ...],
    text: tuple[int, ...],
    depth: int,
) -> float:
    def call(params: P.Params, latents: Array, timesteps: Array, text: Array, deep: Deep | None) -> tuple[Array, Deep]:
        unet: UNet = P.merge(graphdef, params)
        set_recurrences(unet, implementation=None)  # what is named for a GPU can't be traced for CPUs
        found = DeepCache(depth, deep)
        output = unet(latents, timesteps, text, cache=found)
        assert found.deep is not None  # after a call
        return output, found.deep

    shape: Callable[..., Any] = jax.ShapeDtypeStruct
    arguments = (
        {path: shape(size, jnp.float32) for path, size in shapes},
        shape(latents, jnp.float32),
        shape(latents[:1], jnp.int32),
        shape(text, jnp.float32),
    )
    _, deep = jax.eval_shape(call, *arguments, None)
    return count_operations(call, *arguments, deep) / count_operations(call, *arguments, None)
