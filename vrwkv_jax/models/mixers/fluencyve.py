"""FluencyVE's mixer (arXiv 2512.21015), a reading of the paper: no code is published. Linear in frames and pixels.

TA-Mamba on ``x`` of shape ``B F H W C``: LN(x), each frame bordered by a learnt vector, as ``F (H+2) (W+2)`` tokens in
the order (frame, row, column), goes through a selective scan (Mamba, arXiv 2312.00752) in four directions, space and
time forward and backward, with the same weights:

    u = SiLU(conv(W_x LN(x)))       causal in the direction of the scan, by channels, width 4
    dt, B, C = projections of u     dt = softplus(W_dt W_r u + b)
    y = scan(u, dt, A, B, C, D)     h_t = exp(dt A) h_{t-1} + dt B u_t,   y_t = C h_t + D u_t
    x + W_o (mean of the four y * SiLU(W_z LN(x)))

All tokens of a frame come before those of the next one, so that a clip can go through it in chunks: states and the last
tokens go on, and what runs backward in time begins at the chunk's end.

W_o starts at zero, so that a new mixer is the identity; A, D and b start as Mamba's. Beside it, self-attention has a
bypass (``models/bypass.py``) and is frozen but for that; the rest is inflated as in Tune-A-Video. Chosen here, where
the paper is silent: LayerNorm, one border for all frames and sides, what else is tuned (to_q of attention to the text),
that the frozen scores fade evenly, and all that ``FluencyVEConfig`` has.
"""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import nnx

from pallas_kernels.selective_scan import (
    selective_scan,
    selective_scan_context_parallel,
    selective_scan_with_state,
)
from vrwkv_jax.models.bypass import Bypass
from vrwkv_jax.models.chunk import MixerChunk
from vrwkv_jax.models.control import Control
from vrwkv_jax.models.layers import layer_norm
from vrwkv_jax.models.mixers.base import Carries, Usual
from vrwkv_jax.models.mixers.shared import SharedMixer
from vrwkv_jax.parallel.frames import is_spread, neighbouring_tokens
from vrwkv_jax.parallel.mesh import FRAME
from vrwkv_jax.system.checks import at_least, between, check_fields
from vrwkv_jax.system.errors import UserError, setting
from vrwkv_jax.typing import Array, Float

STEPS = (1e-3, 1e-1)
"""Between these lies dt in a new Mamba."""
LEAST_RANK = 4


@dataclass(frozen=True)
class FluencyVEConfig:
    """The mixer fluencyve, a reading of its paper: no code is published."""

    d_state: int = 16
    """Numbers of state per channel."""
    expand: int = 2
    """Width of the scan, in widths of the features."""
    conv_width: int = 4
    """Tokens that the causal convolution sees."""
    frame_border: bool = True
    """Border each frame by a learnt vector before the scan."""
    rank_divisor: int = 32
    """The rank of what is added to the scores of self-attention is the width of the features divided by this."""
    frozen_share: float = 0.5
    """What is left of the frozen scores of self-attention when tuning ends. It starts at 1."""
    dt_rank_divisor: int = 16
    """The rank of what the scan's steps are projected from is the width of the features divided by this."""
    merge: Literal["mean", "sum"] = "mean"
    """What becomes of the four directions."""

    def __post_init__(self) -> None:
        check_fields(
            self,
            d_state=at_least(1),
            expand=at_least(1),
            conv_width=at_least(1),
            rank_divisor=at_least(1),
            frozen_share=between(0, 1),
            dt_rank_divisor=at_least(1),
        )


