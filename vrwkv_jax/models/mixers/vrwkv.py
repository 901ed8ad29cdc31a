"""3D-VRWKV: the mixer of VRWKV-Editor (arXiv 2509.25998), linear in the number of tokens.

Two residual halves on ``x`` of shape ``B F H W C``, in the notation of the paper (sigma is the sigmoid):

    spatio-temporal   x + W_o (sigma(R) * BiWKV(K, V)),   R, K, V = projections of mu_* X_f + (1 - mu_*) X_{f-1}
    channel           x + sigma(W_r X) * W_v relu(W_k X)^2,        X = mu_c X_f + (1 - mu_c) X_{f-1}

W_o and W_v start at zero, so that a new mixer is the identity.
"""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from flax import nnx

from pallas_kernels.bi_wkv import bi_wkv, bi_wkv_context_parallel, free_decay
from vrwkv_jax.models.control import Control
from vrwkv_jax.models.layers import conv, layer_norm
from vrwkv_jax.models.mixers.base import TO_Q, Usual
from vrwkv_jax.models.mixers.shared import SharedMixer
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

    def __post_init__(self) -> None:
        check_fields(
            self,
            decay_norm=one_of("length", "none") if isinstance(self.decay_norm, str) else at_least(1),
        )


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
        self.channel = ChannelMix(channels, config, initial, rngs=rngs)

    def mix(self, x: Float[Array, "B F H W C"], control: Control | None) -> Float[Array, "B F H W C"]:
        x = x + self.spatio_temporal(self.norm1(x), control)
        return x + self.channel(self.norm2(x))


class SpatioTemporalMix(nnx.Module):
    """Quad-directional shift, temporal interpolation, projections, Bi-WKV over the clip's tokens, sigmoid gate."""

    def __init__(
        self, channels: int, config: VRWKVConfig, initial: "InitialValues", bi_wkv: str | None, *, rngs: nnx.Rngs
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
        before = previous_frame(x, self.first_frame)
        r = self.to_r(interpolate(self.mu_r[...], x, before))
        k = self.to_k(interpolate(self.mu_k[...], x, before))
        v = self.to_v(interpolate(self.mu_v[...], x, before))
        if control is not None:
            r, k = control.mixer(r, k)
        return self.to_out(self.recur(k, v, r))

    def recur(
        self, k: Float[Array, "B F H W C"], v: Float[Array, "B F H W C"], r: Float[Array, "B F H W C"]
    ) -> Float[Array, "B F H W C"]:
        """sigmoid(r) times Bi-WKV over all tokens: frame by frame and then along time at each place, or over one joint
        sequence, which applies the gate itself; along time r would have to be transposed for that."""
        b, f, h = k.shape[:3]
        if self.token_order == "joint":
            y = self.joint(*(rearrange(x, "b f h w c -> b (f h w) c") for x in (k, v, r)), over_frames=True)
            return rearrange(y, "b (f h w) c -> b f h w c", f=f, h=h)
        y = self.space(*(rearrange(x, "b f h w c -> (b f) (h w) c") for x in (k, v)), over_frames=False)
        k = rearrange(k, "b f h w c -> (b h w) f c")
        y = self.time(k, rearrange(y, "(b f) (h w) c -> (b h w) f c", b=b, h=h), over_frames=True)
        return jax.nn.sigmoid(r) * rearrange(y, "(b h w) f c -> b f h w c", b=b, h=h)


class Recurrence(nnx.Module):
    """Bi-WKV along one sequence of tokens, with a learned decay exp(w) > 0 and bonus u per channel.

    The papers divide both by the length of the sequence (``decay_norm="length"``). A reference length, or 1 for
    ``"none"``, keeps the decay per token the same at every length.

    A decay beyond ``STRONGEST_DECAY``, or e^3.7 over a whole short sequence, is taken for that: next to nothing is seen
    beyond the neighbours already. Its gradient is that of the decay itself.

    ``implementation`` is that of ``bi_wkv``.
    """

    def __init__(self, config: VRWKVConfig, initial: "InitialValues", implementation: str | None = None):
        self.decay_norm, self.implementation = config.decay_norm, implementation
        self.w, self.u = nnx.Param(jnp.asarray(initial.w)), nnx.Param(jnp.asarray(initial.u))

    def __call__(
        self,
        k: Float[Array, "B T C"],
        v: Float[Array, "B T C"],
        receptance: Float[Array, "B T C"] | None = None,
        *,
        over_frames: bool,
    ) -> Float[Array, "B T C"]:
        """``over_frames``: the sequence goes on in the frames that other devices hold, if any do."""
        over_devices = over_frames and is_spread()
        norm = self.decay_norm
        tokens = k.shape[1] * (parts() if over_devices else 1)
        length = norm if isinstance(norm, int) else {"length": tokens, "none": 1}[norm]
        strongest = free_decay(k.shape[1]) if norm == "length" else STRONGEST_DECAY
        decay, bonus = jnp.exp(self.w[...]) / length, self.u[...] / length
        decay = decay + jax.lax.stop_gradient(jnp.minimum(decay, strongest) - decay)
        op = partial(bi_wkv_context_parallel, axis_name=FRAME) if over_devices else bi_wkv
        return op(k, v, decay, bonus, receptance=receptance, max_decay=strongest, implementation=self.implementation)


class ChannelMix(nnx.Module):
    """A feed-forward with squared ReLU, four times as wide inside, behind a sigmoid gate."""

    def __init__(self, channels: int, config: VRWKVConfig, initial: "InitialValues", *, rngs: nnx.Rngs):
        self.first_frame = config.first_frame
        self.mu_c = nnx.Param(jnp.asarray(initial.mu_k))
        self.to_r = nnx.Linear(channels, channels, use_bias=False, rngs=rngs)
        self.to_k = nnx.Linear(channels, 4 * channels, use_bias=False, rngs=rngs)
        self.to_v = nnx.Linear(4 * channels, channels, use_bias=False, kernel_init=nnx.initializers.zeros, rngs=rngs)

    def __call__(self, x: Float[Array, "B F H W C"]) -> Float[Array, "B F H W C"]:
        x = interpolate(self.mu_c[...], x, previous_frame(x, self.first_frame))
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


class InitialValues(NamedTuple):
    """What a new mixer starts from, float32 ``[C]`` each; ``w`` is the logarithm of the decay."""

    w: np.ndarray
    u: np.ndarray
    mu_r: np.ndarray
    mu_k: np.ndarray
    mu_v: np.ndarray


def initial_values(name: str, channels: int, layer: int, num_layers: int) -> InitialValues:
    """Vision-RWKV's initial values for layer l of L, with a = l/(L-1) and b = 1 - l/L.

    Its "local" has mu = 1, which would switch the interpolation between frames off; here it is 0.5, as in "global".
    """
    i = np.arange(channels)
    values: tuple[np.ndarray | float, ...]
    if name == "fancy":
        a = layer / max(num_layers - 1, 1)
        b = 1 - layer / num_layers
        w = -5 + 8 * (i / max(channels - 1, 1)) ** (0.7 + 1.3 * a)
        u = np.log(0.3) + 0.5 * ((i + 1) % 3 - 1)
        mu_k = (i / channels) ** b
        values = (w, u, (i / channels) ** (b / 2), mu_k, mu_k + 0.3 * a)
    else:
        decay = {"local": 1.0, "global": 0.0}[name]
        values = (decay, decay, 0.5, 0.5, 0.5)
    return InitialValues(*(np.broadcast_to(value, channels).astype(np.float32) for value in values))
