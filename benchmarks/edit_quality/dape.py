"""DAPE (arXiv 2505.07057): an image U-Net tuned in two stages, its norms and then adapters; and norms beside vrwkv.

Stage 1 tunes norms alone, each of them with a share of what it normalises let through beside it:

    scale * Norm(x) + bias + gamma0 * x,   a scalar gamma0 per norm, from 0

Stage 2 freezes them and tunes adapters alone, which see one frame at a time:

    x + up(gelu(y + depthwise 5x5(y))),   y = down(gamma * LN(x) + gammax * x),   gamma from 0.1, gammax from 1

The paper tunes CCEdit: Stable Diffusion 1.5 with layers over the frames and a ControlNet of depth. Here it is the image
U-Net, in which nothing goes from frame to frame. The equations are from summaries of the paper; the rest is from its
authors' code (github.com/junhaoooxia/DAPE): the width of 64; adapters in the transformer blocks of the deepest decoder
level that has some, one each, after self-attention and again after the feed-forward; 400 steps at a rate of 5e-5, then
70 at 1e-5. The steps are shared out alike here, and the rates are to the one configured as those are to 3e-5, which is
ours with Stable Diffusion.

Where that code does not do what it says, this is a reading: as published it never puts its adjustable norms in, tunes
the norms of transformers alone, and looks for adapters under a name that they do not have. Here all norms of the U-Net
are adjustable and tuned, and ``up`` starts at zero, so that a new adapter is the identity (theirs is drawn). Left out:
a warm-up of 100 steps, and dropout in adapters.
"""

import re
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from flax import nnx

from vrwkv_jax.config import TuneConfig
from vrwkv_jax.editing.components import Component
from vrwkv_jax.editing.editor import Editor
from vrwkv_jax.models import params as P
from vrwkv_jax.models.attention import dot_product_attention
from vrwkv_jax.models.control import Control
from vrwkv_jax.models.layers import GroupNorm, layer_norm
from vrwkv_jax.models.parameter_rules import trained
from vrwkv_jax.models.params import Params
from vrwkv_jax.models.transformer import TransformerBlock
from vrwkv_jax.models.unet import UNet
from vrwkv_jax.tuning.optimizer import make_optimizer
from vrwkv_jax.tuning.step import tuning_step
from vrwkv_jax.typing import Array, Float, UInt8

WIDTH = 64
NORMS = re.compile(r"norm\w*/(norm/(scale|bias)|gamma0)$")
ADAPTERS = re.compile(r"/adapter/")


class Stage(NamedTuple):
    """What is tuned, in which share of the steps, and at how many times the rate."""

    tuned: re.Pattern[str]
    steps: float
    rate: float


STAGES = {
    "dape": (Stage(NORMS, 400 / 470, 5 / 3), Stage(ADAPTERS, 70 / 470, 1 / 3)),
    "dape even": (Stage(NORMS, 1 / 2, 5), Stage(ADAPTERS, 1 / 2, 1)),
    "vrwkv + norms": (Stage(re.compile(f"{trained('mixers', 'vrwkv').pattern}|{NORMS.pattern}"), 1, 1),),
}
"""By method. The second is DAPE at our rates for the small model, whose mixers have norms learn at 5 times the rate."""


