"""Multi-head attention as Stable Diffusion has it, and what self-attention may look at in a clip."""

from collections.abc import Callable
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import nnx

from pallas_kernels.device import target_device
from vrwkv_jax.models.bypass import Bypass
from vrwkv_jax.parallel.frames import all_frames, first_frame, previous_frame
from vrwkv_jax.typing import Array, Float

FrameAttention = Literal["frame", "sparse_causal", "extended"]
Attend = Callable[[Array, Array, Array], Array]
"""(q, k, v) to the weighted values, as ``dot_product_attention``."""

MAX_SCORE_BYTES = 2**28  # float32 attention scores held at once; beyond it the queries are taken in slices
CPU_QUERIES = 512  # of one head at a time on CPUs, for its scores to stay in a cache
CPU_CACHE_BYTES, CPU_LEAST_SCORES = 2**23, 2**16  # of all heads, from which on that pays; of each


def dot_product_attention(
    q: Float[Array, "B Q N D"], k: Float[Array, "B K N D"], v: Float[Array, "B K N D"]
) -> Float[Array, "B Q N D"]:
    """softmax(q k^T / sqrt(D)) v with the softmax in float32, and its gradient, for any Q and K.

    Runs cuDNN's fused kernel where the device that the program is for has it. Everything else forms the scores, for as
    many queries at a time as ``MAX_SCORE_BYTES`` allows, on CPUs as a cache does, and forms slices of them again for
    the gradient.
    """
    if _cudnn_can(q.dtype, q.shape[-1]):
        return _cudnn(q, k, v)
    bytes_per_query = 4 * q.shape[0] * q.shape[2] * k.shape[1]
    is_large = q.shape[1] * bytes_per_query >= CPU_CACHE_BYTES and q.shape[1] * k.shape[1] >= CPU_LEAST_SCORES
    if is_large and target_device().platform == "cpu":
        return _head_by_head(q, k, v)
    queries = max(1, MAX_SCORE_BYTES // bytes_per_query)
    if queries >= q.shape[1]:
        return jax.nn.dot_product_attention(q, k, v, implementation="xla")

    @jax.checkpoint
    def attend(query: Float[Array, "B N D"]) -> Float[Array, "B N D"]:
        return jax.nn.dot_product_attention(query[:, None], k, v, implementation="xla")[:, 0]

    return jnp.moveaxis(jax.lax.map(attend, jnp.moveaxis(q, 1, 0), batch_size=queries), 0, 1)


def _cudnn_can(dtype: jnp.dtype, head_channels: int) -> bool:
    """Half precision on NVIDIA GPUs from Ampere on; 8, 16, ... 128 channels per head, on Hopper up to 256.

    For more than 128, other generations than Hopper have no gradient.
    """
    capability = target_device().capability
    if capability is None or capability < (8, 0) or dtype not in (jnp.bfloat16, jnp.float16):
        return False
    return head_channels % 8 == 0 and head_channels <= (256 if capability[0] == 9 else 128)


def _cudnn(
    q: Float[Array, "B Q N D"], k: Float[Array, "B K N D"], v: Float[Array, "B K N D"]
) -> Float[Array, "B Q N D"]:
    """JAX refuses the gradient for odd Q and K: those get one token more, and cuDNN is told to disregard it."""
    attend = partial(jax.nn.dot_product_attention, implementation="cudnn")
    queries, keys = q.shape[1], k.shape[1]
    if queries % 2 == keys % 2 == 0:
        return attend(q, k, v)
    # A sum with zeros of q's: under vmap, jax 0.10 wants the lengths mapped as q is.
    zeros = 0 * q[:, 0, 0, 0].astype(jnp.int32)
    q, k, v = (jnp.pad(x, ((0, 0), (0, x.shape[1] % 2), (0, 0), (0, 0))) for x in (q, k, v))
    return attend(q, k, v, query_seq_lengths=queries + zeros, key_value_seq_lengths=keys + zeros)[:, :queries]


def _head_by_head(
    q: Float[Array, "B Q N D"], k: Float[Array, "B K N D"], v: Float[Array, "B K N D"]
) -> Float[Array, "B Q N D"]:
    """Several times as fast on CPUs as all heads at once, whose scores go through memory."""
    batch, queries, heads, width = q.shape
    slices = -(-queries // CPU_QUERIES)
    size = -(-queries // slices)
    dtype = jnp.promote_types(q.dtype, jnp.float32)

    @jax.checkpoint
    def attend(q: Float[Array, "q D"], k: Float[Array, "K D"], v: Float[Array, "K D"]) -> Float[Array, "q D"]:
        scores = width**-0.5 * jnp.einsum("qd,kd->qk", q, k, preferred_element_type=dtype)
        weights = jnp.exp(scores - jax.lax.stop_gradient(scores.max(axis=-1, keepdims=True)))
        values = jnp.einsum("qk,kd->qd", weights.astype(v.dtype), v, preferred_element_type=dtype)
        weighted: Array = (values / weights.sum(axis=-1, keepdims=True)).astype(v.dtype)
        return weighted

    def one_head(of_head: tuple[Array, Array, Array]) -> Float[Array, "Q D"]:
        q, k, v = of_head
        sliced = jnp.pad(q, ((0, slices * size - queries), (0, 0))).reshape(slices, size, width)
        attended: Array = jax.lax.map(lambda q: attend(q, k, v), sliced).reshape(-1, width)
        return attended[:queries]

    folded = tuple(rearrange(x, "b t n d -> (b n) t d") for x in (q, k, v))
    attended: Array = jax.lax.map(one_head, folded)
    return rearrange(attended, "(b n) t d -> b t n d", b=batch, n=heads)


class Attention(nnx.Module):
    """Attention of token sequences to a context (cross-attention) or to themselves, without bias in q, k and v."""

    def __init__(
        self,
        channels: int,
        num_heads: int,
        *,
        context_channels: int | None = None,
        out_init: nnx.Initializer = nnx.nn.linear.default_kernel_init,
        bypass: Bypass | None = None,
        rngs: nnx.Rngs,
    ):
        context_channels = context_channels or channels
        self.num_heads = num_heads
        self.to_q = nnx.Linear(channels, channels, use_bias=False, rngs=rngs)
        self.to_k = nnx.Linear(context_channels, channels, use_bias=False, rngs=rngs)
        self.to_v = nnx.Linear(context_channels, channels, use_bias=False, rngs=rngs)
        self.to_out = nnx.Linear(channels, channels, kernel_init=out_init, rngs=rngs)
        self.bypass = bypass

    def __call__(
        self, x: Float[Array, "B Q C"], context: Float[Array, "B K E"], attend: Attend = dot_product_attention
    ) -> Float[Array, "B Q C"]:
        q, k, v = (
            rearrange(y, "b t (n d) -> b t n d", n=self.num_heads)
            for y in (self.to_q(x), self.to_k(context), self.to_v(context))
        )
        width = v.shape[-1]
        if self.bypass is not None:
            q, k, v = self.bypass.widen(q, k, v, x, context)
        return self.to_out(rearrange(attend(q, k, v)[..., :width], "b t n d -> b t (n d)"))


class FrameSelfAttention(Attention):
    """Self-attention over a clip's frames, each frame's tokens being the queries. Keys and values come from

    - ``frame``: the frame itself, as in the image model;
    - ``sparse_causal``: the first frame and the previous one (Tune-A-Video, eq. 5);
    - ``extended``: all frames, at a cost quadratic in their number.
    """

    def __init__(
        self,
        channels: int,
        num_heads: int,
        *,
        scope: FrameAttention = "frame",
        bypass: Bypass | None = None,
        rngs: nnx.Rngs,
    ):
        super().__init__(channels, num_heads, bypass=bypass, rngs=rngs)
        self.scope = scope

    def __call__(  # type: ignore[override]
        self, x: Float[Array, "B F S C"], attend: Attend = dot_product_attention
    ) -> Float[Array, "B F S C"]:
        batch, frames = x.shape[:2]
        if self.scope == "extended":
            tokens, context = (rearrange(y, "b f s c -> b (f s) c") for y in (x, all_frames(x)))
            return rearrange(super().__call__(tokens, context, attend), "b (f s) c -> b f s c", f=frames)
        context = x
        if self.scope == "sparse_causal":
            first = jnp.broadcast_to(first_frame(x), x.shape)
            context = jnp.concatenate([first, previous_frame(x)], axis=2)
        fold = "b f s c -> (b f) s c"
        return rearrange(
            super().__call__(rearrange(x, fold), rearrange(context, fold), attend), "(b f) s c -> b f s c", b=batch
        )


class FeedForward(nnx.Module):
    """GEGLU: ``W_2 (value * gelu(gate))`` with ``value | gate = W_1 x`` and the exact (erf) GELU."""

    def __init__(self, channels: int, *, rngs: nnx.Rngs):
        self.proj_in = nnx.Linear(channels, 8 * channels, rngs=rngs)
        self.proj_out = nnx.Linear(4 * channels, channels, rngs=rngs)

    def __call__(self, x: Float[Array, "*batch C"]) -> Float[Array, "*batch C"]:
        value, gate = jnp.split(self.proj_in(x), 2, axis=-1)
        return self.proj_out(value * jax.nn.gelu(gate, approximate=False))
