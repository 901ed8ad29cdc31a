"""Bi-WKV beside what else could mix tokens, and beside a copy on the same card."""

from functools import partial

import jax
import jax.numpy as jnp

from benchmarks.bi_wkv import CONTENDERS
from benchmarks.contenders import gradients
from benchmarks.gpu.timing import Rows, Run, times
from pallas_kernels.bi_wkv.cases import inputs

MATRIX = 8192  # rows and columns of the matrix product that rates are related to
COPIED = 2**30  # bytes
# Bytes per element of k: k, v in and y out; k, v, g in and dk, dv out.
ONE_PASS = {"forward": 3, "backward": 5}
# Three phases read k and v (and g) twice, and write and read float32 sums and states for every chunk of L tokens.
THREE_PHASES = {"forward": (5, 96), "backward": (8, 156)}
CHUNK = 64


def floor(phase: str, tokens: int, itemsize: int) -> float:
    """Bytes per element that must move at least: what fits one chunk is read and written once."""
    if tokens <= CHUNK:
        return ONE_PASS[phase] * itemsize
    arrays, states = THREE_PHASES[phase]
    return arrays * itemsize + states / CHUNK


def rates(tiny: bool) -> dict[str, float]:
    """What this device reaches: bytes per second of a copy, operations per second of a bfloat16 matrix product."""
    n, copied = (256, 2**20) if tiny else (MATRIX, COPIED)
    array, matrix = jnp.ones(copied // 2, jnp.bfloat16), jnp.ones((n, n), jnp.bfloat16)
    copy, product = jax.jit(lambda x: x + 1), jax.jit(lambda x: x @ x)
    of_copy = times(lambda: copy(array), jax.block_until_ready, seconds=0.3)["ms"]
    of_product = times(lambda: product(matrix), jax.block_until_ready, seconds=0.5)["ms"]
    return {"copy_bytes_per_s": 2 * copied / of_copy * 1e3, "matrix_flop_per_s": 2 * n**3 / of_product * 1e3}


def run(case: dict) -> Run:
    """Backward is forward and backward, less forward."""
    values = inputs(tuple(case["shape"]), decay=1.0 / case["shape"][1])
    values = {name: jnp.asarray(x, jnp.bfloat16 if x.ndim == 3 else jnp.float32) for name, x in values.items()}
    arguments = [values[name] for name in ("k", "v", "decay", "bonus")]
    op = CONTENDERS[case["contender"]]
    forward = jax.jit(op).lower(*arguments).compile()
    both = jax.jit(gradients(op)).lower(*arguments, values["g"]).compile()
    yield None
    reached = rates(case["tiny"])
    one, two = (
        times(partial(program, *given), jax.block_until_ready, seconds=0.5)
        for program, given in ((forward, arguments), (both, [*arguments, values["g"]]))
    )
    found: Rows = []
    k = values["k"]
    for phase, ms in (("forward", one["ms"]), ("backward", two["ms"] - one["ms"])):
        floor_ms = 1e3 * floor(phase, k.shape[1], k.dtype.itemsize) * k.size / reached["copy_bytes_per_s"]
        found.append({"phase": phase, "ms": ms, "floor_ms": floor_ms, "share_of_floor": floor_ms / ms, **reached})
    yield found
