"""The model and the clip that the package brings along."""

from dataclasses import fields

import jax
import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from transformers import CLIPTokenizer

from tests.checkpoint.test_save import load_strictly
from vrwkv_jax import Editor, built_in
from vrwkv_jax.config import VideoConfig
from vrwkv_jax.evaluation.image_quality import draw, image_quality
from vrwkv_jax.world import Scene, is_held_out, render

pytestmark = pytest.mark.usefixtures("optimised")


def image_editor() -> Editor:
    return Editor.from_pretrained(built_in.MODEL, video=VideoConfig(mixer="none"))


@pytest.mark.long
def test_diffusers_draws_the_same_pictures_with_it():
    """Through its own pipeline, from the same noise."""
    prompts, steps = ["a red circle on grass", "Ein grüner Ball, night & day"], 4
    tokenizer = CLIPTokenizer.from_pretrained(built_in.MODEL / "tokenizer", local_files_only=True)
    pipeline = StableDiffusionPipeline(
        **{part: load_strictly(built_in.MODEL / part).float() for part in ("unet", "vae", "text_encoder")},
        tokenizer=tokenizer,
        scheduler=DDIMScheduler.from_pretrained(built_in.MODEL / "scheduler"),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    noise = np.asarray(jax.random.normal(jax.random.fold_in(jax.random.key(7), 0), (2, 1, 16, 16, 4)))
    latents = torch.from_numpy(np.moveaxis(noise[:, 0], -1, 1).copy())
    theirs = pipeline(prompts, latents=latents, num_inference_steps=steps, guidance_scale=4.0, output_type="np").images
    ours = draw(image_editor(), prompts, guidance_scale=4.0, num_inference_steps=steps, seed=7, size=64)
    assert np.abs(ours - 255 * theirs).max() < 1.5  # rounding, and float32 on the way


def test_it_draws_what_it_is_told():
    shares, pictures = image_quality(image_editor(), count=25, num_inference_steps=12, seed=3)
    assert pictures.shape == (25, 64, 64, 3)
    assert shares["colour"] >= 0.9 and shares["background"] >= 0.9, shares
    assert shares["shape"] >= 0.85, shares  # one in eight by chance


def test_it_is_small_and_has_a_card():
    files = [path for path in built_in.MODEL.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 20e6
    card = (built_in.MODEL / "README.md").read_text()
    assert "python -m train.pretrain_shapes --frames" in card and "Colour right" in card


def test_the_clip_is_one_that_training_never_saw():
    clip = built_in.clip(5, 64, 64)
    np.testing.assert_array_equal(clip, render(built_in.SCENE, 5, 64)[0])
    assert is_held_out(built_in.SCENE)
    np.testing.assert_array_equal(built_in.clip(5, 64, 48), clip[:, 8:56])
    for scene in built_in.EDITS:
        changed = [f.name for f in fields(Scene) if getattr(scene, f.name) != getattr(built_in.SCENE, f.name)]
        assert len(changed) == 1
    assert len(set(built_in.EDIT_PROMPTS)) == 3
