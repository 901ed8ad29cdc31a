"""Pictures from sentences, against diffusers' own pipeline with the same weights and noise."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, StableDiffusionPipeline
from transformers import CLIPTokenizer

from tests.checkpoint.test_save import load_strictly
from vrwkv_jax import Sampling, TextToImage, built_in
from vrwkv_jax.system.errors import UserError

PROMPTS = ["a red circle on grass", "a large blue star at night, watercolour"]
STEPS = 4


@pytest.fixture(scope="module")
def draw(tiny_checkpoint) -> TextToImage:
    return TextToImage.from_pretrained(tiny_checkpoint)


@pytest.mark.usefixtures("optimised")
@pytest.mark.parametrize("sampler", [pytest.param("ddim", marks=pytest.mark.long), "dpm++"])
def test_diffusers_draws_the_same(sampler):
    """Under a negative prompt, with rescaled guidance, at a size that is no square."""
    config = DDIMScheduler.load_config(built_in.MODEL / "scheduler")
    scheduler = {
        "ddim": lambda: DDIMScheduler.from_config(config),
        "dpm++": lambda: DPMSolverMultistepScheduler.from_config(config, final_sigmas_type="zero"),
    }[sampler]()
    pipeline = StableDiffusionPipeline(
        **{part: load_strictly(built_in.MODEL / part).float() for part in ("unet", "vae", "text_encoder")},
        tokenizer=CLIPTokenizer.from_pretrained(built_in.MODEL / "tokenizer", local_files_only=True),
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    noise = np.asarray(jax.random.normal(jax.random.key(7), (2, 1, 12, 20, 4)))
    theirs = pipeline(
        PROMPTS,
        negative_prompt=["on sand"] * 2,
        latents=torch.from_numpy(np.moveaxis(noise[:, 0], -1, 1).copy()),
        num_inference_steps=STEPS,
        guidance_scale=3.0,
        guidance_rescale=0.7,
        output_type="np",
    ).images
    sampling = Sampling(guidance_scale=3.0, guidance_rescale=0.7, sampler=sampler)
    draw = TextToImage.from_pretrained(built_in.MODEL)
    ours = draw(
        PROMPTS, negative_prompt="on sand", latents=jnp.asarray(noise), num_inference_steps=STEPS, sampling=sampling
    )
    assert ours.shape == (2, 48, 80, 3)
    assert np.abs(ours - 255 * theirs).max() < 1.5  # rounding, and float32 on the way
    with pytest.raises(UserError, match="32x62 pixels, expected multiples of 4 for this model's VAE"):
        draw(PROMPTS, height=62, width=32)


def test_a_picture_is_its_seeds_and_places_own(draw):
    size = {"height": 32, "width": 48, "num_inference_steps": 2}
    both, alone = draw(PROMPTS, **size), draw(PROMPTS[0], **size)
    assert both.shape == (2, 32, 48, 3) and alone.shape == (1, 32, 48, 3)
    assert np.abs(both[0].astype(int) - alone[0]).max() <= 1  # sums of two rows may go in another order
    assert np.abs(draw([PROMPTS[0]] * 2, **size)[1].astype(int) - alone[0]).max() > 50  # another place, other noise
    assert np.abs(draw(PROMPTS[0], seed=1, **size)[0].astype(int) - alone[0]).max() > 50
    np.testing.assert_array_equal(draw(PROMPTS[0], **size), alone)


def test_a_callback_sees_every_step_and_may_end_them(draw):
    seen = []

    def callback(step, timestep, latents):
        seen.append((step, timestep, latents.shape))
        return step < 1

    draw(PROMPTS, height=32, width=32, num_inference_steps=3, callback=callback)
    timesteps = draw.editor.schedule.timesteps(3)
    assert seen == [(step, timesteps[step], (2, 1, 32, 32, 4)) for step in range(2)]


@pytest.mark.parametrize(
    "given, says",
    [
        ({"prompts": []}, "prompts is empty, expected what the pictures are to show"),
        ({"num_inference_steps": 0}, "num_inference_steps 0 is not between 1 and 1000"),
        ({"sampling": Sampling(strength=0.5)}, "strength is 0.5, which is for clips: leave it at 1.0"),
        ({"sampling": Sampling(cache_interval=2)}, "cache_interval is 2, which is for clips: leave it at 1"),
        ({"sampling": Sampling(sampler="bdia")}, "the sampler bdia goes from the inversion of a clip"),
        ({"latents": jnp.zeros((3, 1, 8, 8, 4))}, "there are latents for 3 pictures and 2 prompts"),
    ],
)
def test_mistakes(given, says, draw):
    with pytest.raises(UserError, match=re.escape(says)):
        draw(**{"prompts": PROMPTS, "height": 32, "width": 32, "num_inference_steps": 2} | given)
