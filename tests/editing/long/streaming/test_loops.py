"""Inversion and edits of a clip that is streamed are those of the clip at once, and go on where they were stopped."""

from functools import partial

import jax
import numpy as np
import pytest

from tests.editing.long.streaming.small import LENGTH, clip, denoiser, error, text, video
from tests.injections import EVERYWHERE, injection
from vrwkv_jax.diffusion.samplers.registry import SAMPLERS
from vrwkv_jax.editing.controls.config import ControlConfig
from vrwkv_jax.editing.inversion import Inversion, invert
from vrwkv_jax.editing.long.latents import InMemory
from vrwkv_jax.editing.long.streaming.invert import stream_invert
from vrwkv_jax.editing.long.streaming.modes import Streaming
from vrwkv_jax.editing.long.streaming.sample import stream_sample
from vrwkv_jax.editing.long.streaming.streamed import StreamedUNet
from vrwkv_jax.editing.loop import AfterStep
from vrwkv_jax.editing.sampling import FreePlaces, FromSource, sample
from vrwkv_jax.editing.settings import Sampling
from vrwkv_jax.system.errors import UserError

FRAMES, CHUNK, STEPS = 5, 3, 3
CONFIG = video()
INVERSE = SAMPLERS["ddim"].inverse_step


@pytest.fixture(scope="module")
def model():
    return denoiser(CONFIG)


@pytest.fixture(scope="module")
def unet(model):
    return StreamedUNet(model, CONFIG, FRAMES, Streaming("exact", CHUNK))


def after(what: str) -> AfterStep:
    return AfterStep(what, STEPS, "", None)


@pytest.fixture(scope="module")
def inversion(model) -> Inversion:
    inverted = invert(
        model,
        jax.numpy.asarray(clip(FRAMES)),
        text(),
        prompt="",
        num_inference_steps=STEPS,
        iterations=2,
        tolerance=0.0,
        sampler="ddim",
        kept=None,
        after_step=after("the inversion"),
    )
    return inverted


def in_chunks(latents: np.ndarray, step: int = 0) -> InMemory:
    store = InMemory()
    for chunk in range(2):
        store.write(step, chunk, latents[chunk * CHUNK : (chunk + 1) * CHUNK])
    return store


def joined(store: InMemory, step: int) -> np.ndarray:
    return np.concatenate([store.read(step, chunk) for chunk in range(2)])


def test_inversion(unet, inversion):
    """Stopped within its second step, and resumed at the beginning of that."""
    store = in_chunks(clip(FRAMES)[0])
    run = partial(stream_invert, unet, store, text(), num_inference_steps=STEPS, iterations=2, inverse_step=INVERSE)
    assert not run(on_chunk=lambda step, chunk: (step, chunk) != (1, 0))
    assert (1, 1) in store._kept and (2, 0) in store._kept and (2, 1) not in store._kept
    assert run(done=1)
    for step in range(STEPS + 1):
        assert error(joined(store, step), inversion.trajectory[step]) < 2e-5, step  # rounding adds up


@pytest.mark.parametrize("sampler", ["ddim", "dpm++"])
def test_sampling(sampler, model, unet, inversion):
    """With guidance but for the last step, beside the source in the first one, and free to change in a mask alone."""
    sampling = Sampling(guidance_scale=3.0, guidance_interval=(0.0, 0.7), sampler=sampler)
    given = injection(LENGTH, mixer_keys=True, features=True)
    source = FromSource([given, injection(LENGTH), injection(LENGTH)], EVERYWHERE)
    mask = np.random.default_rng(0).random((FRAMES, 3, 4)) < 0.6
    rows = text(3)[None]
    free = FreePlaces(ControlConfig(blend_start=0.3), mask, mask.shape)
    common = {"source": source, "seed": 1}
    expected = sample(
        model, inversion, rows, sampling, free=free, kept=None, after_step=after("sampling"), **common
    ).latents

    trajectory, edited, kept = InMemory(), InMemory(), InMemory()
    for step, latents in enumerate(inversion.trajectory):
        trajectory._kept |= in_chunks(latents, step)._kept
    common |= {"num_inference_steps": STEPS, "mask_start": 1, "sampler_states": kept}
    common["mask"] = lambda chunk: mask[chunk * CHUNK : (chunk + 1) * CHUNK]
    run = partial(stream_sample, unet, trajectory, edited, rows, sampling, **common)
    assert not run(on_chunk=lambda step, chunk: (step, chunk) != (1, 0))
    assert run(done=1)
    assert error(joined(edited, STEPS), expected[0]) < 5e-5  # rounding adds up, and guidance triples it
    free_places = np.abs(joined(edited, STEPS) - inversion.trajectory[0]).max(-1) > 0
    assert (free_places == mask).all()


def test_fresh_noise_differs_by_chunk_and_is_the_same_again(unet, inversion):
    trajectory = in_chunks(inversion.trajectory[STEPS], STEPS)
    results = []
    for seed in (1, 1, 2):
        edited = InMemory()
        sampling = Sampling(guidance_scale=1.0, eta=1.0)
        stream_sample(unet, trajectory, edited, text()[None], sampling, num_inference_steps=STEPS, seed=seed)
        results.append(joined(edited, 1))
    np.testing.assert_array_equal(results[0], results[1])
    noise = results[2] - results[0]
    assert np.abs(noise[0] - noise[CHUNK]).max() > 0.1


def test_what_needs_the_whole_clip_is_refused(unet):
    run = partial(stream_sample, unet, InMemory(), InMemory(), text()[None], num_inference_steps=STEPS)
    with pytest.raises(UserError, match=r"guidance_rescale is 0\.5, which measures contrast"):
        run(Sampling(guidance_rescale=0.5))
    words = injection(LENGTH, blend=np.ones((2, LENGTH), np.float32))
    with pytest.raises(UserError, match="blend finds its words over the whole clip"):
        run(Sampling(), source=FromSource([words] * STEPS, EVERYWHERE))
