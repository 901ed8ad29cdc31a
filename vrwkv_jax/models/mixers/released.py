"""The temporal block that VRWKV-Editor's authors released, which is not that of their paper; and those beside it there.

At each place of ``x``, shape ``B F H W C``, over the frames by themselves, dense in these (g is LayerScale):

    time_mix          x + g TimeMix(LN(x)), then x + g ChannelMix(LN(x))
    the others        x + g W_o core(Q, K, V),   Q, K, V = projections of LN(x)

    TimeMix           W_o (sigma(R) * A(e^K V) / A(e^K)),   A[t, s] = exp(-w |t - s|), A[t, t] = exp(u) of each head
    ChannelMix        sigma(W_r X) * W_v relu(W_k X)^2
    attention         softmax(Q K^T / sqrt(D)) V, of several heads
    linear_attention  phi(Q) (phi(K)^T V) / (phi(Q) sum of phi(K)),   phi(x) = elu(x) + 1
    state_space       sigma(Q) * S,   S_t = a_t S_{t-1} + (1 - a_t) sigma(K_t) V_t,   a = exp(-dt exp(log_a))
    wkv               sigma(Q) * A(e^K V) / A(e^K),   with the A of TimeMix

In TimeMix and ChannelMix X, and what is projected to R, K and V, is mu X_f + (1 - mu) X_{f-1} with mu = sigma(logit)
per channel, and zeros before the first frame.

g starts at 0.1 with projections that are drawn, as released: a new mixer is not the identity. In chunks of a clip, A is
Bi-WKV with the bonus u + w, whose state goes on, as that of state_space does. Chosen here, where what is known of that
code is silent: heads are those of attention at the resolution (8 in Stable Diffusion 1.x, as theirs); projections have
no bias; ChannelMix has one mu and is four times as wide within; linear attention adds 1e-6 to its divisor; dt is the
softplus of a projection of LN(x) with a bias, which starts at 0, as log_a does; wkv is gated by Q.
"""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import nnx

from pallas_kernels.bi_wkv import State, bi_wkv_with_states
from pallas_kernels.selective_scan import (
    selective_scan,
    selective_scan_context_parallel,
    selective_scan_with_state,
)
from vrwkv_jax.models.attention import dot_product_attention
from vrwkv_jax.models.chunk import MixerChunk, MixerPast
from vrwkv_jax.models.control import Control
from vrwkv_jax.models.layers import layer_norm
from vrwkv_jax.models.mixers.base import TO_Q, Carries, Usual
from vrwkv_jax.models.mixers.shared import SharedMixer
from vrwkv_jax.models.mixers.vrwkv import interpolate
from vrwkv_jax.parallel.frames import all_frames, is_spread, own_frames, previous_frame
from vrwkv_jax.parallel.mesh import FRAME
from vrwkv_jax.system.checks import check_fields
from vrwkv_jax.typing import Array, Float

Own = Float[Array, "B F H W C"]  # of the frames of this device
LAYER_SCALE = 0.1
LOWEST = -60.0  # of the exponents of K below their largest: e^-60 is far above where float32 ends


@dataclass(frozen=True)
class ReleasedConfig:
    """The mixer released: the block of VRWKV-Editor's released code, or what that compares it with."""

    temporal_core: Literal["time_mix", "wkv", "attention", "linear_attention", "state_space"] = "time_mix"
    """What goes over the frames: the released block, or in one wrapper for all that block's weights (wkv), attention,
    linear attention, or a state space model."""

    def __post_init__(self) -> None:
        check_fields(self)


class Released(SharedMixer):
    """The whole module. It starts near the identity, at LayerScale 0.1; it has no use for ``layer``, ``num_layers`` and
    ``bi_wkv``."""

    Config: ClassVar[type] = ReleasedConfig
    usual: ClassVar[Usual] = Usual(placement=("transformer",), attention="sparse_causal")
    trained: ClassVar[str] = TO_Q
    is_identity: ClassVar[bool] = False
    has_bi_wkv: ClassVar[bool] = False
    gains: ClassVar[str] = r"halves/\d/(norm/(scale|bias)|gain|core/(mu\w*|log_[wua]|to_dt/bias))"
    ends: ClassVar[str] = r"halves/\d/gain"
    float32: ClassVar[str] = r"halves/\d/core/log_[wua]"
    cut: ClassVar[dict[str, int]] = {
        r"halves/\d/core/to_([qrkv]|dt)/kernel": -1,
        r"halves/\d/core/to_out/kernel": 0,
    }

    def __init__(
        self,
        channels: int,
        config: ReleasedConfig,
        *,
        heads: int,
        layer: int,
        num_layers: int,
        bi_wkv: str | None = None,
        rngs: nnx.Rngs,
    ):
        cores: list[Core] = [CORES[config.temporal_core](channels, heads, rngs=rngs)]
        if config.temporal_core == "time_mix":
            cores.append(ChannelMix(channels, rngs=rngs))
        self.halves = nnx.List([Scaled(channels, core, rngs=rngs) for core in cores])

    @classmethod
    def carries(cls, config: ReleasedConfig) -> Carries:
        return CORES[config.temporal_core].carries

    def mix(self, x: Float[Array, "B F H W C"], control: Control | None) -> Float[Array, "B F H W C"]:
        for half in self.halves:
            x = x + half(x, control)
        return x

    def mix_chunk(
        self, x: Float[Array, "B F H W C"], control: Control | None, chunk: MixerChunk
    ) -> tuple[Float[Array, "B F H W C"], tuple[MixerPast, ...]]:
        pasts = (None,) * len(self.halves) if chunk.past is None else chunk.past
        left: list[MixerPast] = []
        for half, past in zip(self.halves, pasts, strict=True):
            change, own = half.chunk(x, control, chunk._replace(past=past))
            x = x + change
            left.append(own)
        return x, tuple(left)


