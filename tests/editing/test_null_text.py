"""Null-text inversion: guided sampling under the clip's own words leads back to the clip."""

import numpy as np
import pytest

from tests.small import clip
from vrwkv_jax import Editor
from vrwkv_jax.editing.settings import Sampling
from vrwkv_jax.models.video_config import VideoConfig

pytestmark = pytest.mark.usefixtures("optimised")
SOURCE = "a red circle on grass"
STEPS = 4


@pytest.fixture(scope="module")
def editor(tiny_checkpoint) -> Editor:
    return Editor.from_pretrained(tiny_checkpoint, video=VideoConfig(placement=("mid",)))


@pytest.mark.parametrize("inverted_under", ["", pytest.param(SOURCE, marks=pytest.mark.long)])
def test_null_text_leads_back_to_the_clip(inverted_under, editor):
    """Whatever it was inverted under; and ends where its callback says so."""
    options = {"source_prompt": SOURCE, "sampling": Sampling(guidance_scale=4.0), "iterations": 20}

    def error(negative):
        frames = editor.edit(inversion, SOURCE, negative_prompt=negative, sampling=Sampling(guidance_scale=4.0)).frames
        return np.square(frames.astype(float) - editor.decode(inversion.source)).mean()

    inversion = editor.invert(clip(), inverted_under, num_inference_steps=STEPS, iterations=4)
    found = editor.null_text(inversion, **options)
    assert found.shape[0] == STEPS
    assert error(found) < 0.7 * error("")
    seen = []
    stopped = editor.null_text(inversion, **options, callback=lambda step, *_: seen.append(step) or step < 1)
    assert seen == [0, 1]
    np.testing.assert_array_equal(stopped, found[:2])


def test_steps_that_are_not_guided_need_nothing(editor):
    """They keep the embedding of the step before, ask once, and an edit leads back as far as without an interval."""
    sampling, counted = Sampling(guidance_scale=4.0, guidance_interval=(0.0, 0.5)), []
    inversion = editor.invert(clip(), SOURCE, num_inference_steps=STEPS, iterations=4)
    found = editor.null_text(inversion, sampling=sampling, iterations=20, counted=counted.append)
    np.testing.assert_array_equal(found[1:2].repeat(3, 0), found[1:])
    assert (found[0] != found[1]).any() and (found[0] != editor.encode_prompts([""])[0]).any()
    assert 2 * (1 + 1) + 2 * 1 < counted[0] <= 2 * (20 + 2) + 2 * 1
    every = editor.null_text(inversion, sampling=Sampling(guidance_scale=4.0), iterations=20)
    np.testing.assert_array_equal(every[:2], found[:2])  # what comes later has no part in it

    def error(negative):
        frames = editor.edit(inversion, SOURCE, negative_prompt=negative, sampling=sampling).frames
        return np.square(frames.astype(float) - editor.decode(inversion.source)).mean()

    assert error(found) < 0.7 * error("")
