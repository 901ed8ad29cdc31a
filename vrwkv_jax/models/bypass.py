"""Bypass attention (FluencyVE, arXiv 2512.21015): scores of low rank beside the frozen ones of self-attention.

A reading of the paper; no code is published. For a head, with the frozen q and k and tokens x and y:

    S = a q k^T + (1 - a) q' k'^T,   q' = A_q B_q x,   k' = A_k B_k y,   softmax(S / sqrt(D)) v

``a`` goes from 1, where this is attention as it was, to ``frozen_share`` while the model is tuned. Only A and B learn.
"""

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import nnx

from vrwkv_jax.typing import Array, Float

UNIT = 8  # cuDNN's kernels take heads of multiples of that


class Bypass(nnx.Module):
    """Widens q and k of one attention so that their product is ``S``.

    ``progress`` is how far the tuning has come, from 0 to 1: a parameter, so that checkpoints, runs and edits have it,
    which the optimizer moves by a schedule and not by its gradient.
    """

    def __init__(self, channels: int, num_heads: int, *, rank: int, frozen_share: float, rngs: nnx.Rngs):
        self.num_heads, self.frozen_share = num_heads, frozen_share
        self.q_in, self.k_in = (nnx.Linear(channels, rank, use_bias=False, rngs=rngs) for _ in range(2))
        self.q_out, self.k_out = (nnx.Linear(rank, channels, use_bias=False, rngs=rngs) for _ in range(2))
        self.progress = nnx.Param(jnp.zeros(()))

    def widen(
        self,
        q: Float[Array, "B Q N D"],
        k: Float[Array, "B K N D"],
        v: Float[Array, "B K N D"],
        x: Float[Array, "B Q C"],
        context: Float[Array, "B K C"],
    ) -> tuple[Float[Array, "B Q N E"], Float[Array, "B K N E"], Float[Array, "B K N E"]]:
        """Of E channels per head: D, then the rank r, then zeros up to a multiple of ``UNIT``; ``v`` has zeros there.

        A head's q' k'^T is (B_q x) M (B_k y)^T with M = A_q^T A_k of r x r, so that r channels say what D would. Who
        divides scores by sqrt(E) divides ``S`` by sqrt(D).
        """
        width, rank = q.shape[-1], self.q_in.out_features
        wide = width + rank + -(width + rank) % UNIT
        share = 1 - (1 - self.frozen_share) * jnp.clip(jax.lax.stop_gradient(self.progress[...]), 0, 1)
        between = jnp.einsum(
            "rnd,snd->nrs",
            *(rearrange(y.kernel[...], "r (n d) -> r n d", n=self.num_heads) for y in (self.q_out, self.k_out)),
        )
        low_q = jnp.einsum("bqr,nrs->bqns", self.q_in(x), between.astype(x.dtype))
        low_k = jnp.broadcast_to(self.k_in(context)[:, :, None], (*k.shape[:3], rank))

        def scaled(y: Array, factor: Array) -> Array:  # in float32: a factor near 1 is far off in bfloat16
            return jnp.asarray(y.astype(jnp.float32) * factor * (wide / width) ** 0.5, y.dtype)

        def filled(y: Array) -> Array:
            return jnp.pad(y, ((0, 0), (0, 0), (0, 0), (0, wide - y.shape[-1])))

        q = jnp.concatenate([scaled(q, share), scaled(low_q, 1 - share)], axis=-1)
        return filled(q), filled(jnp.concatenate([k, low_k], axis=-1)), filled(v)
