"""The selective scan against other ways to compute it, over the shapes of a Mamba in Stable Diffusion 1.5 at 512 x 512.

    python -m benchmarks.selective_scan                  # every shape that is sensible here
    python -m benchmarks.selective_scan --shapes 1x4096x640x16 --repeats 9

Forward and forward + backward of one op, B x T x E x N: this package's implementations, ``lax.scan`` over the tokens as
JAX derives it, and ``lax.associative_scan``. What is measured, and how, is in ``contenders``. Not the bytes that
must move at least limit it, but N exponentials per channel and token: see ``pallas_kernels/selective_scan/mosaic.py``.
"""

from functools import partial

import jax.numpy as jnp
import numpy as np
from jax import lax

from benchmarks.contenders import LEVELS, Op, run
from pallas_kernels.selective_scan import selective_scan
from pallas_kernels.selective_scan.cases import ARGUMENTS, inputs

EXPANSION, STATES = 2, 16  # a Mamba's channels for each of the layer that it is in; N
EDGES = 2  # rows, and columns, of tokens around every frame


def associative(x, dt, A, B, C, D):
    """By ``lax.associative_scan``: log T passes, all states at once."""

    def join(far, near):
        (far_decay, far_h), (decay, h) = far, near
        return far_decay * decay, decay * far_h + h

    decay = jnp.exp(dt[..., None] * A)
    written = (dt * x.astype(jnp.float32))[..., None] * B[:, :, None]
    _, h = lax.associative_scan(join, (decay, written), axis=1)
    return jnp.einsum("bten,btn->bte", h, C.astype(jnp.float32)) + D * x


CONTENDERS = {
    "mosaic": partial(selective_scan, implementation="mosaic"),
    "scan": partial(selective_scan, implementation="scan"),
    "lax.scan over T": partial(selective_scan, implementation="reference"),
    "associative_scan": associative,
}


def sensible(name: str, shape, on_gpu: bool) -> bool:
    B, T, E, N = shape
    if name == "mosaic":
        return on_gpu
    if name == "lax.scan over T":
        return (16384 if on_gpu else 65536) >= T and (32e9 if on_gpu else 2e9) > B * T * E * N * 4
    if name == "associative_scan":
        return (8e9 if on_gpu else 0.5e9) > B * T * E * N * 4
    return True


def default_shapes(on_gpu: bool, frames) -> list[tuple[int, ...]]:
    """Joint sequences of all frames' tokens, with one more around every frame; then two that others can finish."""
    shapes = [(1, 4096, 640, STATES), (8, 512, 640, STATES)]
    for tokens, channels in LEVELS:
        side = int(tokens**0.5) + EDGES
        shapes += [(1, count * side**2, EXPANSION * channels, STATES) for count in frames]
    limit = 2**31 if on_gpu else 2**23  # elements of x
    return [shape for shape in shapes if np.prod(shape[:3]) <= limit]


def ordered(shape):
    values = inputs(shape)
    return {name: values[name] for name in (*ARGUMENTS, "g")}


OP = Op("selective_scan", CONTENDERS, ordered, lambda name, _: name not in ("dt", "A", "D"), sensible, default_shapes)

if __name__ == "__main__":
    run(OP, __doc__)
