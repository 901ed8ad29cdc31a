"""Bi-WKV against what else could mix tokens, over the shapes of Stable Diffusion 1.5 at 512 x 512.

    python -m benchmarks.bi_wkv                  # every shape that is sensible here
    python -m benchmarks.bi_wkv --shapes 1x16384x320 1x4096x320 --repeats 9

Forward and forward + backward of one op: this package's implementations, ``lax.scan`` over the tokens,
``lax.associative_scan`` and attention over the same tokens. What is measured, and how, is in ``contenders``.
"""

from functools import partial

import jax.numpy as jnp
import numpy as np
from jax import lax

from benchmarks.contenders import LEVELS, Op, run
from pallas_kernels.bi_wkv import bi_wkv, cases, free_decay
from vrwkv_jax.models.attention import dot_product_attention

EMPTY = -1e30
HEAD = 64  # channels of an attention head


def token_scan(k, v, decay, bonus):
    """The recurrence token by token: ``lax.scan`` over T, with a running maximum."""
    k, v = (jnp.moveaxis(x.astype(jnp.float32), 1, 0) for x in (k, v))

    def step(state, token):
        m, a, b = state
        key, value = token
        new_m = jnp.maximum(m - decay, key)
        old, new = jnp.exp(m - decay - new_m), jnp.exp(key - new_m)
        return (new_m, a * old + new * value, b * old + new), state

    zero = jnp.zeros_like(k[0])
    start = (zero + EMPTY, zero, zero)
    return _combine(k, v, bonus, lax.scan(step, start, (k, v))[1], lax.scan(step, start, (k, v), reverse=True)[1], 0)


def associative(k, v, decay, bonus):
    """The same by ``lax.associative_scan``: log T passes, all tokens at once."""
    k, v = k.astype(jnp.float32), v.astype(jnp.float32)

    def join(far, near):
        far_steps, far_m, far_a, far_b = far
        steps, near_m, near_a, near_b = near
        far_m = far_m - steps * decay
        m = jnp.maximum(far_m, near_m)
        x, y = jnp.exp(far_m - m), jnp.exp(near_m - m)
        return far_steps + steps, m, far_a * x + near_a * y, far_b * x + near_b * y

    def exclusive(reverse):
        one = jnp.ones((1, k.shape[1], 1), jnp.float32)
        _, *state = lax.associative_scan(join, (one, k, v, jnp.ones_like(k)), axis=1, reverse=reverse)
        rows, side = (slice(1, None), (0, 1)) if reverse else (slice(None, -1), (1, 0))
        fills = (EMPTY, 0.0, 0.0)
        return [
            jnp.pad(x[:, rows], ((0, 0), side, (0, 0)), constant_values=f) for x, f in zip(state, fills, strict=True)
        ]

    return _combine(k, v, bonus, exclusive(False), exclusive(True), None)


def _combine(k, v, bonus, forward, backward, token_axis):
    m = jnp.maximum(jnp.maximum(forward[0], backward[0]), k + bonus)
    f, g, own = jnp.exp(forward[0] - m), jnp.exp(backward[0] - m), jnp.exp(k + bonus - m)
    y = (forward[1] * f + backward[1] * g + own * v) / (forward[2] * f + backward[2] * g + own)
    return y if token_axis is None else jnp.moveaxis(y, 0, 1)


def attention(k, v, decay, bonus):
    """Softmax attention over the same tokens, k standing for the queries as well: that of the models, by cuDNN where
    the card can."""
    B, T, C = k.shape
    q, k, v = (x.reshape(B, T, C // HEAD, HEAD) for x in (k, k, v))
    return dot_product_attention(q, k, v).reshape(B, T, C)


def ours(k, v, decay, bonus, implementation):
    """As the mixers call it, which vouch for a bound of the decay."""
    return bi_wkv(k, v, decay, bonus, max_decay=free_decay(k.shape[1]), implementation=implementation)


CONTENDERS = {
    "mosaic": partial(ours, implementation="mosaic"),
    "scan": partial(ours, implementation="scan"),
    "lax.scan over T": token_scan,
    "associative_scan": associative,
    "attention": attention,
}


def sensible(name: str, shape, on_gpu: bool) -> bool:
    """Whether a contender can be expected to finish at this shape."""
    B, T, C = shape
    if name == "mosaic":
        return on_gpu
    if name == "attention":
        return C % HEAD == 0 and (32e9 if on_gpu else 2e9) > B * T * T * (C // HEAD) * 4
    if name == "lax.scan over T":
        return (16384 if on_gpu else 65536) >= T
    return True


def default_shapes(on_gpu: bool, frames) -> list[tuple[int, int, int]]:
    """Joint sequences of all frames' tokens, then the factorised ones: within frames, and within places."""
    shapes = [(1, 16384, 320), (1, 4096, 320), (2, 65536, 320)]
    for tokens, channels in LEVELS:
        for count in frames:
            shapes += [(1, tokens * count, channels), (count, tokens, channels), (tokens, count, channels)]
    limit = 2**31 if on_gpu else 2**23  # elements
    return list(dict.fromkeys(s for s in shapes if np.prod(s) <= limit))


def inputs(shape):
    values = cases.inputs(shape, decay=1.0 / shape[1])
    return {name: values[name] for name in ("k", "v", "decay", "bonus", "g")}


OP = Op("bi_wkv", CONTENDERS, inputs, lambda _, x: x.ndim == 3, sensible, default_shapes)

if __name__ == "__main__":
    run(OP, __doc__)
