"""3D-VRWKV: the mixer of VRWKV-Editor (arXiv 2509.25998), linear in the number of tokens.

Two residual halves on ``x`` of shape ``B F H W C``, in the notation of the paper (sigma is the sigmoid):

    spatio-temporal   x + W_o (sigma(R) * BiWKV(K, V)),   R, K, V = projections of mu_* X_f + (1 - mu_*) X_{f-1}
    channel           x + sigma(W_r X) * W_v relu(W_k X)^2,        X = mu_c X_f + (1 - mu_c) X_{f-1}

W_o and W_v start at zero, so that a new mixer is the identity.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import nnx

from pallas_kernels.bi_wkv import State, bi_wkv, bi_wkv_context_parallel, bi_wkv_with_states, free_decay
from vrwkv_jax.models.chunk import MixerChunk
from vrwkv_jax.models.control import Control
from vrwkv_jax.models.layers import conv, layer_norm
from vrwkv_jax.models.mixers.base import TO_Q, Carries, Usual
from vrwkv_jax.models.mixers.shared import SharedMixer
from vrwkv_jax.models.mixers.vrwkv_initial import InitialValues, initial_values
from vrwkv_jax.parallel.frames import FirstFrame, is_spread, parts, previous_frame
from vrwkv_jax.parallel.mesh import FRAME
from vrwkv_jax.system.checks import at_least, check_fields, one_of
from vrwkv_jax.typing import Array, Float

STRONGEST_DECAY = free_decay(16)
"""Per token, where the decay is not divided by the length of the sequence: 2.5, so that chunks have 16 tokens."""


@dataclass(frozen=True)
class VRWKVConfig:
    """The mixer vrwkv: Bi-WKV, linear in the number of tokens."""

    token_order: Literal["factorised", "joint"] = "factorised"
    """Scan each frame and then each location over time (factorised), or all tokens of the clip at once (joint)."""
    projection: Literal["linear", "conv"] = "linear"
    """What projects tokens to R, K and V: a matrix, or a 3x3 convolution of the frame."""
    decay_norm: Literal["length", "none"] | int = "length"
    """Divide distances by the length scanned, by nothing, or by a number: one that holds for clips of any length."""
    init: Literal["fancy", "local", "global"] = "fancy"
    """Vision-RWKV's initial decay, bonus and token shift."""
    first_frame: FirstFrame = "repeat"
    """What precedes the first frame: the first frame again, or zeros (which dim it)."""
    decay_frames: Literal["clip"] | int = "clip"
    """Frames that the length counts: those of the clip, or a number, the same for clips of any length."""
    causal: bool = False
    """Look at nothing behind: along time (factorised), or in the order of all tokens (joint)."""

    def __post_init__(self) -> None:
        check_fields(
            self,
            decay_norm=one_of("length", "none") if isinstance(self.decay_norm, str) else at_least(1),
            decay_frames=one_of("clip") if isinstance(self.decay_frames, str) else at_least(1),
        )


class VRWKVPast(NamedTuple):
    """What goes on to the next chunk: the forward state of the recurrence over frames, and what is looked back at."""

    state: State
    shifted: Float[Array, "B 1 H W C"]
    """Of the last frame: the normalised and shifted features that keys and values are interpolated from."""
    normed: Float[Array, "B 1 H W C"]
    """Of the last frame: the normalised features that the channel half is interpolated from."""


