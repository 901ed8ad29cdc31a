"""Selective scan of Mamba: exact, linear in tokens, in any dtype, forward and backward."""

from pallas_kernels.implementation import IMPLEMENTATIONS, implementation_for
from pallas_kernels.selective_scan.api import (
    selective_scan,
    selective_scan_context_parallel,
    selective_scan_with_state,
)

__all__ = [
    "IMPLEMENTATIONS",
    "implementation_for",
    "selective_scan",
    "selective_scan_context_parallel",
    "selective_scan_with_state",
]
