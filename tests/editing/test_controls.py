"""Edits that keep something of their source, and what they come to at the ends of each control."""

from functools import partial

import jaxtyping
import numpy as np
import pytest

from tests.small import clip
from vrwkv_jax import Editor
from vrwkv_jax.config import VideoConfig
from vrwkv_jax.editing import inversion as inversions
from vrwkv_jax.editing import kept_steps
from vrwkv_jax.editing.controls.config import ControlConfig
from vrwkv_jax.editing.kept_steps import KeptState
from vrwkv_jax.editing.settings import Sampling
from vrwkv_jax.system.errors import UserError

SOURCE, TARGET = "a red circle on grass", "a blue circle on grass"
STEPS = 4
EVERYWHERE = {"self_attention_layers": ("down_blocks", "mid_block", "up_blocks"), "feature_layers": ("up_blocks",)}


@pytest.fixture(scope="module")
def editor(checkpoint) -> Editor:
    return Editor.from_pretrained(checkpoint, video=VideoConfig(placement=("mid",)))


@pytest.fixture(scope="module")
def inversion(editor):
    return editor.invert(clip(), SOURCE, num_inference_steps=STEPS, iterations=4)


@pytest.fixture(scope="module")
def plain(editor, inversion):
    return editor.edit(inversion, TARGET, sampling=Sampling(guidance_scale=4.0))


def difference(one: np.ndarray, other: np.ndarray) -> int:
    return int(np.abs(one.astype(int) - other).max())


def test_neutral_controls_are_no_controls(editor, inversion, plain):
    neutral = ControlConfig(replace_words=True, **EVERYWHERE)
    edited = editor.edit(inversion, TARGET, sampling=Sampling(guidance_scale=4.0), controls=neutral)
    np.testing.assert_array_equal(edited.frames, plain.frames)
    assert edited.mask is None and plain.mask is None


def test_controls_whose_share_is_no_step(editor, inversion, plain):
    """Through the branch beside the source, from which nothing is taken."""
    edited = editor.edit(
        inversion, TARGET, sampling=Sampling(guidance_scale=4.0), controls=ControlConfig(features=0.01, mixer_keys=0.01)
    )
    assert difference(edited.frames, plain.frames) <= 1


@pytest.mark.parametrize(
    "controls",
    [
        {"cross_attention": 1.0},
        {"reweight": ("blue=4",)},
        {"self_attention": 1.0},
        {"features": 1.0},
        {"mixer_keys": 1.0},
    ],
    ids=lambda controls: next(iter(controls)),
)
def test_each_control_changes_the_edit(controls, editor, inversion, plain, request):
    if "mixer_keys" in controls:  # they begin as the identity
        params = {path: leaf for path, leaf in editor.unet.params.items() if "/mixer/" in path}
        rng = np.random.default_rng(0)
        params = {path: leaf + 0.1 * rng.normal(size=leaf.shape).astype(np.float32) for path, leaf in params.items()}
        editor = editor.with_unet_params(params)
        plain = editor.edit(inversion, TARGET, sampling=Sampling(guidance_scale=4.0))
    edited = editor.edit(
        inversion, TARGET, sampling=Sampling(guidance_scale=4.0), controls=ControlConfig(**EVERYWHERE, **controls)
    )
    assert difference(edited.frames, plain.frames) > 3


def test_the_source_beside_itself_changes_nothing(editor, inversion):
    """Under its own prompt and without guidance, all that could be taken over is there already."""
    everything = ControlConfig(cross_attention=1.0, self_attention=1.0, features=1.0, mixer_keys=1.0, **EVERYWHERE)
    reconstruction = editor.edit(inversion, SOURCE, sampling=Sampling(guidance_scale=1.0)).frames
    beside = editor.edit(inversion, SOURCE, sampling=Sampling(guidance_scale=1.0), controls=everything).frames
    assert difference(beside, reconstruction) <= 3  # the source is where inversion was, the edit where sampling is


def test_strength(editor, inversion, plain):
    decoded = editor.decode(inversion.source)
    np.testing.assert_array_equal(editor.edit(inversion, TARGET, sampling=Sampling(strength=0.0)).frames, decoded)
    seen = []
    half = editor.edit(
        inversion,
        TARGET,
        sampling=Sampling(guidance_scale=4.0, strength=0.5),
        callback=lambda step, *_: seen.append(step),
    )
    assert seen == [0, 1]
    assert difference(half.frames, decoded) > 3 and difference(half.frames, plain.frames) > 3


def test_a_mask_keeps_the_rest(editor, inversion, plain):
    decoded, shape = editor.decode(inversion.source), inversion.source.shape[1:4]
    nowhere, everywhere = np.zeros(shape, bool), np.ones(shape, bool)
    kept = editor.edit(inversion, TARGET, sampling=Sampling(guidance_scale=4.0), mask=nowhere)
    np.testing.assert_array_equal(kept.frames, decoded)
    free = editor.edit(inversion, TARGET, sampling=Sampling(guidance_scale=4.0), mask=everywhere)
    np.testing.assert_array_equal(free.frames, plain.frames)


def test_local_blend(editor, inversion):
    controls = ControlConfig(blend=("circle",), blend_start=0.0, blend_dilation=0, blend_threshold=0.9)
    latents = []
    edited = editor.edit(
        inversion,
        TARGET,
        sampling=Sampling(guidance_scale=4.0),
        controls=controls,
        callback=lambda *now: latents.append(now[-1]),
    )
    assert edited.mask.shape == inversion.source.shape[1:4] and edited.mask.dtype == bool
    assert 0 < edited.mask.mean() < 1
    last, source = np.asarray(latents[-1]), np.asarray(inversion.source)
    np.testing.assert_array_equal(last[0, ~edited.mask], source[0, ~edited.mask])
    assert (last[0, edited.mask] != source[0, edited.mask]).any()


