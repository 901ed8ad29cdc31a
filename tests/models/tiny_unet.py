"""A U-Net of one level, with every kind of part but the changes of resolution: what compiles in seconds."""

import re
from collections.abc import Callable

import jax
import numpy as np
from flax import nnx

from vrwkv_jax.models import params as P
from vrwkv_jax.models.params import Params
from vrwkv_jax.models.unet import UNet
from vrwkv_jax.models.unet_config import UNetConfig
from vrwkv_jax.models.video_config import VideoConfig

TINY = UNetConfig(
    in_channels=3,
    out_channels=3,
    block_out_channels=(16,),
    down_block_types=("DownBlock2D",),
    up_block_types=("UpBlock2D",),
    layers_per_block=1,
    norm_num_groups=4,
    attention_head_dim=2,
    cross_attention_dim=8,
)


def abstract(video: VideoConfig, config: UNetConfig = TINY):
    """The U-Net's graph definition and the shapes of its parameters."""
    return P.abstract(lambda rngs: UNet(config, video, rngs=rngs))


def randomized(shapes: Params, seed: int = 0) -> Params:
    """Parameters that are nowhere near their initial values: nothing is zero, one, or the same for all channels."""
    rng = np.random.default_rng(seed)

    def draw(path: str, shape: tuple[int, ...]) -> np.ndarray:
        if path.endswith("/kernel"):
            return rng.normal(size=shape) / np.sqrt(np.prod(shape[:-1]))
        if path.endswith("/scale"):
            return rng.uniform(0.5, 1.5, shape)
        return rng.normal(0.3, 0.5, shape)

    return {path: draw(path, leaf.shape).astype(np.float32) for path, leaf in shapes.items()}


def as_new(build: Callable[[nnx.Rngs], nnx.Module]):
    """Graph definition and parameters of ``build(rngs)``, with numpy's random numbers where it has JAX's, which would
    take longer to compile than the model."""
    graphdef, shapes = P.abstract(build)
    # What should be zero comes from the model.
    zero = re.compile("((spatio_temporal|mixer/attention|^attention|mamba)/to_out|channel/to_v)/kernel$")

    def not_random(path: str) -> bool:
        return not path.endswith("/kernel") or zero.search(path) is not None

    @jax.jit
    def initialize():
        return {path: leaf for path, leaf in P.split(build(P.Keys(0)))[1].items() if not_random(path)}

    return graphdef, randomized(shapes) | initialize()


def inputs(frames: int, height: int, width: int, *, clips: int = 1, seed: int = 0) -> tuple[np.ndarray, ...]:
    """Latents, timesteps and text for ``TINY``."""
    rng = np.random.default_rng(seed)
    latents = rng.normal(size=(clips, frames, height, width, TINY.in_channels)).astype(np.float32)
    text = rng.normal(size=(clips, 5, TINY.cross_attention_dim)).astype(np.float32)
    return latents, rng.integers(0, 1000, clips).astype(np.int32), text