class VRWKV(SharedMixer):
    """The whole module. ``layer`` of ``num_layers`` says how deep it stands; the initial values depend on it.

    ``bi_wkv`` names the implementation of Bi-WKV; None: the one that suits the device. It has no ``heads``.
    """

    Config: ClassVar[type] = VRWKVConfig
    usual: ClassVar[Usual] = Usual(placement=("skip", "mid"))
    trained: ClassVar[str] = TO_Q
    is_identity: ClassVar[bool] = True
    has_bi_wkv: ClassVar[bool] = True
    gains: ClassVar[str] = r"spatio_temporal/(mu_[rkv]|(space|time|joint)/[wu])|channel/mu_c|norm[12]/(scale|bias)"
    ends: ClassVar[str] = r"spatio_temporal/to_out/kernel|channel/to_v/kernel"
    float32: ClassVar[str] = r"spatio_temporal/(space|time|joint)/[wu]"
    """Logarithms of decays, and bonuses: exponents, where bfloat16 is too coarse."""
    cut: ClassVar[dict[str, int]] = {r"\w+/to_[rkv]/kernel": -1, r"\w+/to_out/kernel": 0}
    """What is computed, by channels, and what takes it in."""

    def __init__(
        self,
        channels: int,
        config: VRWKVConfig,
        *,
        heads: int,
        layer: int,
        num_layers: int,
        bi_wkv: str | None = None,
        rngs: nnx.Rngs,
    ):
        initial = initial_values(config.init, channels, layer, num_layers)
        self.norm1 = layer_norm(channels, rngs=rngs)
        self.spatio_temporal = SpatioTemporalMix(channels, config, initial, bi_wkv, rngs=rngs)
        self.norm2 = layer_norm(channels, rngs=rngs)
        self.channel = ChannelMix(channels, initial, rngs=rngs)
        self.first_frame = config.first_frame

    @classmethod
    def carries(cls, config: VRWKVConfig) -> Carries:
        return "both ways"

    def mix(self, x: Float[Array, "B F H W C"], control: Control | None) -> Float[Array, "B F H W C"]:
        x = x + self.spatio_temporal(self.norm1(x), control)
        normed = self.norm2(x)
        return x + self.channel(normed, previous_frame(normed, self.first_frame))

    def mix_chunk(
        self, x: Float[Array, "B F H W C"], control: Control | None, chunk: MixerChunk
    ) -> tuple[Float[Array, "B F H W C"], VRWKVPast]:
        mixed, state, shifted = self.spatio_temporal.mix_chunk(self.norm1(x), control, chunk)
        x = x + mixed
        normed = self.norm2(x)
        before = chunk.previous_frame(normed, chunk.past and chunk.past.normed, self.first_frame)
        return x + self.channel(normed, before), VRWKVPast(state, shifted[:, -1:], normed[:, -1:])

    def chunk_state(self, x: Float[Array, "B F H W C"], control: Control | None, chunk: MixerChunk) -> State:
        return self.spatio_temporal.chunk_state(self.norm1(x), control, chunk)


class SpatioTemporalMix(nnx.Module):
    """Quad-directional shift, temporal interpolation, projections, Bi-WKV over the clip's tokens, sigmoid gate."""

    def __init__(
        self, channels: int, config: VRWKVConfig, initial: InitialValues, bi_wkv: str | None, *, rngs: nnx.Rngs
    ):
        self.first_frame, self.token_order = config.first_frame, config.token_order
        self.mu_r = nnx.Param(jnp.asarray(initial.mu_r))
        self.mu_k = nnx.Param(jnp.asarray(initial.mu_k))
        self.mu_v = nnx.Param(jnp.asarray(initial.mu_v))

        def projection() -> nnx.Linear | nnx.Conv:
            if config.projection == "linear":
                return nnx.Linear(channels, channels, use_bias=False, rngs=rngs)
            return conv(channels, channels, use_bias=False, rngs=rngs)

        self.to_r, self.to_k, self.to_v = projection(), projection(), projection()
        if config.token_order == "factorised":
            self.space, self.time = (Recurrence(config, initial, bi_wkv) for _ in range(2))
        else:
            self.joint = Recurrence(config, initial, bi_wkv)
        self.to_out = nnx.Linear(channels, channels, use_bias=False, kernel_init=nnx.initializers.zeros, rngs=rngs)

    def __call__(self, x: Float[Array, "B F H W C"], control: Control | None = None) -> Float[Array, "B F H W C"]:
        x = quad_directional_shift(x)
        r, k, v = self.project(x, previous_frame(x, self.first_frame), control)
        return self.to_out(self.recur(k, v, r, Recurrence.__call__))

    def mix_chunk(
        self, x: Float[Array, "B F H W C"], control: Control | None, chunk: MixerChunk
    ) -> tuple[Float[Array, "B F H W C"], State, Float[Array, "B F H W C"]]:
        """Of a chunk of a clip; with the state of its recurrence for the next one, and the shifted frames."""
        x = quad_directional_shift(x)
        before = chunk.previous_frame(x, chunk.past and chunk.past.shifted, self.first_frame)
        r, k, v = self.project(x, before, control)
        between = Between(chunk.past and chunk.past.state, chunk.future)
        y = self.recur(k, v, r, between, chunk)
        return self.to_out(y), between.forward, x

    def chunk_state(self, x: Float[Array, "B F H W C"], control: Control | None, chunk: MixerChunk) -> State:
        """The backward state before the second frame of ``x``, where the chunk begins."""
        x = quad_directional_shift(x)
        r, k, v = self.project(x[:, 1:], x[:, :-1], control)
        between = Between(None, chunk.future)
        self.recur(k, v, r, between, chunk)
        return between.backward

    def project(
        self, x: Float[Array, "B F H W C"], before: Float[Array, "B F H W C"], control: Control | None
    ) -> tuple[Float[Array, "B F H W C"], Float[Array, "B F H W C"], Float[Array, "B F H W C"]]:
        """R, K and V, of frames and of those before each."""
        r = self.to_r(interpolate(self.mu_r[...], x, before))
        k = self.to_k(interpolate(self.mu_k[...], x, before))
        v = self.to_v(interpolate(self.mu_v[...], x, before))
        if control is not None:
            r, k = control.mixer(r, k)
        return r, k, v

    def recur(
        self,
        k: Float[Array, "B F H W C"],
        v: Float[Array, "B F H W C"],
        r: Float[Array, "B F H W C"],
        over_frames: "OverFrames",
        chunk: MixerChunk | None = None,
    ) -> Float[Array, "B F H W C"]:
        """sigmoid(r) times Bi-WKV over all tokens: frame by frame and then along time at each place, or over one joint
        sequence, which applies the gate itself; along time r would have to be transposed for that.

        ``over_frames`` runs the recurrence that goes over frames, those of a ``chunk`` that are the clip's."""
        b, f, h = k.shape[:3]
        counted = k if chunk is None else chunk.only_counted(k)
        if self.token_order == "joint":
            tokens = (rearrange(x, "b f h w c -> b (f h w) c") for x in (counted, v, r))
            return rearrange(over_frames(self.joint, *tokens, frames=f), "b (f h w) c -> b f h w c", f=f, h=h)
        y = self.space(*(rearrange(x, "b f h w c -> (b f) (h w) c") for x in (k, v)))
        y = rearrange(y, "(b f) (h w) c -> (b h w) f c", b=b, h=h)
        y = over_frames(self.time, rearrange(counted, "b f h w c -> (b h w) f c"), y, frames=f)
        return jax.nn.sigmoid(r) * rearrange(y, "(b h w) f c -> b f h w c", b=b, h=h)


