"""Bidirectional WKV of Vision-RWKV: exact, linear in tokens, in any dtype, forward and backward."""

from pallas_kernels.bi_wkv.api import (
    bi_wkv,
    bi_wkv_context_parallel,
    bi_wkv_with_states,
    free_decay,
)
from pallas_kernels.bi_wkv.state import State, empty_state, merge, nothing_like
from pallas_kernels.implementation import IMPLEMENTATIONS, implementation_for

__all__ = [
    "IMPLEMENTATIONS",
    "State",
    "bi_wkv",
    "bi_wkv_context_parallel",
    "bi_wkv_with_states",
    "empty_state",
    "free_decay",
    "implementation_for",
    "merge",
    "nothing_like",
]