class Core(nnx.Module):
    """What stands between LayerNorm and LayerScale."""

    carries: ClassVar[Carries] = "nothing"

    def __call__(self, x: Float[Array, "B F H W C"], control: Control | None) -> Float[Array, "B F H W C"]:
        raise NotImplementedError

    def chunk(self, x: Own, control: Control | None, chunk: MixerChunk) -> tuple[Own, MixerPast]:
        """The same of a chunk of a clip, up to whose end nothing but it is behind; and what goes on."""
        raise NotImplementedError


class Scaled(nnx.Module):
    """``g core(LN(x))``."""

    def __init__(self, channels: int, core: Core, *, rngs: nnx.Rngs):
        self.norm, self.core = layer_norm(channels, rngs=rngs), core
        self.gain = nnx.Param(jnp.full(channels, LAYER_SCALE))

    def __call__(self, x: Float[Array, "B F H W C"], control: Control | None) -> Float[Array, "B F H W C"]:
        return self.gain[...].astype(x.dtype) * self.core(self.norm(x), control)

    def chunk(self, x: Own, control: Control | None, chunk: MixerChunk) -> tuple[Own, MixerPast]:
        y, past = self.core.chunk(self.norm(x), control, chunk)
        return self.gain[...].astype(x.dtype) * y, past


def linear(channels: int, out_channels: int, rngs: nnx.Rngs) -> nnx.Linear:
    return nnx.Linear(channels, out_channels, use_bias=False, rngs=rngs)