def test_local_blend_that_goes_on(editor, inversion, tmp_path, monkeypatch):
    """Also where nothing but decoding was left to do."""
    monkeypatch.setattr(kept_steps, "SECONDS", 0.0)
    controls = ControlConfig(blend=("circle",), blend_threshold=0.9)
    edit = partial(editor.edit, inversion, TARGET, controls=controls)
    whole = edit(kept=KeptState(tmp_path / "state.npz"))
    again = edit(kept=KeptState(tmp_path / "state.npz"))
    np.testing.assert_array_equal(again.mask, whole.mask)
    np.testing.assert_array_equal(again.frames, whole.frames)


def test_words_to_blend_must_be_there(editor, inversion):
    with pytest.raises(UserError, match="'cat' is in neither prompt"):
        editor.edit(inversion, TARGET, controls=ControlConfig(blend=("cat",)))


def test_guidance_away_from_the_source_leaves_the_same_prompt_alone(editor, inversion):
    unguided = editor.edit(inversion, SOURCE, sampling=Sampling(guidance_scale=1.0)).frames
    guided = editor.edit(inversion, SOURCE, negative_prompt=SOURCE, sampling=Sampling(guidance_scale=9.0)).frames
    assert difference(guided, unguided) <= 1
    assert difference(editor.edit(inversion, SOURCE, sampling=Sampling(guidance_scale=9.0)).frames, unguided) > 3


def test_a_large_trajectory_is_kept_in_a_file(editor, inversion, monkeypatch):
    monkeypatch.setattr(inversions, "LARGE", 100)
    mapped = editor.invert(clip(), SOURCE, num_inference_steps=STEPS, iterations=4)
    assert isinstance(mapped.trajectory, np.memmap)
    np.testing.assert_array_equal(mapped.trajectory, inversion.trajectory)


def test_shares_count_the_steps_that_are_sampled(editor, inversion):
    """Half of two steps is one, so the last of them is not controlled; the two that strength leaves out don't count."""
    half, controls = {"guidance_scale": 4.0, "strength": 0.5}, {"features": 0.5, "feature_layers": ("up_blocks",)}
    plain = editor.edit(inversion, TARGET, **half)
    first, both = (
        editor.edit(inversion, TARGET, **half, controls=ControlConfig(**{**controls, "features": share}))
        for share in (0.5, 1.0)
    )
    assert difference(first.frames, plain.frames) > 3
    assert difference(first.frames, both.frames) > 3


def test_mixers_that_are_not_there(checkpoint):
    without = Editor.from_pretrained(checkpoint, video=VideoConfig(mixer="none"))
    with pytest.raises(UserError, match=r"^mixer_keys is 0\.5, and this model has no mixer: leave it out"):
        without.check_controls(ControlConfig(mixer_keys=0.5), SOURCE, [TARGET])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sampling": {"strength": 1.5}}, "strength 1.5 is not between 0 and 1"),
        ({"sampling": {"sampler": "dpm"}}, "sampler 'dpm' is not one of ddim, dpm\\+\\+, dpm"),
        (
            {"sampling": {"sampler": "dpm++", "eta": 0.5}},
            "eta 0.5 is for DDIM or LCM, the sampler dpm",
        ),
        ({"mask": np.ones((2, 3, 4), bool)}, r"the mask has the shape \(2, 3, 4\), expected"),
        ({"negative_prompt": np.zeros((3, 77, 8), np.float32)}, "negative_prompt is for 3 steps, expected 4, or 1"),
    ],
)
def test_values_that_are_not_possible(values, message, editor, inversion, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # outside of tests nobody else checks the type
    with pytest.raises(UserError, match=message):
        sampling = Sampling(**values.pop("sampling", {}))
        editor.edit(inversion, TARGET, sampling=sampling, **values)


@pytest.fixture(scope="module")
def fine(editor):
    return editor.invert(clip(), SOURCE, num_inference_steps=25)


@pytest.mark.parametrize(
    "sampler", ["ddim", "dpm++", *(pytest.param(n, marks=pytest.mark.long) for n in ("dpm++3m", "unipc"))]
)
def test_more_steps_come_to_the_same_clip(sampler, editor, fine):
    """Unguided sampling solves an equation; from one noise, all of these come to its solution."""
    back = editor.edit(fine, SOURCE, sampling=Sampling(guidance_scale=1.0, sampler=sampler)).frames
    assert np.abs(back.astype(float) - editor.decode(fine.source)).mean() < 4


@pytest.mark.parametrize(
    ("controls", "message"),
    [
        ({"features": 0.5, "feature_layers": ("up_blocks/7",)}, "^feature_layers 'up_blocks/7' is no place"),
        ({"features": 0.5, "feature_layers": ("up_blocks/0/attentions/0",)}, "with such a layer; expected one of"),
        (
            {"features": 0.5, "feature_layers": ("up_blocks/0/resnets/0/conv1",)},
            "a part such as up_blocks/1/resnets/",
        ),
        ({"self_attention": 0.5, "self_attention_layers": ("up",)}, "mid_block, up_blocks/0, up_blocks/1, or a part"),
    ],
)
def test_layers_that_are_not_there(editor, inversion, controls, message):
    with pytest.raises(UserError, match=message):
        editor.edit(inversion, TARGET, controls=ControlConfig(**controls))