class Recurrence(nnx.Module):
    """Bi-WKV along one sequence of tokens, with a learned decay exp(w) > 0 and bonus u per channel.

    The papers divide both by the length of the sequence (``decay_norm="length"``). A reference length, or 1 for
    ``"none"``, keeps the decay per token the same at every length; so does a length of as many frames as
    ``decay_frames`` says.

    A decay beyond ``STRONGEST_DECAY``, or e^3.7 over a whole short sequence, is taken for that: next to nothing is seen
    beyond the neighbours already. Its gradient is that of the decay itself.

    ``implementation`` is that of ``bi_wkv``.
    """

    def __init__(self, config: VRWKVConfig, initial: InitialValues, implementation: str | None = None):
        self.decay_norm, self.decay_frames = config.decay_norm, config.decay_frames
        self.causal, self.implementation = config.causal, implementation
        self.w, self.u = nnx.Param(jnp.asarray(initial.w)), nnx.Param(jnp.asarray(initial.u))

    def __call__(
        self,
        k: Float[Array, "B T C"],
        v: Float[Array, "B T C"],
        receptance: Float[Array, "B T C"] | None = None,
        *,
        frames: int | None = None,
    ) -> Float[Array, "B T C"]:
        """``frames``: how many frames the sequence goes over here; it goes on in those that other devices hold, if any
        do, and may be causal. None: it stays within one frame."""
        decay, bonus, strongest = self.exponents(k.shape[1], frames)
        over_devices = frames is not None and is_spread()
        whole: Callable[..., Array] = partial(bi_wkv_context_parallel, axis_name=FRAME) if over_devices else bi_wkv
        run = partial(whole, receptance=receptance, causal=self.causal and frames is not None)
        return run(k, v, decay, bonus, max_decay=strongest, implementation=self.implementation)

    def between(
        self,
        k: Float[Array, "B T C"],
        v: Float[Array, "B T C"],
        receptance: Float[Array, "B T C"] | None = None,
        *,
        frames: int,
        forward: State | None,
        backward: State | None,
    ) -> tuple[Float[Array, "B T C"], State, State]:
        """Over a chunk of a clip, of so many ``frames``, between the states of what lies before it and behind it; with
        the forward state behind the chunk and the backward state before it.

        Raises:
            ValueError: the decay depends on the number of frames of the clip.
        """
        if self.decay_norm == "length" and self.decay_frames == "clip":
            raise ValueError("in chunks of a clip the decay can't depend on its length: decay_frames must be a number")
        decay, bonus, strongest = self.exponents(k.shape[1], frames)
        run = partial(bi_wkv_with_states, receptance=receptance, causal=self.causal)
        ends = partial(run, forward=forward, backward=None if self.causal else backward)
        return ends(k, v, decay, bonus, max_decay=strongest, implementation=self.implementation)

    def exponents(self, tokens: int, frames: int | None) -> tuple[Float[Array, " C"], Float[Array, " C"], float]:
        """Decay and bonus per token of a sequence of so many, and the bound of the decay."""
        length, strongest = 1 if self.decay_norm == "none" else self.decay_norm, STRONGEST_DECAY
        if length == "length":
            if frames is not None:
                counted = frames * parts() if self.decay_frames == "clip" else self.decay_frames
                tokens = tokens // frames * counted
            length, strongest = tokens, free_decay(tokens)
        decay, bonus = jnp.exp(self.w[...]) / length, self.u[...] / length
        return decay + jax.lax.stop_gradient(jnp.minimum(decay, strongest) - decay), bonus, strongest


