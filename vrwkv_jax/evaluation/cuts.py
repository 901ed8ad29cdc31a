"""Where a clip is cut, by the warp error of its frames."""

import numpy as np

from vrwkv_jax.typing import Bool, Float

LEAST, FACTOR = 10.0, 4.0  # of 255; above the neighbours
NEIGHBOURS = 10  # on either side


def find_cuts(errors: Float[np.ndarray, " P"]) -> Bool[np.ndarray, " P"]:
    """Which pairs of adjacent frames have a cut between them.

    Args:
        errors: of each pair, how far the second frame is from the first one warped to it, over the whole picture:
            mean |difference|, from 0 to 255.

    A cut is where the error is above 10, and above 4 times the median of those of the 10 pairs before and the 10 after.
    """
    found = np.zeros(len(errors), bool)
    for index, error in enumerate(errors):
        around = np.r_[errors[max(0, index - NEIGHBOURS) : index], errors[index + 1 : index + 1 + NEIGHBOURS]]
        found[index] = len(around) > 0 and error > max(LEAST, FACTOR * float(np.median(around)))
    return found
