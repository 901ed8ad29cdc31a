"""The source's row is asked for only while a control needs it; the edit is that with the row in every step."""

import jax
import numpy as np
import pytest

from tests.small import clip
from vrwkv_jax import Editor
from vrwkv_jax.config import VideoConfig
from vrwkv_jax.editing import kept_steps, sampling
from vrwkv_jax.editing.controls.base import Needs
from vrwkv_jax.editing.controls.config import ControlConfig
from vrwkv_jax.editing.kept_steps import KeptState
from vrwkv_jax.editing.settings import Sampling

SOURCE, TARGET, STEPS = "a red disc", "a blue disc", 5
GUIDED = Sampling(guidance_scale=3.0)
PLACES = {"feature_layers": ("up_blocks",), "self_attention_layers": ("mid_block",)}


@pytest.fixture(scope="module")
def editor(tiny_checkpoint) -> Editor:
    """With mixers that are no identity."""
    editor = Editor.from_pretrained(tiny_checkpoint, video=VideoConfig(placement=("mid",)))
    rng = np.random.default_rng(0)
    mixers = {path: leaf for path, leaf in editor.unet.params.items() if "/mixer/" in path}
    return editor.with_unet_params(
        {path: leaf + 0.1 * rng.normal(size=leaf.shape).astype(np.float32) for path, leaf in mixers.items()}
    )


@pytest.fixture(scope="module")
def inversion(editor):
    return editor.invert(clip(2)[:, :8, :8], SOURCE, num_inference_steps=STEPS, iterations=1)


def edited(editor, inversion, controls, **options):
    """The latents after every step, where they were free to change, and the row-calls."""
    latents = []
    edit = editor.edit(
        inversion,
        TARGET,
        controls=ControlConfig(**PLACES, **controls),
        callback=lambda *now: latents.append(np.asarray(now[-1])),
        **options,
    )
    return latents, edit.mask, edit.row_calls


WITH, WITHOUT = 3, 2  # rows of a guided step
CASES = [
    ({"cross_attention": 0.6}, GUIDED, 3 * WITH + 2 * WITHOUT),
    ({"cross_attention": 0.2, "cross_attention_words": ("disc=0.4",)}, GUIDED, 2 * WITH + 3 * WITHOUT),
    ({"reweight": ("blue=3",)}, GUIDED, 5 * WITHOUT),
    ({"reweight": ("blue=3",), "features": 0.4}, GUIDED, 2 * WITH + 3 * WITHOUT),
    ({"reweight": ("blue=3",)}, Sampling(guidance_scale=1.0), 5),
    ({"self_attention": 0.6}, GUIDED, 3 * WITH + 2 * WITHOUT),
    ({"features": 0.6, "cross_attention": 0.4}, GUIDED, 3 * WITH + 2 * WITHOUT),
    ({"mixer_keys": 0.4}, GUIDED, 2 * WITH + 3 * WITHOUT),
    ({"features": 0.6}, Sampling(guidance_scale=1.0), 3 * 2 + 2 * 1),
    ({"features": 0.6}, Sampling(guidance_scale=3.0, sampler="dpm++"), 3 * WITH + 2 * WITHOUT),
    ({"features": 0.6}, Sampling(guidance_scale=3.0, eta=0.5, guidance_rescale=0.5), 3 * WITH + 2 * WITHOUT),
    ({"features": 0.6}, Sampling(guidance_scale=3.0, strength=0.8), 2 * WITH + 2 * WITHOUT),
    ({"features": 0.6}, Sampling(guidance_scale=3.0, guidance_interval=(0.2, 0.8)), 2 + 3 + 3 + 2 + 1),
    ({"features": 0.01}, GUIDED, 5 * WITHOUT),
    ({"features": 1.0}, GUIDED, 5 * WITH),
    ({"features": 0.4, "blend": ("disc",), "blend_threshold": 0.9}, GUIDED, 5 * WITH),
]


@pytest.mark.parametrize(("controls", "settings", "row_calls"), CASES)
def test_is_the_edit_with_the_row_in_every_step(controls, settings, row_calls, editor, inversion, monkeypatch):
    actual, mask, asked = edited(editor, inversion, controls, sampling=settings)
    assert asked == row_calls
    monkeypatch.setattr(sampling, "needs", lambda injection: Needs.SOURCE)
    expected, expected_mask, everywhere = edited(editor, inversion, controls, sampling=settings)
    guided = [settings.is_guided_in(step, len(expected)) for step in range(len(expected))]
    assert everywhere == 2 * len(expected) + sum(guided)
    assert len(actual) == len(expected)
    for one, other in zip(actual, expected, strict=True):
        # The same numbers, in batches of another size: rounding that the steps add up.
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-5 * np.abs(other).max())
    np.testing.assert_array_equal(mask, expected_mask)


def test_a_mask_alone_needs_no_source(editor, inversion):
    mask = np.arange(8)[:, None] < np.full((2, 8, 8), 4)
    latents, _, row_calls = edited(editor, inversion, {"features": 0.4}, sampling=GUIDED, mask=mask)
    assert row_calls == 2 * WITH + 3 * WITHOUT
    np.testing.assert_array_equal(latents[-1][0, ~mask], inversion.source[0, ~mask])
    assert edited(editor, inversion, {}, sampling=GUIDED, mask=mask)[2] == 5 * WITHOUT


@pytest.mark.parametrize(("last", "name"), [(1, "dpm++"), (2, "dpm++"), (3, "dpm++"), (3, "dpm++3m"), (3, "unipc")])
def test_goes_on_before_at_and_after_the_last_step_with_the_source(
    last, name, editor, inversion, tmp_path, monkeypatch
):
    """With an embedding for each step, as null-text inversion finds them, and what the samplers look back on."""
    monkeypatch.setattr(kept_steps, "SECONDS", 0.0)
    options = {
        "controls": ControlConfig(features=0.6, **PLACES),
        "sampling": Sampling(guidance_scale=3.0, sampler=name),
        "negative_prompt": jax.random.normal(jax.random.key(0), (STEPS, *editor.text_shape(1).shape[1:])),
    }
    whole = editor.edit(inversion, TARGET, **options)
    kept = KeptState(tmp_path / "state.npz")
    stopped = editor.edit(inversion, TARGET, kept=kept, callback=lambda step, *_: step < last - 1, **options)
    assert stopped.row_calls == sum((WITH, WITH, WITH, WITHOUT, WITHOUT)[:last])
    again = editor.edit(inversion, TARGET, kept=KeptState(tmp_path / "state.npz"), **options)
    np.testing.assert_array_equal(again.frames, whole.frames)
    assert again.row_calls == whole.row_calls == 3 * WITH + 2 * WITHOUT