OverFrames = Callable[..., Array]
"""Runs a ``Recurrence``: (recurrence, k, v, receptance, frames=...) to its result."""


def set_recurrences(module: nnx.Module, **attributes: Any) -> None:
    """Sets ``attributes`` of every ``Recurrence`` in ``module``, such as its ``implementation``."""
    for _, part in nnx.iter_graph(module):
        if isinstance(part, Recurrence):
            for name, value in attributes.items():
                setattr(part, name, value)


class Between:
    """Runs a recurrence between the states that enter a chunk, and then has those that leave it."""

    def __init__(self, forward: State | None, backward: State | None):
        self._entering = (forward, backward)

    def __call__(self, recurrence: Recurrence, *tokens: Float[Array, "B T C"], frames: int) -> Float[Array, "B T C"]:
        forward, backward = self._entering
        y, self.forward, self.backward = recurrence.between(*tokens, frames=frames, forward=forward, backward=backward)
        return y


class ChannelMix(nnx.Module):
    """A feed-forward with squared ReLU, four times as wide inside, behind a sigmoid gate."""

    def __init__(self, channels: int, initial: InitialValues, *, rngs: nnx.Rngs):
        self.mu_c = nnx.Param(jnp.asarray(initial.mu_k))
        self.to_r = nnx.Linear(channels, channels, use_bias=False, rngs=rngs)
        self.to_k = nnx.Linear(channels, 4 * channels, use_bias=False, rngs=rngs)
        self.to_v = nnx.Linear(4 * channels, channels, use_bias=False, kernel_init=nnx.initializers.zeros, rngs=rngs)

    def __call__(self, x: Float[Array, "B F H W C"], before: Float[Array, "B F H W C"]) -> Float[Array, "B F H W C"]:
        """``before`` are the frames before each."""
        x = interpolate(self.mu_c[...], x, before)
        return jax.nn.sigmoid(self.to_r(x)) * self.to_v(jnp.square(jax.nn.relu(self.to_k(x))))


def interpolate(
    mu: Float[Array, " C"], now: Float[Array, "*b C"], before: Float[Array, "*b C"]
) -> Float[Array, "*b C"]:
    """``mu * now + (1 - mu) * before``, per channel, in the dtype of the frames."""
    mu = mu.astype(now.dtype)
    return mu * now + (1 - mu) * before


def quad_directional_shift(x: Float[Array, "B F H W C"]) -> Float[Array, "B F H W C"]:
    """A quarter of the channels from the left, right, upper and lower neighbour each; zeros beyond the border.

    Channels left over when C is no multiple of 4 stay where they are (Vision-RWKV, Q-Shift).
    """
    quarter = x.shape[-1] // 4
    height, width = x.shape[2:4]
    padded = jnp.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1), (0, 0)))

    def neighbour(index: int, down: int, right: int) -> Array:
        rows, columns = slice(1 + down, 1 + down + height), slice(1 + right, 1 + right + width)
        return padded[:, :, rows, columns, index * quarter : (index + 1) * quarter]

    left, right, upper, lower = neighbour(0, 0, -1), neighbour(1, 0, 1), neighbour(2, -1, 0), neighbour(3, 1, 0)
    return jnp.concatenate([left, right, upper, lower, x[..., 4 * quarter :]], axis=-1)
