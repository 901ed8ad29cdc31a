"""Whether a text-to-image model of the rendered world draws what it is told."""

from dataclasses import replace

import jax
import numpy as np

from vrwkv_jax.editing.editor import Editor
from vrwkv_jax.editing.settings import Sampling
from vrwkv_jax.editing.text_to_image import TextToImage
from vrwkv_jax.evaluation.match import match
from vrwkv_jax.evaluation.texture import looks_like
from vrwkv_jax.typing import UInt8
from vrwkv_jax.world import Scene, Thing, caption, random_scene, render_frame
from vrwkv_jax.world.drawing import coverage
from vrwkv_jax.world.scene import COLOURS, MATERIALS, SIZES, stands_out

BATCH = 25
BROAD_SHAPES = ("circle", "square", "heart", "star")  # of which enough is seen to tell a material


def unseen_scenes(count: int, seed: int) -> list[Scene]:
    """Scenes of one thing, in plain style and upright, in combinations that training never saw."""
    rng = np.random.default_rng(seed)
    scenes = [random_scene(rng, held_out=True, things=1) for _ in range(count)]
    return [Scene((replace(s.things[0], motion="still", angle=0.0),), s.background) for s in scenes]


def image_quality(
    editor: Editor,
    *,
    count: int = 200,
    size: int = 64,
    guidance_scale: float = 4.0,
    num_inference_steps: int = 25,
    seed: int = 0,
) -> tuple[dict[str, float], UInt8[np.ndarray, "N S S 3"]]:
    """Draws ``count`` unseen prompts and says which share of the pictures is right.

    Returns:
        the shares ``colour``, ``shape``, ``background`` and ``all`` of them; the pictures.
    """
    scenes = unseen_scenes(count, seed)
    pictures = draw(editor, [caption(s) for s in scenes], guidance_scale, num_inference_steps, seed, size)
    found = [match(picture) for picture in pictures]
    right = {
        "colour": [m.colour == s.things[0].colour for m, s in zip(found, scenes, strict=True)],
        "shape": [m.shape == s.things[0].shape for m, s in zip(found, scenes, strict=True)],
        "background": [m.background == s.background for m, s in zip(found, scenes, strict=True)],
    }
    right["all"] = [all(values) for values in zip(*right.values(), strict=True)]
    return {name: float(np.mean(values)) for name, values in right.items()}, pictures


def material_quality(
    editor: Editor,
    *,
    count: int = 100,
    size: int = 64,
    guidance_scale: float = 4.0,
    num_inference_steps: int = 25,
    seed: int = 0,
) -> tuple[float, float, UInt8[np.ndarray, "N S S 3"]]:
    """The share of ``count`` pictures of one large thing whose material is right; that of true renders; the pictures.

    The second says how well materials can be told from such pictures at all.
    """
    rng = np.random.default_rng(seed)
    scenes: list[Scene] = []
    while len(scenes) < count:
        colour, shape, material = (str(rng.choice(names)) for names in (list(COLOURS), BROAD_SHAPES, MATERIALS))
        thing = Thing(shape, colour, size="large ", material=material, pattern=int(rng.integers(2**31)))
        if stands_out(colour, "white"):
            scenes.append(Scene((thing,), "white"))
    pictures = draw(editor, [caption(s) for s in scenes], guidance_scale, num_inference_steps, seed, size)
    true = np.stack([render_frame(scene, 0.5, size)[0] for scene in scenes])
    shares = (np.mean([_has_material(p, s) for p, s in zip(clip, scenes, strict=True)]) for clip in (pictures, true))
    return float(next(shares)), float(next(shares)), pictures


def _has_material(picture: UInt8[np.ndarray, "S S 3"], scene: Scene) -> bool:
    """Whether the thing looks like its material, wherever it was drawn, and however large."""
    found, thing = match(picture, expected_background=scene.background), scene.things[0]
    if found.shape is None:
        return False
    radius = SIZES[thing.size] * np.sqrt(found.foreground.sum() / coverage(thing, 0.5, picture.shape[0]).sum())
    placed = replace(thing, at=found.at, size=min(SIZES, key=lambda name: abs(SIZES[name] - radius)))
    mask = found.foreground.astype(np.float64)
    return looks_like(picture.astype(np.float64), replace(scene, things=(placed,)), 0.5, mask) == thing.material


def draw(
    editor: Editor, prompts: list[str], guidance_scale: float, num_inference_steps: int, seed: int, size: int
) -> UInt8[np.ndarray, "N S S 3"]:
    """One picture per prompt, from noise, with DDIM."""
    config = editor.components.vae_config
    side, pictures = size // config.downscale, []
    for start in range(0, len(prompts), BATCH):
        batch = prompts[start : start + BATCH]
        key = jax.random.fold_in(jax.random.key(seed), start)
        drawn = TextToImage(editor)(
            batch,
            latents=jax.random.normal(key, (len(batch), 1, side, side, config.latent_channels)),
            num_inference_steps=num_inference_steps,
            sampling=Sampling(guidance_scale=guidance_scale),
        )
        pictures.append(drawn)
    return np.concatenate(pictures)
