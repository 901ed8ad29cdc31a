"""A small U-Net with attention at both of its levels, and the image U-Net's attention to all frames by its side."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from tests.models.tiny_unet import TINY, abstract, randomized
from vrwkv_jax.diffusion.schedule import NoiseSchedule
from vrwkv_jax.editing.denoiser import Denoiser
from vrwkv_jax.models.unet_config import UNetConfig
from vrwkv_jax.models.video_config import VideoConfig

CONFIG = dataclasses.replace(
    TINY,
    block_out_channels=(8, 16),
    down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
    up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
)
HEIGHT, WIDTH, CHANNELS = 3, 5, 6  # odd: 2x3 at the lower level
RNG = np.random.default_rng(0)


def denoiser(attention: str = "frame", config: UNetConfig = CONFIG) -> Denoiser:
    """The same parameters whatever self-attention sees."""
    graphdef, shapes = abstract(VideoConfig(mixer="none", attention=attention), config)
    return Denoiser(graphdef, NoiseSchedule(), jax.tree.map(jnp.asarray, randomized(shapes)), "float32")


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def unit(*shape: int) -> np.ndarray:
    found = normal(*shape)
    return found / np.linalg.norm(found, axis=-1, keepdims=True)


def latents(frames: int) -> np.ndarray:
    return normal(frames, HEIGHT, WIDTH, CONFIG.in_channels)


def text(rows: int) -> np.ndarray:
    return normal(rows, 5, CONFIG.cross_attention_dim)


def softmax(scores: np.ndarray) -> np.ndarray:
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)
