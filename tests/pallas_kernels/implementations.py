"""What every op here comes in; the kernels run where there is a GPU."""

import pytest

from pallas_kernels.implementation import IMPLEMENTATIONS

implementations = pytest.mark.parametrize(
    "implementation", [pytest.param(n, marks=pytest.mark.gpu) if n == "mosaic" else n for n in IMPLEMENTATIONS]
)
