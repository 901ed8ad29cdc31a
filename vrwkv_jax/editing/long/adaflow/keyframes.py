"""Where the clips of a video begin: adaptive keyframe selection, with the off-by-ones of the printed one mended."""

from collections.abc import Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vrwkv_jax.editing.long.adaflow.config import AdaFlowConfig
from vrwkv_jax.editing.long.adaflow.similarity import best_matches
from vrwkv_jax.typing import Array, Float


def clip_starts(features: Iterable[Any], config: AdaFlowConfig, first: int = 0) -> Iterator[int]:
    """The first frame of each clip, as soon as it is known. Every frame is in one clip.

    ``features`` are those of the frames from ``first`` on, ``Float[h w D]`` each, in order. They are looked at one
    after the other, and those of the current clip's first frame alone are kept. A clip depends on nothing before its
    first frame: who knows a start can go on from there. A uniform selection only counts them, and they may be anything.
    """
    start, reference = first, None
    for number, found in enumerate(features, first):
        if number == first or number - start >= config.max_clip or _differs(reference, found, config):
            start, reference = number, found
            yield number


def _differs(reference: Any, frame: Any, config: AdaFlowConfig) -> bool:
    return config.selection == "adaptive" and not similar(reference, frame, config)


def similar(reference: Float[Any, "h w D"], frame: Float[Any, "h w D"], config: AdaFlowConfig) -> bool:
    """Whether ``frame`` may be in the clip of ``reference``: all of it, and each small window of it."""
    mean, least = similarity(reference, frame)
    return bool(mean >= config.frame_similarity and least >= config.window_similarity)


@jax.jit
def similarity(
    reference: Float[Array, "h w D"], frame: Float[Array, "h w D"]
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Of H[p] = max_q cos(reference[p], frame[q]): the mean, and the least of the means over windows."""
    height, width, channels = reference.shape
    places, _ = best_matches(reference.reshape(-1, channels), frame.reshape(-1, channels))
    return places.mean(), window_means(places.reshape(height, width)).min()


def window_means(x: Float[Array, "h w"]) -> Float[Array, "_ _"]:
    """Means over square windows of 1/16 of the width, 1/32 apart: 4 and 2 places where 512 pixels are 64.

    A window has at least 2x2 places, if there are as many, for one place says little. The last windows end where the
    frame ends, so that each place is in one.
    """
    height, width = x.shape
    window, stride = min(max(2, width // 16), height, width), max(1, width // 32)
    means = jax.lax.reduce_window(x, 0.0, jax.lax.add, (window, window), (1, 1), "VALID") / window**2
    rows, columns = (np.unique(np.r_[0:last:stride, last]) for last in (height - window, width - window))
    found: Array = means[jnp.asarray(rows)[:, None], jnp.asarray(columns)]
    return found
