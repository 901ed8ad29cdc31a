"""The exponent of a power law, of what grows with frames or pixels."""

from collections.abc import Sequence

import numpy as np


def exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """b of the power law ``a size^b`` that is nearest to the values, on logarithmic axes."""
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])
