"""Latent consistency models: the scale of guidance is told to those that take it, and no other row is asked for."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from tests import tiny
from tests.models.tiny_unet import randomized
from tests.small import clip
from vrwkv_jax import Editor
from vrwkv_jax.checkpoint.save import save_pipeline
from vrwkv_jax.editing.settings import Sampling
from vrwkv_jax.models import params as P
from vrwkv_jax.models.deep_cache import DeepCache
from vrwkv_jax.models.tokenizer import write_byte_tokenizer
from vrwkv_jax.models.unet import UNet
from vrwkv_jax.models.video_config import VideoConfig
from vrwkv_jax.system.errors import UserError

SOURCE, TARGET, SCALE = "a red disc", "a blue disc", 5.0


@pytest.fixture(scope="module")
def editor(tmp_path_factory) -> Editor:
    path = tmp_path_factory.mktemp("lcm") / "checkpoint"
    config = dataclasses.replace(tiny.UNET, time_cond_proj_dim=8)
    unet = P.abstract(lambda rngs: UNet(config, VideoConfig(mixer="none"), rngs=rngs))[1]
    save_pipeline(path, tiny.tiny_models() | {"unet": (dataclasses.asdict(config), randomized(unet))}, tiny.SCHEDULER)
    write_byte_tokenizer(path / "tokenizer")
    return Editor.from_pretrained(path)


@pytest.fixture(scope="module")
def inversion(editor):
    return editor.invert(clip(), SOURCE, num_inference_steps=3, iterations=2, sampler="lcm")


@pytest.mark.parametrize(("interval", "every"), [((0.0, 1.0), 1), ((0.0, 0.4), 1), ((0.0, 1.0), 2)])
def test_a_model_that_takes_the_scale_is_told_it(interval, every, editor, inversion):
    """Outside of the interval it is told 1, which is no guidance. Deep blocks run ``every`` so many steps."""
    seen = []
    sampling = Sampling(guidance_scale=SCALE, sampler="lcm", guidance_interval=interval, cache_interval=every)
    edit = editor.edit(inversion, TARGET, sampling=sampling, callback=lambda *now: seen.append(np.asarray(now[-1])))
    assert inversion.row_calls == 3 * 2
    assert edit.row_calls == 3 if every == 1 else 2 < edit.row_calls < 3
    denoiser = editor.denoiser
    unet, text = P.merge(denoiser.graphdef, denoiser.params), editor.encode_prompts([TARGET])
    latents, alphas = inversion.latents, editor.schedule.alphas_cumprod
    for step, (at, to) in enumerate(((999, 679), (679, 339), (339, 0))):
        told = SCALE if step < round(interval[1] * 3) else 1.0
        cache = DeepCache(1) if step % every == 0 else DeepCache(1, cache.deep)
        output = unet(latents, jnp.asarray([at]), text, guidance=jnp.asarray([told]), cache=cache)
        original = (latents - np.sqrt(1 - alphas[at]) * output) / np.sqrt(alphas[at])
        latents = np.sqrt(alphas[to]) * original + np.sqrt(1 - alphas[to]) * output
    # Three steps' roundings, which a signal of 0.07 divides; the boundary condition's 3e-8 is among them.
    np.testing.assert_allclose(seen[-1], latents, rtol=0, atol=1e-4 * np.abs(inversion.trajectory).max())


def test_with_another_sampler_it_is_guided_as_any_model(editor):
    inversion = editor.invert(clip(), SOURCE, num_inference_steps=3, iterations=1)
    assert editor.edit(inversion, TARGET, sampling=Sampling(guidance_scale=SCALE)).row_calls == 2 * 3


def test_its_timesteps_are_its_own(editor, inversion):
    with pytest.raises(UserError, match="the clip was inverted for the sampler lcm, and unipc does not lead back"):
        editor.edit(inversion, TARGET, sampling=Sampling(sampler="unipc"))
    with pytest.raises(UserError, match="null-text inversion follows the steps of DDIM: choose sampler='ddim'"):
        editor.null_text(inversion, sampling=Sampling(sampler="lcm"))
    with pytest.raises(UserError, match="expected a whole number from 1 to 50 with the sampler lcm"):
        editor.check_clip(51, 16, 16, "lcm")
