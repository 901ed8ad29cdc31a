"""One layer of each method by itself: how long it takes, and how many operations it has."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import nnx

from benchmarks.gpu.timing import times
from benchmarks.gpu.values import parameters
from benchmarks.rivals import RIVALS
from vrwkv_jax.models import params as P
from vrwkv_jax.models.attention import Attention, FrameSelfAttention
from vrwkv_jax.models.mixers.registry import MIXERS
from vrwkv_jax.models.video_config import VideoConfig
from vrwkv_jax.system.operations import count_operations

LEVELS = ((8, 320), (16, 640), (32, 1280), (64, 1280))
"""Pixels per place along a side, and channels."""
HEADS = 8
SCOPES = ("extended", "sparse_causal")
LAYERS = (*SCOPES, *(name for name, settings in RIVALS.items() if settings["mixer"] != "none"))
SHARES = (4, 12)  # of the queries, in units of ``QUERIES``, that are timed where all would take too long
QUERIES = 512
BY_SHARES = f"shares of {SHARES[0] * QUERIES} and {SHARES[1] * QUERIES} queries"

Row = dict[str, Any]


class Layer(nnx.Module):
    """A mixer, or self-attention, on ``B F H W C``."""

    def __init__(self, name: str, channels: int, *, rngs: nnx.Rngs):
        self.is_attention = name in SCOPES
        if self.is_attention:
            self.layer: Any = FrameSelfAttention(channels, HEADS, scope=name, rngs=rngs)
        else:
            config = VideoConfig(**RIVALS[name])
            own = getattr(config, config.mixer)
            place = {"heads": HEADS, "layer": 1, "num_layers": 4, "bi_wkv": None}
            self.layer = MIXERS[config.mixer](channels, own, **place, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        if not self.is_attention:
            return self.layer(x)
        y = self.layer(rearrange(x, "b f h w c -> b f (h w) c"))
        return rearrange(y, "b f (h w) c -> b f h w c", h=x.shape[2])


def measure(name: str, frames: int, pixels: int, level: int, limit: float, expected: float) -> Row:
    """A row for one layer; ``expected`` is how long one run may take, in seconds, and ``limit`` how long it may.

    Attention of all tokens to all that takes longer is timed for a share of its queries; so is that which does not,
    from as many tokens on as a few shares have, for the two to be compared.
    """
    run, shapes, x = _program(name, frames, pixels, level)
    channels = x.shape[-1]
    row: Row = {"layer": name, "frames": frames, "pixels": pixels, "level": level, "channels": channels}
    row["operations"] = count_operations(run, shapes, x)
    tokens = frames * x.shape[2] * x.shape[3]
    if expected > limit:
        row["limit_s"] = limit
        if name == "extended":
            row |= {"ms": _by_shares_of_queries(channels, tokens), "how": BY_SHARES}
        return row
    compiled = jax.jit(run).lower(shapes, x).compile()
    row |= {"how": "whole", "compiled_bytes": compiled.memory_analysis().temp_size_in_bytes}
    values = jax.device_put(parameters(shapes)), jax.random.normal(jax.random.key(1), x.shape)
    row |= times(lambda: compiled(*values), jax.block_until_ready, seconds=1.0, least=3)
    if name == "extended" and tokens >= 4 * SHARES[1] * QUERIES:
        row["ms_by_shares"] = _by_shares_of_queries(channels, tokens)
    return row


def operations(name: str, frames: int, pixels: int, level: int) -> int:
    """Of one forward pass, by count."""
    run, *arguments = _program(name, frames, pixels, level)
    return count_operations(run, *arguments)


def _program(
    name: str, frames: int, pixels: int, level: int
) -> tuple[Callable[..., Any], P.Params, jax.ShapeDtypeStruct]:
    """A function of parameters and features, and the shapes of these."""
    unit, channels = LEVELS[level]
    graphdef, shapes = P.abstract(lambda rngs: Layer(name, channels, rngs=rngs))

    def run(params: P.Params, x: jax.Array) -> Any:
        return P.merge(graphdef, params)(x)

    return run, shapes, jax.ShapeDtypeStruct((1, frames, pixels // unit, pixels // unit, channels), jnp.float32)


def _by_shares_of_queries(channels: int, tokens: int) -> float:
    """Milliseconds of attention of all tokens to all, from two runs with few of the queries."""
    graphdef, shapes = P.abstract(lambda rngs: Attention(channels, HEADS, rngs=rngs))
    params, context = jax.device_put(parameters(shapes)), jax.random.normal(jax.random.key(1), (1, tokens, channels))
    taken = []
    for share in SHARES:
        attend: Callable[..., Any] = jax.jit(lambda params, x, context: P.merge(graphdef, params)(x, context))
        values = params, context[:, : share * QUERIES], context
        taken.append(times(lambda f=attend, v=values: f(*v), jax.block_until_ready, seconds=1.0, least=3)["ms"])
    per_unit = (taken[1] - taken[0]) / (SHARES[1] - SHARES[0])
    return taken[0] + per_unit * (tokens / QUERIES - SHARES[0])
