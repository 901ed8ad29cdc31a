"""How frames change over time, in figures that need no model: second differences, differences, means."""

import numpy as np

from vrwkv_jax.typing import Bool, Float, UInt8

Frame = UInt8[np.ndarray, "H W 3"]


def second_difference(first: Frame, second: Frame, third: Frame) -> float:
    """Mean over pixels and colours of ``|first - 2 second + third|``: 0 for what stands still or fades evenly."""
    return float(np.abs(first.astype(np.int16) - 2 * second.astype(np.int16) + third).mean(dtype=np.float64))


def difference_sums(source: tuple[Frame, Frame], edit: tuple[Frame, Frame]) -> Float[np.ndarray, " 6"]:
    """Of a pair of adjacent frames: what ``difference_correlation`` adds up."""
    s, e = ((after.astype(np.float64) - before).ravel() for before, after in (source, edit))
    return np.array([len(s), s.sum(), e.sum(), s @ s, e @ e, s @ e])


def difference_correlation(sums: Float[np.ndarray, "P 6"]) -> float | None:
    """Pearson's correlation of the frame differences of edit and source, over all values of all pairs at once.

    0 where the edit stands still, and None where the source does.
    """
    number, s, e, ss, ee, se = sums.sum(axis=0)
    if number == 0:
        return None
    source, edit = (max(0.0, square - total**2 / number) for square, total in ((ss, s), (ee, e)))
    least = 1e-9 * number  # below any change of whole numbers, above the rounding of the sums
    if source <= least:
        return None
    return 0.0 if edit <= least else float((se - s * e / number) / np.sqrt(source * edit))


def mean_jitter(
    source: Float[np.ndarray, "F 3"], edit: Float[np.ndarray, "F 3"], joined: Bool[np.ndarray, " F-1"]
) -> float | None:
    """How much the mean colour jumps from frame to frame in a way that the source's does not.

    With ``d_t`` the mean of frame t of the edit minus that of the source, in each colour: the mean of
    ``|d_t - d_(t-1)|`` over the colours and the pairs that are ``joined``, without a cut. None without such pairs.
    """
    jumps = np.abs(np.diff(edit - source, axis=0))[joined]
    return float(jumps.mean()) if len(jumps) else None