def weighted(
    k: Float[Array, "B F_all H W C"],
    v: Float[Array, "B F_all H W C"],
    log_w: Float[Array, " heads"],
    log_u: Float[Array, " heads"],
) -> Float[Array, "B F H W C"]:
    """``A(e^K V) / A(e^K)`` in float32, for the frames of this device: A is a matrix ``F x F`` for each head.

    Both are divided by the largest e^K of a place and channel, and what is next to nothing beside that is taken for
    e^-60 of it: so the divisor is never zero, as it can be in the released code.
    """
    height, width, channels = k.shape[2:]
    heads = len(log_w)
    k, v = (rearrange(x.astype(jnp.float32), "b f h w (n d) -> n f (b h w d)", n=heads) for x in (k, v))
    frame = jnp.arange(k.shape[1])
    distance = jnp.abs(frame[:, None] - frame)
    w, u = (jnp.exp(leaf)[:, None, None] for leaf in (log_w, log_u))
    weights = own_frames(jnp.exp(jnp.where(distance == 0, u, -w * distance)))
    e = jnp.exp(jnp.maximum(k - jax.lax.stop_gradient(k.max(1, keepdims=True)), LOWEST))
    mean = (weights @ (e * v)) / (weights @ e)
    return rearrange(mean, "n f (b h w d) -> b f h w (n d)", h=height, w=width, d=channels // heads)


def weighted_chunk(
    k: Own, v: Own, log_w: Float[Array, " heads"], log_u: Float[Array, " heads"], chunk: MixerChunk, past: State | None
) -> tuple[Own, State]:
    """``weighted`` up to the end of a chunk, behind the state of what lies before it; and the state behind it.

    A token of one frame before counts e^-w in A, and 1 in Bi-WKV: hence the bonus u + w, which stops at e^60.
    """
    w, u = (jnp.repeat(jnp.exp(leaf), k.shape[-1] // len(leaf)) for leaf in (log_w, log_u))
    fold = "b f h w c -> (b h w) f c"
    k, values = (rearrange(x.astype(jnp.float32), fold) for x in (chunk.only_counted(k), v))
    mean, state, _ = bi_wkv_with_states(k, values, w, jnp.minimum(u + w, -LOWEST), forward=past)
    return rearrange(mean, "(b h w) f c -> b f h w c", h=v.shape[2], w=v.shape[3]), state


class TimeMixPast(NamedTuple):
    """The state of the weighted mean, and the last frame, normalised."""

    state: State
    normed: Float[Array, "B 1 H W C"]


class TimeMix(Core):
    """Weights decay with the distance of frames; keys, values and gates look at the frame before."""

    carries: ClassVar[Carries] = "onwards"

    def __init__(self, channels: int, heads: int, *, rngs: nnx.Rngs):
        self.mu_r, self.mu_k, self.mu_v = (nnx.Param(jnp.zeros(channels)) for _ in range(3))
        self.log_w, self.log_u = (nnx.Param(jnp.zeros(heads)) for _ in range(2))
        self.to_r, self.to_k, self.to_v, self.to_out = (linear(channels, channels, rngs) for _ in range(4))

    def __call__(self, x: Float[Array, "B F H W C"], control: Control | None) -> Float[Array, "B F H W C"]:
        r, k, v = self.project(x, previous_frame(x, "zero"), control)
        mean = weighted(all_frames(k), all_frames(v), self.log_w[...], self.log_u[...])
        return self.to_out(jax.nn.sigmoid(r) * mean.astype(r.dtype))

    def chunk(self, x: Own, control: Control | None, chunk: MixerChunk) -> tuple[Own, TimeMixPast]:
        past: TimeMixPast | None = chunk.past
        before = chunk.previous_frame(x, past and past.normed, "zero")
        r, k, v = self.project(x, before, control)
        mean, state = weighted_chunk(k, v, self.log_w[...], self.log_u[...], chunk, past and past.state)
        return self.to_out(jax.nn.sigmoid(r) * mean.astype(r.dtype)), TimeMixPast(state, x[:, -1:])

    def project(self, x: Own, before: Own, control: Control | None) -> tuple[Own, Own, Own]:
        """R, K and V, of frames and of those before each."""
        r = self.to_r(interpolate(jax.nn.sigmoid(self.mu_r[...]), x, before))
        k = self.to_k(interpolate(jax.nn.sigmoid(self.mu_k[...]), x, before))
        v = self.to_v(interpolate(jax.nn.sigmoid(self.mu_v[...]), x, before))
        if control is not None:
            r, k = control.mixer(r, k)
        return r, k, v


class ChannelMix(Core):
    """A feed-forward with squared ReLU behind a sigmoid gate."""

    def __init__(self, channels: int, *, rngs: nnx.Rngs):
        self.mu = nnx.Param(jnp.zeros(channels))
        self.to_r, self.to_k = linear(channels, channels, rngs), linear(channels, 4 * channels, rngs)
        self.to_v = linear(4 * channels, channels, rngs)

    def __call__(self, x: Float[Array, "B F H W C"], control: Control | None) -> Float[Array, "B F H W C"]:
        return self.after(x, previous_frame(x, "zero"))

    def chunk(self, x: Own, control: Control | None, chunk: MixerChunk) -> tuple[Own, Float[Array, "B 1 H W C"]]:
        """What goes on is the last frame, normalised."""
        return self.after(x, chunk.previous_frame(x, chunk.past, "zero")), x[:, -1:]

    def after(self, x: Own, before: Own) -> Own:
        x = interpolate(jax.nn.sigmoid(self.mu[...]), x, before)
        return jax.nn.sigmoid(self.to_r(x)) * self.to_v(jnp.square(jax.nn.relu(self.to_k(x))))


class Compared(Core):
    """Projections to Q, K and V, and out: what the mixers have in common that the block is compared with."""

    def __init__(self, channels: int, heads: int, *, rngs: nnx.Rngs):
        self.heads = heads
        self.to_q, self.to_k, self.to_v, self.to_out = (linear(channels, channels, rngs) for _ in range(4))

    def __call__(self, x: Float[Array, "B F H W C"], control: Control | None) -> Float[Array, "B F H W C"]:
        return self.to_out(self.over_frames(x, *self.project(x, control)).astype(x.dtype))

    def chunk(self, x: Own, control: Control | None, chunk: MixerChunk) -> tuple[Own, MixerPast]:
        y, past = self.over_chunk(x, *self.project(x, control), chunk)
        return self.to_out(y.astype(x.dtype)), past

    def project(self, x: Own, control: Control | None) -> tuple[Own, Own, Own]:
        q, k, v = self.to_q(x), self.to_k(x), self.to_v(x)
        if control is not None:
            q, k = control.mixer(q, k)
        return q, k, v

    def over_frames(self, x: Own, q: Own, k: Own, v: Own) -> Own:
        raise NotImplementedError

    def over_chunk(self, x: Own, q: Own, k: Own, v: Own, chunk: MixerChunk) -> tuple[Own, MixerPast]:
        """``over_frames`` up to the end of a chunk, and what goes on to the next one."""
        raise NotImplementedError


class WKV(Compared):
    """The weights of the released block, without its token shift and its feed-forward."""

    carries: ClassVar[Carries] = "onwards"

    def __init__(self, channels: int, heads: int, *, rngs: nnx.Rngs):
        super().__init__(channels, heads, rngs=rngs)
        self.log_w, self.log_u = (nnx.Param(jnp.zeros(heads)) for _ in range(2))

    def over_frames(self, x: Own, q: Own, k: Own, v: Own) -> Own:
        mean = weighted(all_frames(k), all_frames(v), self.log_w[...], self.log_u[...])
        return jax.nn.sigmoid(q.astype(jnp.float32)) * mean

    def over_chunk(self, x: Own, q: Own, k: Own, v: Own, chunk: MixerChunk) -> tuple[Own, State]:
        mean, state = weighted_chunk(k, v, self.log_w[...], self.log_u[...], chunk, chunk.past)
        return jax.nn.sigmoid(q.astype(jnp.float32)) * mean, state


class FrameAttention(Compared):
    """Softmax attention of several heads."""

    def over_frames(self, x: Own, q: Own, k: Own, v: Own) -> Own:
        fold = "b f h w (n d) -> (b h w) f n d"
        y = dot_product_attention(*(rearrange(y, fold, n=self.heads) for y in (q, all_frames(k), all_frames(v))))
        return rearrange(y, "(b h w) f n d -> b f h w (n d)", b=x.shape[0], h=x.shape[2])


class LinearAttention(Compared):
    """Attention without a softmax, in float32."""

    def over_frames(self, x: Own, q: Own, k: Own, v: Own) -> Own:
        heads = "b f h w (n d) -> b h w n f d"
        seen = q, all_frames(k), all_frames(v)
        q, k, v = (rearrange(y.astype(jnp.float32), heads, n=self.heads) for y in seen)
        q, k = jax.nn.elu(q) + 1, jax.nn.elu(k) + 1
        y = q @ (k.mT @ v) / (q @ k.sum(-2)[..., None] + 1e-6)
        return rearrange(y, "b h w n f d -> b f h w (n d)")


class StateSpace(Compared):
    """A selective state space model with one state per channel, from the first frame to the last, in float32."""

    carries: ClassVar[Carries] = "onwards"

    def __init__(self, channels: int, heads: int, *, rngs: nnx.Rngs):
        super().__init__(channels, heads, rngs=rngs)
        self.to_dt = nnx.Linear(channels, channels, rngs=rngs)
        self.log_a = nnx.Param(jnp.zeros(channels))

    def over_frames(self, x: Own, q: Own, k: Own, v: Own) -> Own:
        scan = partial(selective_scan_context_parallel, axis_name=FRAME) if is_spread() else selective_scan
        return self.read(q, scan(*self.entering(x, k, v)))

    def over_chunk(self, x: Own, q: Own, k: Own, v: Own, chunk: MixerChunk) -> tuple[Own, Float[Array, "places C 1"]]:
        """The frames that fill up a chunk come last, so that none of the clip's sees them."""
        y, state = selective_scan_with_state(*self.entering(x, k, v), state=chunk.past)
        return self.read(q, y), state

    def read(self, q: Own, states: Float[Array, "places F C"]) -> Own:
        states = rearrange(states, "(b h w) f c -> b f h w c", h=q.shape[2], w=q.shape[3])
        return jax.nn.sigmoid(q.astype(jnp.float32)) * states

    def entering(self, x: Own, k: Own, v: Own) -> tuple[Array, Array, Array, Array, Array, Array]:
        """What ``selective_scan`` is called with: it adds dt times its input, so (1 - a_t) / dt_t goes into that."""
        fold = "b f h w c -> (b h w) f c"
        x, k, v = (rearrange(y, fold) for y in (self.to_dt(x), k, v))
        dt, a = jax.nn.softplus(x.astype(jnp.float32)), -jnp.exp(self.log_a[...])
        rate = dt * a
        is_small = rate > -1e-4  # where the series is as exact as float32 is, in its gradient, too
        apart = jnp.where(is_small, -1.0, rate)
        per_dt = -a * jnp.where(is_small, 1 + rate / 2, jnp.expm1(apart) / apart)
        inner = per_dt * jax.nn.sigmoid(k.astype(jnp.float32)) * v
        ones, none = jnp.ones((*dt.shape[:2], 1)), jnp.zeros(len(a))
        return inner, dt, a[:, None], ones, ones, none


CORES: dict[str, type[TimeMix] | type[Compared]] = {
    "time_mix": TimeMix,
    "wkv": WKV,
    "attention": FrameAttention,
    "linear_attention": LinearAttention,
    "state_space": StateSpace,
}
