"""Stable Diffusion's U-Net over the frames of a clip; with no mixers it is the image U-Net, frame by frame."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx

from pallas_kernels.bi_wkv import State
from vrwkv_jax.models.control import Control
from vrwkv_jax.models.deep_cache import DeepCache
from vrwkv_jax.models.layers import GroupNorm, GroupNormScope, conv, guidance_embedding, timestep_embedding
from vrwkv_jax.models.mixers.base import PooledNorms
from vrwkv_jax.models.mixers.factory import MixerFactory
from vrwkv_jax.models.mixers.shared import SharedMixer
from vrwkv_jax.models.resnet import Downsample, ResnetBlock, Upsample
from vrwkv_jax.models.transformer import Transformer
from vrwkv_jax.models.unet_config import UNetConfig
from vrwkv_jax.models.video_config import VideoConfig
from vrwkv_jax.typing import Array, Float, Int

IMAGE = VideoConfig(mixer="none")


class UNet(nnx.Module):
    """The noise predictor of SD 1.x and 2.x (``UNet2DConditionModel``), inflated to video.

    Convolutions, norms and attention see one frame at a time (unless ``video`` says otherwise); only mixers carry
    information between frames, and they start as the identity, all but those that say otherwise. Before tuning, the
    output for every frame of a clip is therefore exactly that of the image model.

    Distilled U-Nets without a mid block (``mid_block_type`` None) have no mixer in the middle either, wherever
    ``video`` places them; those on the skip connections and in the transformers are as in any other.

    ``bi_wkv`` names the implementation of the mixers' operation (None: what suits the device). It is no part of what
    the model is: parameters made with one serve all.
    """

    def __init__(self, config: UNetConfig, video: VideoConfig = IMAGE, *, bi_wkv: str | None = None, rngs: nnx.Rngs):
        channels, heads, depth = config.block_out_channels, config.num_heads, config.transformer_layers_per_block
        levels, layers = len(channels), config.layers_per_block
        chosen, in_resnets, in_transformers = video.chosen, *norm_scopes(video.chosen.groupnorm_scope)
        has_middle = config.mid_block_type is not None
        attentions = [t.startswith("CrossAttn") for t in (*config.down_block_types, *config.up_block_types)]
        mixers = MixerFactory(
            video,
            skip=levels * (layers + 1),
            mid=int(has_middle),
            transformer=depth
            * (has_middle + layers * sum(attentions[:levels]) + (layers + 1) * sum(attentions[levels:])),
            bi_wkv=bi_wkv,
            rngs=rngs,
        )

        def resnet(in_channels: int, out_channels: int) -> ResnetBlock:
            return ResnetBlock(
                in_channels,
                out_channels,
                groups=config.norm_num_groups,
                eps=config.norm_eps,
                time_channels=config.time_channels,
                groupnorm_scope=in_resnets,
                rngs=rngs,
            )

        def transformer(level: int) -> Transformer:
            return Transformer(
                channels[level],
                heads[level],
                config.cross_attention_dim,
                depth=depth,
                groups=config.norm_num_groups,
                groupnorm_scope=in_transformers,
                attention=chosen.attention,
                make_bypass=partial(mixers.bypass, channels[level], heads[level]),
                make_mixer=partial(mixers.make, "transformer", channels[level], heads[level]),
                rngs=rngs,
            )

        self.flip_sin_to_cos, self.freq_shift = config.flip_sin_to_cos, config.freq_shift
        self.time_embedding = TimeEmbedding(channels[0], config.time_channels, config.time_cond_proj_dim, rngs=rngs)
        self.conv_in = conv(config.in_channels, channels[0], rngs=rngs)

        skip_levels = [0]
        down_blocks = []
        for level in range(levels):
            before = channels[max(level - 1, 0)]
            last = level == levels - 1
            down_blocks.append(
                DownBlock(
                    [resnet(before if i == 0 else channels[level], channels[level]) for i in range(layers)],
                    [transformer(level) for _ in range(layers)] if attentions[level] else None,
                    None if last else Downsample(channels[level], padding="symmetric", rngs=rngs),
                )
            )
            skip_levels += [level] * (layers if last else layers + 1)
        self.down_blocks = nnx.List(down_blocks)

        def middle() -> MidBlock:
            resnets = [resnet(channels[-1], channels[-1]) for _ in range(2)]
            return MidBlock(resnets, transformer(-1), mixers.make("mid", channels[-1], heads[-1]))

        self.mid_block = middle() if has_middle else None

        up_blocks = []
        hidden = channels[-1]
        for i, level in enumerate(reversed(range(levels))):
            resnets, skips = [], []
            for _ in range(layers + 1):
                skip, skip_heads = channels[skip_levels[-1]], heads[skip_levels.pop()]
                mixer = mixers.make("skip", skip, skip_heads)
                skips.append(Skip(hidden, skip, mixer, gate=video.skip_gate, rngs=rngs))
                resnets.append(resnet(hidden + skip, channels[level]))
                hidden = channels[level]
            up_blocks.append(
                UpBlock(
                    skips,
                    resnets,
                    [transformer(level) for _ in range(layers + 1)] if attentions[levels + i] else None,
                    None if level == 0 else Upsample(channels[level], rngs=rngs),
                )
            )
        self.up_blocks = nnx.List(up_blocks)

        self.conv_norm_out = GroupNorm(channels[0], config.norm_num_groups, config.norm_eps, scope=in_resnets)
        self.conv_out = conv(channels[0], config.out_channels, rngs=rngs)

    def __call__(
        self,
        latents: Float[Array, "B F H W C"],
        timesteps: Int[Array, " B"],
        encoder_hidden_states: Float[Array, "B L E"],
        *,
        guidance: Float[Array, " B"] | None = None,
        remat: bool = False,
        control: Control | None = None,
        cache: DeepCache | None = None,
    ) -> Float[Array, "B F H W C_out"]:
        """The prediction (noise, or v) for noised ``latents``; its dtype is theirs.

        ``guidance`` is the guidance scale that a U-Net with ``time_cond_proj_dim`` (a latent consistency model's)
        imitates; None tells it nothing, and it is like any other.
        ``remat`` forgets the inside of every block and computes it again for the gradient: less memory, more time.
        ``control`` lets the clips of the batch take over from the first, without ``remat``.
        ``cache`` keeps what the deep blocks give, or has it from an earlier call, and then they don't run.

        Raises:
            ValueError: ``guidance`` for a U-Net that takes none.
        """
        call = _remat if remat else _call
        reuses = cache is not None and cache.is_filled
        hidden, skips, time = self._down(latents, timesteps, encoder_hidden_states, guidance, call, control, cache)
        if self.mid_block is not None and not reuses:
            hidden = self.mid_block(hidden, time, encoder_hidden_states, call, at(control, "mid_block"))
        for i, up_block in enumerate(self.up_blocks):
            within = at(control, f"up_blocks/{i}")
            hidden = up_block(hidden, time, encoder_hidden_states, skips, call, within, self._wanted(i), cache)
            if control is not None:
                control.up_block(i, hidden)
        return self.conv_out(jax.nn.silu(self.conv_norm_out(hidden)))

    def states_before(
        self,
        latents: Float[Array, "B F H W C"],
        timesteps: Int[Array, " B"],
        encoder_hidden_states: Float[Array, "B L E"],
        control: Control,
    ) -> dict[str, State]:
        """Of each mixer, by its place: the backward state before a chunk of a clip, of the chunk and all behind it.

        For mixers on skip connections and in the mid block, whose features no mixer has touched. ``control`` has the
        chunk, and the states behind it. The first of the ``latents``' frames is the one before the chunk.
        """
        hidden, skips, time = self._down(latents, timesteps, encoder_hidden_states, None, _call, control)
        states = {}
        if self.mid_block is not None and self.mid_block.mixer is not None:
            within = control.at("mid_block")
            hidden = self.mid_block.features(hidden, time, encoder_hidden_states, _call, within)
            within = within.at("mixer")
            states[within.place] = state_before(self.mid_block.mixer, hidden, within)
        for i, up_block in enumerate(self.up_blocks):
            for j, skip in enumerate(up_block.skips):
                features, within = skips.pop(), control.at(f"up_blocks/{i}/skips/{j}")
                if skip.mixer is not None:
                    states[within.place] = state_before(skip.mixer, features, within)
        return states

    def _down(
        self,
        latents: Float[Array, "B F H W C"],
        timesteps: Int[Array, " B"],
        encoder_hidden_states: Float[Array, "B L E"],
        guidance: Float[Array, " B"] | None,
        call: "Call",
        control: Control | None,
        cache: DeepCache | None = None,
    ) -> tuple[Float[Array, "B F h w D"], list[Array], Float[Array, "B T"]]:
        """Features of the lowest resolution, those for the skip connections, and the embedding of the timestep."""
        embedding = timestep_embedding(
            timesteps,
            self.conv_in.out_features,
            flip_sin_to_cos=self.flip_sin_to_cos,
            freq_shift=self.freq_shift,
        )
        time = self.time_embedding(embedding.astype(latents.dtype), guidance)
        hidden = self.conv_in(latents)
        skips = [hidden]
        for i, down_block in enumerate(self.down_blocks):
            most = cache.depth - len(skips) if cache is not None and cache.is_filled else None
            hidden, outputs = down_block(
                hidden, time, encoder_hidden_states, call, at(control, f"down_blocks/{i}"), most
            )
            skips += outputs
        return hidden, skips, time

    def _wanted(self, up_block: int) -> int:
        """How many skip connections it and those after it take in."""
        return sum(len(block.resnets) for block in list(self.up_blocks)[up_block:])


class TimeEmbedding(nnx.Module):
    """Two linear layers with a SiLU between them, over the sinusoids of the timestep.

    With ``guidance_channels``, those of the guidance scale are projected and added to them first.
    """

    def __init__(self, in_channels: int, channels: int, guidance_channels: int | None = None, *, rngs: nnx.Rngs):
        self.cond_proj = (
            None if guidance_channels is None else nnx.Linear(guidance_channels, in_channels, use_bias=False, rngs=rngs)
        )
        self.linear_1 = nnx.Linear(in_channels, channels, rngs=rngs)
        self.linear_2 = nnx.Linear(channels, channels, rngs=rngs)

    def __call__(self, x: Float[Array, "B C_in"], guidance: Float[Array, " B"] | None = None) -> Float[Array, "B C"]:
        if guidance is not None:
            if self.cond_proj is None:
                raise ValueError("TimeEmbedding: this U-Net takes no guidance scale (its time_cond_proj_dim is None)")
            x = x + self.cond_proj(guidance_embedding(guidance, self.cond_proj.in_features).astype(x.dtype))
        return self.linear_2(jax.nn.silu(self.linear_1(x)))


class DownBlock(nnx.Module):
    """Residual blocks, each with a transformer where the level has them, then half the resolution."""

    def __init__(
        self, resnets: list[ResnetBlock], attentions: list[Transformer] | None, downsampler: Downsample | None
    ):
        self.resnets = nnx.List(resnets)
        self.attentions = None if attentions is None else nnx.List(attentions)
        self.downsampler = downsampler

    def __call__(
        self,
        hidden: Array,
        time: Array,
        context: Array,
        call: "Call",
        control: Control | None,
        most: int | None = None,
    ) -> tuple[Array, list[Array]]:
        """Ends after as many outputs as are wanted at ``most``."""
        outputs: list[Array] = []
        for i, resnet in enumerate(self.resnets):
            if len(outputs) == most:
                return hidden, outputs
            hidden = call(resnet, hidden, time, at(control, f"resnets/{i}"))
            if self.attentions is not None:
                hidden = call(self.attentions[i], hidden, context, at(control, f"attentions/{i}"))
            outputs.append(hidden)
        if self.downsampler is not None and len(outputs) != most:
            hidden = self.downsampler(hidden)
            outputs.append(hidden)
        return hidden, outputs


class MidBlock(nnx.Module):
    """Residual block, transformer, residual block, and the mixer of the lowest resolution."""

    def __init__(self, resnets: list[ResnetBlock], attention: Transformer, mixer: nnx.Module | None):
        self.resnets = nnx.List(resnets)
        self.attentions = nnx.List([attention])
        self.mixer = mixer

    def __call__(self, hidden: Array, time: Array, context: Array, call: "Call", control: Control | None) -> Array:
        hidden = self.features(hidden, time, context, call, control)
        return hidden if self.mixer is None else call(self.mixer, hidden, at(control, "mixer"))

    def features(self, hidden: Array, time: Array, context: Array, call: "Call", control: Control | None) -> Array:
        """What the mixer mixes."""
        hidden = call(self.resnets[0], hidden, time, at(control, "resnets/0"))
        hidden = call(self.attentions[0], hidden, context, at(control, "attentions/0"))
        return call(self.resnets[1], hidden, time, at(control, "resnets/1"))


class Skip(nnx.Module):
    """Joins the decoder's features with those of a skip connection, mixed over the clip first.

    With ``gate``, the decoder decides per token and channel how much of the mixing to take:
    ``s + sigmoid(W h) * (mixer(s) - s)``.
    """

    def __init__(self, channels: int, skip_channels: int, mixer: nnx.Module | None, *, gate: bool, rngs: nnx.Rngs):
        self.mixer = mixer
        self.gate = nnx.Linear(channels, skip_channels, rngs=rngs) if gate and mixer is not None else None

    def __call__(
        self, hidden: Float[Array, "B F H W C"], skip: Float[Array, "B F H W S"], control: Control | None
    ) -> Array:
        if self.mixer is not None:
            mixed = self.mixer(skip, control)
            skip = mixed if self.gate is None else skip + jax.nn.sigmoid(self.gate(hidden)) * (mixed - skip)
        return jnp.concatenate([hidden, skip], axis=-1)


class UpBlock(nnx.Module):
    """One skip connection per residual block; transformers where the level has them; then twice the resolution."""

    def __init__(
        self,
        skips: list[Skip],
        resnets: list[ResnetBlock],
        attentions: list[Transformer] | None,
        upsampler: Upsample | None,
    ):
        self.skips = nnx.List(skips)
        self.resnets = nnx.List(resnets)
        self.attentions = None if attentions is None else nnx.List(attentions)
        self.upsampler = upsampler

    def __call__(
        self,
        hidden: Array,
        time: Array,
        context: Array,
        skips: list[Array],
        call: "Call",
        control: Control | None,
        wanted: int,
        cache: DeepCache | None,
    ) -> Array:
        """Takes its skip connections from the end of ``skips``; of ``wanted``, those left out are deep."""
        missing = wanted - len(skips)
        for i, resnet in enumerate(self.resnets):
            if i < missing:
                continue
            if cache is not None and len(skips) == cache.depth:
                hidden = cache.border(hidden, control)
            hidden = call(self.skips[i], hidden, skips.pop(), at(control, f"skips/{i}"))
            hidden = call(resnet, hidden, time, at(control, f"resnets/{i}"))
            if self.attentions is not None:
                hidden = call(self.attentions[i], hidden, context, at(control, f"attentions/{i}"))
        if self.upsampler is not None and missing < len(self.resnets):
            height, width = skips[-1].shape[-3:-1]  # odd sizes were rounded up on the way down
            hidden = self.upsampler(hidden, (height, width))
        return hidden


Call = Callable[..., Array]


def norm_scopes(scope: PooledNorms) -> tuple[GroupNormScope, GroupNormScope]:
    """Those of the residual blocks (and of the last norm, which is theirs) and of the transformers."""
    return ("video", "frame") if scope == "resnets" else (scope, scope)


def at(control: Control | None, place: str) -> Control | None:
    """The control at a place within that where it is."""
    return None if control is None else control.at(place)


def state_before(mixer: nnx.Module, features: Array, control: Control) -> State:
    """That of a mixer that works on chunks of clips."""
    assert isinstance(mixer, SharedMixer)
    return mixer.state_before(features, control)


def _call(module: Callable[..., Array], *args: Array | Control | None) -> Array:
    return module(*args)


def _remat(module: nnx.Module, *args: Array | None) -> Array:
    graphdef, state = nnx.split(module)
    hidden: Array = jax.checkpoint(lambda state, *args: nnx.merge(graphdef, state)(*args))(state, *args)
    return hidden
