"""Tune-A-Video's mixer (arXiv 2212.11565): attention of each place to itself in all frames, quadratic in the frames.

On ``x`` of shape ``B F H W C``, for every place by itself, with the heads and the width of self-attention beside it:

    x + W_o softmax(Q K^T / sqrt(D)) V + b_o,   Q, K, V = W_q LN(x), W_k LN(x), W_v LN(x) over the frames

W_o and b_o start at zero, so that a new mixer is the identity. In the transformer blocks it comes last, after the
feed-forward, as in the authors' code; there, group normalisation pools over the clip in residual blocks, whose norms
see five axes, and in transformers it does not, since these fold the frames into the batch first.
"""

from dataclasses import dataclass
from typing import ClassVar

from einops import rearrange
from flax import nnx

from vrwkv_jax.models.attention import Attention, dot_product_attention
from vrwkv_jax.models.control import Control
from vrwkv_jax.models.layers import layer_norm
from vrwkv_jax.models.mixers.base import TO_Q, Usual
from vrwkv_jax.models.mixers.shared import SharedMixer
from vrwkv_jax.parallel.frames import all_frames
from vrwkv_jax.typing import Array, Float


@dataclass(frozen=True)
class TuneAVideoConfig:
    """The mixer tune_a_video: attention over the frames at each place. It has no settings of its own."""


class TuneAVideo(SharedMixer):
    """The whole module. It has no use for ``layer``, ``num_layers`` and ``bi_wkv``."""

    Config: ClassVar[type] = TuneAVideoConfig
    usual: ClassVar[Usual] = Usual(placement=("transformer",), attention="sparse_causal", groupnorm_scope="resnets")
    trained: ClassVar[str] = TO_Q
    is_identity: ClassVar[bool] = True
    has_bi_wkv: ClassVar[bool] = False
    gains: ClassVar[str] = r"norm/(scale|bias)"
    ends: ClassVar[str] = r"attention/to_out/(kernel|bias)"
    float32: ClassVar[str] = ""
    cut: ClassVar[dict[str, int]] = {r"attention/to_[qkv]/kernel": -1, r"attention/to_out/kernel": 0}

    def __init__(
        self,
        channels: int,
        config: TuneAVideoConfig,
        *,
        heads: int,
        layer: int,
        num_layers: int,
        bi_wkv: str | None = None,
        rngs: nnx.Rngs,
    ):
        self.norm = layer_norm(channels, rngs=rngs)
        self.attention = Attention(channels, heads, out_init=nnx.initializers.zeros, rngs=rngs)

    def mix(self, x: Float[Array, "B F H W C"], control: Control | None) -> Float[Array, "B F H W C"]:
        batch, _, height, _, _ = x.shape

        def attend(q: Array, k: Array, v: Array) -> Array:
            if control is not None:
                q, k = control.mixer(q, k)
            return dot_product_attention(q, k, v)

        normed = self.norm(x)
        frames, context = (rearrange(y, "b f h w c -> (b h w) f c") for y in (normed, all_frames(normed)))
        return x + rearrange(self.attention(frames, context, attend), "(b h w) f c -> b f h w c", b=batch, h=height)
