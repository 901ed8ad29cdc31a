"""Whether a text-to-image model of the rendered world draws what it is told."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

from vrwkv_jax.diffusion.samplers.registry import SAMPLERS
from vrwkv_jax.editing.editor import Editor
from vrwkv_jax.editing.settings import Sampling
from vrwkv_jax.editing.steps import sampling_step
from vrwkv_jax.evaluation.match import match
from vrwkv_jax.typing import UInt8
from vrwkv_jax.world import Scene, caption, random_scene

BATCH = 25


def unseen_scenes(count: int, seed: int) -> list[Scene]:
    """Scenes of one thing, in plain style and upright, in combinations that training never saw."""
    rng = np.random.default_rng(seed)
    scenes = [random_scene(rng, held_out=True, things=1) for _ in range(count)]
    return [Scene((replace(s.things[0], motion="still", angle=0.0),), s.background) for s in scenes]


def image_quality(
    editor: Editor, *, count: int = 200, guidance_scale: float = 4.0, num_inference_steps: int = 25, seed: int = 0
) -> tuple[dict[str, float], UInt8[np.ndarray, "N S S 3"]]:
    """Draws ``count`` unseen prompts and says which share of the pictures is right.

    Returns:
        the shares ``colour``, ``shape``, ``background`` and ``all`` of them; the pictures.
    """
    scenes = unseen_scenes(count, seed)
    pictures = draw(editor, [caption(s) for s in scenes], guidance_scale, num_inference_steps, seed)
    found = [match(picture) for picture in pictures]
    right = {
        "colour": [m.colour == s.things[0].colour for m, s in zip(found, scenes, strict=True)],
        "shape": [m.shape == s.things[0].shape for m, s in zip(found, scenes, strict=True)],
        "background": [m.background == s.background for m, s in zip(found, scenes, strict=True)],
    }
    right["all"] = [all(values) for values in zip(*right.values(), strict=True)]
    return {name: float(np.mean(values)) for name, values in right.items()}, pictures


def draw(
    editor: Editor, prompts: list[str], guidance_scale: float, num_inference_steps: int, seed: int, size: int = 64
) -> UInt8[np.ndarray, "N S S 3"]:
    """One picture per prompt, from noise, with DDIM."""
    config = editor.components.vae_config
    side, pictures = size // config.downscale, []
    for start in range(0, len(prompts), BATCH):
        batch = prompts[start : start + BATCH]
        text = jnp.concatenate([editor.encode_prompts([""] * len(batch)), editor.encode_prompts(batch)])
        key = jax.random.fold_in(jax.random.key(seed), start)
        latents = jax.random.normal(key, (len(batch), 1, side, side, config.latent_channels))
        sampling = Sampling(guidance_scale=guidance_scale)
        state = SAMPLERS[sampling.sampler].init(latents)
        grid = zip(
            editor.schedule.timesteps(num_inference_steps),
            editor.schedule.previous_timesteps(num_inference_steps),
            strict=True,
        )
        for timestep, previous in grid:
            latents, state = sampling_step(
                editor.denoiser,
                latents,
                state=state,
                timestep=timestep,
                previous_timestep=previous,
                encoder_hidden_states=text,
                guidance=sampling.guidance,
                sampler=sampling.sampler,
                eta=sampling.eta,
                key=key,
            )
        pictures.append(editor.decode(latents.swapaxes(0, 1)))
    return np.concatenate(pictures)
