"""One step of tuning makes every frame depend on every other one, before and behind it; none did so before."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models.tiny_unet import TINY, as_new, inputs
from vrwkv_jax.models import params as P
from vrwkv_jax.models.mixers.registry import MIXERS
from vrwkv_jax.models.mixers.vrwkv import VRWKVConfig
from vrwkv_jax.models.unet import UNet
from vrwkv_jax.models.video_config import VideoConfig

FRAMES = 5


def changed_frames(run: Callable, latents: jax.Array, frame: int) -> list[int]:
    """The frames whose prediction changes with one place of ``frame``."""
    difference = run(latents.at[:, frame, 1, 2].add(1)) - run(latents)
    return [f for f in range(FRAMES) if jnp.any(difference[:, f] != 0)]


OWN = {name: {"mixer": name} for name in MIXERS} | {
    "vrwkv in transformers": {"placement": ("transformer",)},
    "vrwkv, joint": {"vrwkv": VRWKVConfig(token_order="joint")},
    "vrwkv, joint, in transformers": {"vrwkv": VRWKVConfig(token_order="joint"), "placement": ("transformer",)},
}


@pytest.mark.parametrize("own", OWN.values(), ids=OWN)
def test_every_frame_reaches_every_other_one_after_one_step(own):
    """By mixers alone: attention and group normalisation stay within frames. What is no identity mixes at once."""
    video = VideoConfig(attention="frame", groupnorm_scope="frame", **own)
    graphdef, params = as_new(lambda rngs: UNet(TINY, video, rngs=rngs))
    latents, timesteps, text = map(jnp.asarray, inputs(FRAMES, 3, 4))
    noise = np.random.default_rng(1).normal(size=latents.shape)
    mixers = {path: leaf for path, leaf in params.items() if "/mixer/" in path}

    def loss(mixers, latents):
        prediction = P.merge(graphdef, params | mixers)(latents, timesteps, text)
        return jnp.mean((prediction - noise) ** 2), prediction

    step = jax.jit(jax.value_and_grad(loss, has_aux=True))
    for frame in (0, FRAMES // 2, FRAMES - 1):
        reached = [frame] if MIXERS[video.mixer].is_identity else list(range(FRAMES))
        assert changed_frames(lambda x: step(mixers, x)[0][1], latents, frame) == reached
    gradients = step(mixers, latents)[1]
    tuned = jax.tree.map(lambda leaf, gradient: leaf - 0.1 * gradient, mixers, gradients)
    for frame in (0, FRAMES // 2, FRAMES - 1):
        assert changed_frames(lambda x: step(tuned, x)[0][1], latents, frame) == list(range(FRAMES))
