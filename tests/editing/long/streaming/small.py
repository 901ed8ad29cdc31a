"""A tiny video U-Net whose mixers are far from the identity, a clip of noise, and both ways to ask it."""

from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tests.injections import EVERYWHERE
from tests.models.tiny_unet import TINY, abstract, randomized
from vrwkv_jax.diffusion.schedule import NoiseSchedule
from vrwkv_jax.editing.denoiser import Denoiser
from vrwkv_jax.editing.long.streaming.modes import Streaming
from vrwkv_jax.editing.long.streaming.streamed import StreamedUNet
from vrwkv_jax.models.mixers.vrwkv import VRWKVConfig
from vrwkv_jax.models.video_config import VideoConfig

TUNED_ON = 5  # frames
TIMESTEP, LENGTH = 421, 5
HEIGHT, WIDTH = 3, 4


def video(placement: tuple[str, ...] = ("skip", "mid"), skip_gate: bool = False, **settings: Any) -> VideoConfig:
    """With a decay that is the same for clips of any length."""
    return VideoConfig(
        placement=placement, skip_gate=skip_gate, vrwkv=VRWKVConfig(**{"decay_frames": TUNED_ON} | settings)
    )


@cache
def denoiser(config: VideoConfig, decay: float | None = None) -> Denoiser:
    """With random parameters, or with this ``decay`` in all channels of all recurrences over frames."""
    graphdef, shapes = abstract(config)
    params = randomized(shapes)
    for path, leaf in params.items():
        if path.endswith(("time/w", "joint/w")) and decay is not None:
            params[path] = np.full_like(leaf, np.log(decay * TUNED_ON))
    return Denoiser(graphdef, NoiseSchedule(), jax.tree.map(jnp.asarray, params), "float32")


def clip(frames: int, rows: int = 1, seed: int = 0) -> np.ndarray:
    """Rows of one edit: the first differs from the others, which are the same."""
    rng = np.random.default_rng(seed)
    size = (frames, HEIGHT, WIDTH, TINY.in_channels)
    source, edit = rng.normal(size=(2, 1, *size)).astype(np.float32)
    return np.concatenate([source, *[edit] * (rows - 1)])


def text(rows: int = 1) -> jax.Array:
    drawn = np.random.default_rng(1).normal(size=(rows, LENGTH, TINY.cross_attention_dim))
    return jnp.asarray(drawn, jnp.float32)


@jax.jit
def whole(denoiser: Denoiser, latents: np.ndarray, text: np.ndarray) -> jax.Array:
    """The prediction for the clip at once."""
    return denoiser.predict(latents, jnp.full(len(latents), TIMESTEP), text)


@jax.jit
def whole_beside(denoiser: Denoiser, latents: np.ndarray, text: np.ndarray, given: Any) -> tuple[jax.Array, jax.Array]:
    """That with controls, and the attention to words."""
    return denoiser.predict_beside(latents, jnp.full(len(latents), TIMESTEP), text, given, EVERYWHERE)


def streamed(
    denoiser: Denoiser,
    config: VideoConfig,
    latents: np.ndarray,
    mode: str,
    chunk_frames: int,
    look_ahead: int = 1,
    given: Any = None,
    asked: list[int] | None = None,
    **options: Any,
) -> tuple[np.ndarray, np.ndarray | None]:
    """The prediction chunk by chunk, and the attention to words. ``asked`` gets the chunks that are read."""
    streaming = Streaming(mode, chunk_frames, look_ahead)
    unet = StreamedUNet(denoiser, config, latents.shape[1], streaming)

    def read(chunk: int) -> np.ndarray:
        if asked is not None:
            asked.append(chunk)
        return latents[:, chunk * chunk_frames : (chunk + 1) * chunk_frames]

    layers = {} if given is None else {"injection": given, "layers": EVERYWHERE}
    outputs, maps = [], []
    for predicted in unet.predict(read, TIMESTEP, text(len(latents)), **layers, **options):
        assert predicted.chunk == len(outputs) and predicted.output.shape[1] == chunk_frames
        outputs.append(np.asarray(predicted.output)[:, : predicted.frames])
        if predicted.attention is not None:
            maps.append(np.asarray(predicted.attention)[:, : predicted.frames])
    return np.concatenate(outputs, axis=1), np.concatenate(maps, axis=1) if maps else None


def error(found: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference, of the scale of what is expected."""
    return float(np.abs(found - expected).max() / np.abs(expected).max())
