"""Bidirectional WKV of Vision-RWKV: exact, linear in tokens, in any dtype, forward and backward."""

from pallas_kernels.bi_wkv.api import (
    IMPLEMENTATIONS,
    bi_wkv,
    bi_wkv_context_parallel,
    bi_wkv_with_states,
    free_decay,
    implementation_for,
)
from pallas_kernels.bi_wkv.state import State, empty_state, merge

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
]
