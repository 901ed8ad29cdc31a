"""A whole pipeline as diffusers saves it, loaded and run against the original libraries."""

from functools import partial

import jax
import numpy as np
import pytest
import torch

from tests.checkpoint.pipelines import UNETS, make_models, save_pipeline
from tests.torch_weights import assert_close
from vrwkv_jax.checkpoint.conversion import convert
from vrwkv_jax.diffusion.schedule import NoiseSchedule
from vrwkv_jax.editing.components import Component, Components
from vrwkv_jax.models import params as P
from vrwkv_jax.models.video_config import VideoConfig

# Of the output's scale, with the reasons that stand in the tests of the models by themselves.
UNET_TOLERANCE, VAE_TOLERANCE, TEXT_TOLERANCE = 1e-4, 2e-5, 1e-5
PROMPTS = ["a jeep turns on a dusty road", ""]


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    directory = tmp_path_factory.mktemp("pipeline") / "sd"
    models = make_models()
    save_pipeline(directory, models)
    return directory, models


def load(directory, dtype=np.float32) -> Components:
    return Components.load(directory, video=VideoConfig(mixer="none"), dtype=np.dtype(dtype), seed=0)


def run(component: Component, *args, method="__call__") -> jax.Array:
    return _run(component.graphdef, method, component.params, *args)


@partial(jax.jit, static_argnums=(0, 1))
def _run(graphdef, method, params, *args):
    return getattr(P.merge(graphdef, params), method)(*args)


def inputs():
    rng = np.random.default_rng(0)
    latents, text = rng.normal(size=(2, 1, 9, 14, 4)), rng.normal(size=(2, 7, 40))
    images = rng.uniform(-1, 1, size=(2, 18, 27, 3))
    return *(array.astype(np.float32) for array in (latents, text, images)), np.array([3, 981], np.int32)


def outputs(loaded: Components) -> list[np.ndarray]:
    latents, text, images, timesteps = inputs()
    return [
        np.asarray(array)
        for array in (
            run(loaded.unet, latents, timesteps, text)[:, 0],
            *run(loaded.vae, images, method="encode"),
            run(loaded.vae, latents[:, 0], method="decode"),
            run(loaded.text_encoder, loaded.tokenizer(PROMPTS)),
        )
    ]


def test_models_match_the_originals(pipeline):
    directory, models = pipeline
    loaded = load(directory)
    latents, text, images, timesteps = inputs()
    channels_first = [torch.from_numpy(array).permute(0, 3, 1, 2) for array in (latents[:, 0], images)]
    with torch.no_grad():
        unet = models["unet"].double()
        noise = unet(channels_first[0].double(), torch.tensor(timesteps), torch.from_numpy(text).double()).sample
        unet.float()
        posterior = models["vae"].encode(channels_first[1]).latent_dist
        decoded = models["vae"].decode(channels_first[0]).sample
        hidden = models["text_encoder"](torch.from_numpy(loaded.tokenizer(PROMPTS)).long()).last_hidden_state
    expected = (noise, posterior.mean, posterior.logvar, decoded, hidden)
    tolerances = (UNET_TOLERANCE, VAE_TOLERANCE, VAE_TOLERANCE, VAE_TOLERANCE, TEXT_TOLERANCE)
    for actual, oracle, tolerance in zip(outputs(loaded), expected, tolerances, strict=True):
        assert_close(actual, oracle, tolerance)


def test_a_distilled_model_as_diffusers_saves_it(tmp_path):
    """No mid block, and told the guidance scale; with mixers where there are places for them."""
    models = make_models(UNETS["sd1"] | {"mid_block_type": None, "time_cond_proj_dim": 16})
    save_pipeline(tmp_path / "sd", models)
    loaded = Components.load(tmp_path / "sd", video=VideoConfig(), dtype=np.dtype(np.float32), seed=0)
    latents, text, _, timesteps = inputs()
    with torch.no_grad():
        noise = models["unet"].double()(
            torch.from_numpy(latents[:, 0]).permute(0, 3, 1, 2).double(),
            torch.tensor(timesteps),
            torch.from_numpy(text).double(),
        )
    assert any("/mixer/" in path for path in loaded.unet.params)
    assert_close(np.asarray(run(loaded.unet, latents, timesteps, text)[:, 0]), noise.sample, UNET_TOLERANCE)


def test_schedule_is_that_of_sd15(pipeline):
    assert load(pipeline[0]).schedule == NoiseSchedule()


def test_converted_checkpoint_computes_the_same_bits(pipeline, tmp_path):
    convert(pipeline[0], tmp_path / "converted")
    for actual, expected in zip(outputs(load(tmp_path / "converted")), outputs(load(pipeline[0])), strict=True):
        np.testing.assert_array_equal(actual, expected)


def test_type_is_that_of_the_unet_alone(pipeline):
    loaded = load(pipeline[0], "bfloat16")
    types = [{str(a.dtype) for a in part.params.values()} for part in (loaded.unet, loaded.vae, loaded.text_encoder)]
    assert types == [{"bfloat16"}, {"float32"}, {"float32"}]
