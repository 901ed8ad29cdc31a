"""The transformer that follows a residual block in Stable Diffusion's U-Net, over the frames of a clip."""

from collections.abc import Callable
from functools import partial

from einops import rearrange
from flax import nnx

from vrwkv_jax.models.attention import Attention, FeedForward, FrameAttention, FrameSelfAttention, dot_product_attention
from vrwkv_jax.models.bypass import Bypass
from vrwkv_jax.models.control import Control
from vrwkv_jax.models.layers import GroupNorm, GroupNormScope, layer_norm
from vrwkv_jax.typing import Array, Float


class TransformerBlock(nnx.Module):
    """Self-attention, attention to the text, feed-forward; then, where placed, a video mixer."""

    def __init__(
        self,
        channels: int,
        num_heads: int,
        context_channels: int,
        *,
        attention: FrameAttention,
        bypass: Bypass | None = None,
        mixer: nnx.Module | None,
        rngs: nnx.Rngs,
    ):
        self.norm1 = layer_norm(channels, rngs=rngs)
        self.attn1 = FrameSelfAttention(channels, num_heads, scope=attention, bypass=bypass, rngs=rngs)
        self.norm2 = layer_norm(channels, rngs=rngs)
        self.attn2 = Attention(channels, num_heads, context_channels=context_channels, rngs=rngs)
        self.norm3 = layer_norm(channels, rngs=rngs)
        self.ff = FeedForward(channels, rngs=rngs)
        self.mixer = mixer

    def __call__(
        self, x: Float[Array, "B F H W C"], context: Float[Array, "B L E"], control: Control | None = None
    ) -> Float[Array, "B F H W C"]:
        attend_to_frame = dot_product_attention if control is None else control.self_attention
        frames, height, width = x.shape[1:4]
        attend_to_text = dot_product_attention
        if control is not None:
            attend_to_text = partial(control.cross_attention, shape=(frames, height, width))
        tokens = rearrange(x, "b f h w c -> b f (h w) c")
        tokens = tokens + self.attn1(self.norm1(tokens), attend_to_frame)
        # Every token attends to the text by itself, so the frames of a clip are one sequence of queries.
        queries = rearrange(self.norm2(tokens), "b f s c -> b (f s) c")
        tokens = tokens + rearrange(self.attn2(queries, context, attend_to_text), "b (f s) c -> b f s c", f=frames)
        tokens = tokens + self.ff(self.norm3(tokens))
        x = rearrange(tokens, "b f (h w) c -> b f h w c", h=height, w=width)
        return x if self.mixer is None else self.mixer(x, control)


class Transformer(nnx.Module):
    """Normalise, project in, run the blocks, project out, add to the input (``Transformer2DModel``).

    The projections are linear; a checkpoint's 1x1 convolutions are the same thing and load into them.
    """

    def __init__(
        self,
        channels: int,
        num_heads: int,
        context_channels: int,
        *,
        depth: int,
        groups: int,
        groupnorm_scope: GroupNormScope,
        attention: FrameAttention,
        make_bypass: Callable[[], Bypass | None],
        make_mixer: Callable[[], nnx.Module | None],
        rngs: nnx.Rngs,
    ):
        self.norm = GroupNorm(channels, groups, 1e-6, scope=groupnorm_scope)
        self.proj_in = nnx.Linear(channels, channels, rngs=rngs)
        self.transformer_blocks = nnx.List(
            TransformerBlock(
                channels,
                num_heads,
                context_channels,
                attention=attention,
                bypass=make_bypass(),
                mixer=make_mixer(),
                rngs=rngs,
            )
            for _ in range(depth)
        )
        self.proj_out = nnx.Linear(channels, channels, rngs=rngs)

    def __call__(
        self, x: Float[Array, "B F H W C"], context: Float[Array, "B L E"], control: Control | None = None
    ) -> Float[Array, "B F H W C"]:
        hidden = self.proj_in(self.norm(x))
        for i, block in enumerate(self.transformer_blocks):
            hidden = block(hidden, context, None if control is None else control.at(f"transformer_blocks/{i}"))
        return x + self.proj_out(hidden)