class FluencyVE(SharedMixer):
    """TA-Mamba. It has no use for ``heads``, ``layer``, ``num_layers`` and ``bi_wkv``."""

    Config: ClassVar[type] = FluencyVEConfig
    usual: ClassVar[Usual] = Usual(placement=("transformer",), attention="sparse_causal", groupnorm_scope="resnets")
    trained: ClassVar[str] = r"/attn2/to_q/"
    is_identity: ClassVar[bool] = True
    has_bi_wkv: ClassVar[bool] = False
    gains: ClassVar[str] = r"norm/(scale|bias)|border|mamba/(log_a|skip|dt_bias|conv/bias)"
    ends: ClassVar[str] = r"mamba/to_out/kernel"
    float32: ClassVar[str] = r"mamba/(log_a|skip|dt_bias)"
    """Exponents, and what is added to their like."""
    cut: ClassVar[dict[str, int]] = {
        r"mamba/to_([xz]|dt)/kernel|mamba/conv/kernel": -1,
        r"mamba/(to_(ssm|out)/kernel|log_a)": 0,
    }

    def __init__(
        self,
        channels: int,
        config: FluencyVEConfig,
        *,
        heads: int,
        layer: int,
        num_layers: int,
        bi_wkv: str | None = None,
        rngs: nnx.Rngs,
    ):
        self.norm = layer_norm(channels, rngs=rngs)
        initial = nnx.initializers.normal(0.02)
        self.border = nnx.Param(initial(rngs.params(), (channels,))) if config.frame_border else None
        self.mamba = Mamba(channels, config, rngs=rngs)

    @classmethod
    def bypass(cls, channels: int, config: FluencyVEConfig, *, heads: int, rngs: nnx.Rngs) -> Bypass:
        rank = max(LEAST_RANK, channels // config.rank_divisor)
        return Bypass(channels, heads, rank=rank, frozen_share=config.frozen_share, rngs=rngs)

    @classmethod
    def carries(cls, config: FluencyVEConfig) -> Carries:
        return "onwards"

    def mix(self, x: Float[Array, "B F H W C"], control: Control | None) -> Float[Array, "B F H W C"]:
        normed = self.norm(x)
        return x + self.mamba(normed, self.bordered(normed), control)

    def mix_chunk(
        self, x: Float[Array, "B F H W C"], control: Control | None, chunk: MixerChunk
    ) -> tuple[Float[Array, "B F H W C"], "MambaPast"]:
        normed = self.norm(x)
        mixed, past = self.mamba.chunk(normed, self.bordered(normed), control, chunk)
        return x + mixed, past

    def bordered(self, x: Float[Array, "B F H W C"]) -> Float[Array, "B F Y X C"]:
        if self.border is None:
            return x
        height, width = x.shape[2:4]
        edge = jnp.broadcast_to(self.border[...].astype(x.dtype), (*x.shape[:2], height + 2, width + 2, x.shape[4]))
        return edge.at[:, :, 1:-1, 1:-1].set(x)


class MambaPast(NamedTuple):
    """What goes on to the next chunk, of the clip and of the one whose frames are flipped."""

    state: Float[Array, "BD E N"]
    tokens: Float[Array, "BD width_less_1 E"]
    """The last ones, as the convolution sees them."""


class Mamba(nnx.Module):
    """A Mamba block whose scan runs in four directions over the tokens of a clip."""

    def __init__(self, channels: int, config: FluencyVEConfig, *, rngs: nnx.Rngs):
        inner, self.states, self.rank = config.expand * channels, config.d_state, -(-channels // config.dt_rank_divisor)
        self.weight = {"mean": 1 / 4, "sum": 1.0}[config.merge]
        self.to_x, self.to_z = (nnx.Linear(channels, inner, use_bias=False, rngs=rngs) for _ in range(2))
        self.conv = CausalConv(inner, config.conv_width, rngs=rngs)
        self.to_ssm = nnx.Linear(inner, self.rank + 2 * self.states, use_bias=False, rngs=rngs)
        self.to_dt = nnx.Linear(self.rank, inner, use_bias=False, rngs=rngs)
        dt = jnp.geomspace(*STEPS, inner)
        self.dt_bias = nnx.Param(dt + jnp.log(-jnp.expm1(-dt)))  # whose softplus is dt
        self.log_a = nnx.Param(jnp.broadcast_to(jnp.log(jnp.arange(1.0, self.states + 1)), (inner, self.states)))
        self.skip = nnx.Param(jnp.ones(inner))
        self.to_out = nnx.Linear(inner, channels, use_bias=False, kernel_init=nnx.initializers.zeros, rngs=rngs)

    def __call__(
        self, x: Float[Array, "B F H W C"], bordered: Float[Array, "B F Y X C"], control: Control | None
    ) -> Float[Array, "B F H W C"]:
        """``bordered`` is ``x`` with a border around each frame, or without."""
        tokens = self.tokens(bordered)
        scan = partial(selective_scan_context_parallel, axis_name=FRAME) if is_spread() else selective_scan
        ahead = scan(*self.scanned(self.conv(tokens, False), control))
        back = scan(*self.scanned(self.conv(tokens, True), control), reverse=True)
        return self.out(x, bordered, ahead + back)

    def chunk(
        self,
        x: Float[Array, "B F H W C"],
        bordered: Float[Array, "B F Y X C"],
        control: Control | None,
        chunk: MixerChunk,
    ) -> tuple[Float[Array, "B F H W C"], MambaPast]:
        """Of a chunk of a clip, with what goes on to the next one."""
        past: MambaPast | None = chunk.past
        counts = chunk.counts(bordered).reshape(-1, 1)
        tokens = jnp.where(counts, self.tokens(bordered), 0)

        def only_counted(tokens: Array, dt: Array, *others: Array) -> tuple[Array, ...]:
            return tokens, jnp.where(counts, dt, 0), *others  # which leaves states alone

        before = self.conv.nothing(tokens) if past is None else past.tokens
        scanned = only_counted(*self.scanned(self.conv(tokens, False, before), control))
        ahead, state = selective_scan_with_state(*scanned, state=past and past.state)
        back = selective_scan(*only_counted(*self.scanned(self.conv(tokens, True), control)), reverse=True)
        last = jnp.concatenate([before, tokens], axis=1)[:, tokens.shape[1] :]
        return self.out(x, bordered, ahead + back), MambaPast(state, last)

    def tokens(self, bordered: Float[Array, "B F Y X C"]) -> Float[Array, "BD T E"]:
        """Of each clip and of that whose frames are flipped.

        Where time runs backward all tokens do, so that space runs backward where it is not flipped.
        """
        inner = self.to_x(bordered)
        both = jnp.stack([inner, jnp.flip(inner, (2, 3))], axis=1)
        return rearrange(both, "b d f y x e -> (b d) (f y x) e")

    def scanned(self, convolved: Float[Array, "BD T E"], control: Control | None) -> tuple[Array, ...]:
        """What ``selective_scan`` is called with."""
        x = jax.nn.silu(convolved)
        dt, b, c = jnp.split(self.to_ssm(x), [self.rank, self.rank + self.states], axis=-1)
        dt = jax.nn.softplus(self.to_dt(dt).astype(jnp.float32) + self.dt_bias[...])
        if control is not None:
            dt, b, c = control.mixer(dt, b, c)
        return x, dt, -jnp.exp(self.log_a[...]), b, c, self.skip[...]

    def out(
        self, x: Float[Array, "B F H W C"], bordered: Float[Array, "B F Y X C"], y: Float[Array, "BD T E"]
    ) -> Float[Array, "B F H W C"]:
        """What is added to the clip, given what the scans say in both directions of time together."""
        frames, height, width = bordered.shape[1:4]
        y = rearrange(y, "(b d) (f y x) e -> b d f y x e", d=2, f=frames, y=height, x=width)
        merged = self.weight * (y[:, 0] + jnp.flip(y[:, 1], (2, 3)))
        if bordered.shape != x.shape:
            merged = merged[:, :, 1:-1, 1:-1]
        return self.to_out(merged * jax.nn.silu(self.to_z(x)))


class CausalConv(nnx.Module):
    """Each token and those before it (``reverse``: behind it), channel by channel; zeros beyond the end."""

    def __init__(self, channels: int, width: int, *, rngs: nnx.Rngs):
        initial = nnx.initializers.uniform(2 * width**-0.5)
        self.kernel = nnx.Param(initial(rngs.params(), (width, channels)) - width**-0.5)
        self.bias = nnx.Param(jnp.zeros(channels))

    def nothing(self, x: Float[Array, "B T E"]) -> Float[Array, "B width_less_1 E"]:
        """What lies before the first token."""
        return jnp.zeros((x.shape[0], len(self.kernel[...]) - 1, x.shape[2]), x.dtype)

    def __call__(
        self, x: Float[Array, "B T E"], reverse: bool, beyond: Float[Array, "B width_less_1 E"] | None = None
    ) -> Float[Array, "B T E"]:
        """``beyond``: the tokens before the first; None: those of another device, or zeros."""
        kernel, width, tokens = self.kernel[...].astype(x.dtype), len(self.kernel[...]), x.shape[1]
        if is_spread() and x.shape[1] < width - 1:
            raise UserError(
                f"{setting('conv_width')} is {width}, which looks {width - 1} tokens back, but a device that shares "
                f"the frames holds {x.shape[1]}: give at most {x.shape[1] + 1}, or let fewer devices share the frames"
            )
        if beyond is None:
            beyond = neighbouring_tokens(x, width - 1, reverse=reverse)
        x = jnp.concatenate([x, beyond] if reverse else [beyond, x], axis=1)
        starts = [width - 1 - i for i in range(width)] if reverse else range(width)
        taps = (kernel[i] * x[:, start : start + tokens] for i, start in enumerate(starts))
        return sum(taps, self.bias[...].astype(x.dtype))