class AdjustableNorm(nnx.Module):
    """A norm of the image model beside which its input goes on."""

    def __init__(self, norm: GroupNorm | nnx.LayerNorm):
        self.norm = norm
        self.gamma0 = nnx.Param(jnp.zeros(()))

    def __call__(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        normed: Array = self.norm(x)
        return normed + self.gamma0 * x


class Adapter(nnx.Module):
    """A new one is the identity."""

    def __init__(self, channels: int, *, rngs: nnx.Rngs):
        self.norm = layer_norm(channels, rngs=rngs)
        self.gamma, self.gammax = nnx.Param(jnp.full(channels, 0.1)), nnx.Param(jnp.ones(channels))
        self.down = nnx.Linear(channels, WIDTH, rngs=rngs)
        self.conv = nnx.Conv(WIDTH, WIDTH, (5, 5), padding=((2, 2),) * 2, feature_group_count=WIDTH, rngs=rngs)
        self.up = nnx.Linear(WIDTH, channels, kernel_init=nnx.initializers.zeros, rngs=rngs)

    def __call__(self, x: Float[Array, "B F H W C"]) -> Float[Array, "B F H W C"]:
        y = self.down(self.norm(x) * self.gamma + x * self.gammax)
        adapted: Array = self.up(jax.nn.gelu(y + self.conv(y), approximate=False))
        return x + adapted


class AdaptedBlock(TransformerBlock):
    """A block with an adapter after self-attention and, the same, after the feed-forward."""

    def __init__(self, block: TransformerBlock, *, rngs: nnx.Rngs):
        for name in ("norm1", "attn1", "norm2", "attn2", "norm3", "ff", "mixer"):
            setattr(self, name, getattr(block, name))
        self.adapter = Adapter(block.norm1.norm.num_features, rngs=rngs)

    def __call__(
        self, x: Float[Array, "B F H W C"], context: Float[Array, "B L E"], control: Control | None = None
    ) -> Float[Array, "B F H W C"]:
        frames, height, width = x.shape[1:4]

        def attend_to_text(q: Array, k: Array, v: Array) -> Array:
            if control is None:
                return dot_product_attention(q, k, v)
            return control.cross_attention(q, k, v, shape=(frames, height, width))

        tokens = rearrange(self.norm1(x), "b f h w c -> b f (h w) c")
        attended = self.attn1(tokens, dot_product_attention if control is None else control.self_attention)
        x = self.adapter(x + attended.reshape(x.shape))
        queries = rearrange(self.norm2(x), "b f h w c -> b (f h w) c")
        x = x + self.attn2(queries, context, attend_to_text).reshape(x.shape)
        x = self.adapter(x + self.ff(self.norm3(x)))
        return x if self.mixer is None else self.mixer(x, control)


def adapted(method: str, editor: Editor, seed: int) -> Editor:
    """The same editor, of the same edits, with adjustable norms outside the mixers and the method's adapters."""
    unet = P.merge(editor.unet.graphdef, editor.unet.params)
    for path, module in list(nnx.iter_modules(unet)):
        norms = {name: child for name, child in vars(module).items() if isinstance(child, GroupNorm | nnx.LayerNorm)}
        for name, norm in norms.items() if "mixer" not in path else ():
            setattr(module, name, AdjustableNorm(norm))
    if any(stage.tuned == ADAPTERS for stage in STAGES[method]):
        _adapt(unet, nnx.Rngs(seed))
    return replace(editor, components=replace(editor.components, unet=Component(*P.split(unet))))


def _adapt(unet: UNet, rngs: nnx.Rngs) -> None:
    level = next(block for block in unet.up_blocks if block.attentions is not None)
    for transformer in level.attentions:
        for i, block in enumerate(transformer.transformer_blocks):
            transformer.transformer_blocks[i] = AdaptedBlock(block, rngs=rngs)


class Tuned(NamedTuple):
    """The tuned parameters of all stages, and the seconds of each step but the first of a stage, which compiles."""

    params: Params
    seconds: list[float]


def tune_in_stages(method: str, editor: Editor, clip: UInt8[np.ndarray, "F H W 3"], config: TuneConfig) -> Tuned:
    """``tune``, stage after stage, in as many steps altogether."""
    key, latents, text = jax.random.key(config.seed), editor.encode(clip), editor.encode_prompts([config.prompt or ""])
    result = Tuned({}, [])
    for stage, steps in _steps(STAGES[method], config.tuning.steps):
        settings = replace(
            config.tuning,
            steps=len(steps),
            learning_rate=config.tuning.learning_rate * stage.rate,
            dtype=editor.dtype,
            remat=config.tuning.remat is True,
        )
        params = editor.unet.params | result.params
        tuned = {path: jnp.array(leaf, jnp.float32) for path, leaf in params.items() if stage.tuned.search(path)}
        frozen = {path: leaf for path, leaf in params.items() if path not in tuned}
        state = make_optimizer(settings).init(tuned)
        for step in steps:
            started = time.perf_counter()
            tuned, state, metrics = tuning_step(
                frozen=replace(editor.denoiser, params=frozen),
                tuned=tuned,
                optimizer_state=state,
                latents=latents,
                encoder_hidden_states=text,
                key=jax.random.fold_in(key, step),
                config=settings,
            )
            assert jnp.isfinite(metrics["loss"]), f"{method} diverged at step {step}"
            if step > steps[0]:
                result.seconds.append(time.perf_counter() - started)
        result.params.update(tuned)
    return result


def _steps(stages: tuple[Stage, ...], total: int) -> Iterator[tuple[Stage, range]]:
    """Each stage with the numbers of its steps, from 1."""
    share = 0.0
    for stage in stages:
        first, share = 1 + round(total * share), share + stage.steps
        yield stage, range(first, 1 + round(total * share))
