"""Inversion that asks less: BDIA's, which is led back exactly, and fixed points that are near enough."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from tests.small import clip
from vrwkv_jax import Editor
from vrwkv_jax.diffusion.samplers.ddim import ddim_inverse_step
from vrwkv_jax.diffusion.schedule import NoiseSchedule
from vrwkv_jax.editing import kept_steps
from vrwkv_jax.editing.controls.config import ControlConfig
from vrwkv_jax.editing.kept_steps import KeptState, KeptTrajectory
from vrwkv_jax.editing.settings import Sampling
from vrwkv_jax.system.errors import UserError

SOURCE, TARGET = "a red disc", "a blue disc"
SCHEDULES = {
    "noise": NoiseSchedule(),
    "v": NoiseSchedule(
        prediction_type="v_prediction",
        timestep_spacing="trailing",
        rescale_betas_zero_snr=True,
        set_alpha_to_one=True,
    ),
}


@pytest.fixture(scope="module")
def editors(tiny_checkpoint) -> dict[str, Editor]:
    editor = Editor.from_pretrained(tiny_checkpoint)
    return {
        name: dataclasses.replace(editor, components=dataclasses.replace(editor.components, schedule=schedule))
        for name, schedule in SCHEDULES.items()
    }


@pytest.fixture(scope="module")
def editor(editors) -> Editor:
    return editors["noise"]


@pytest.fixture(scope="module")
def exact(editor):
    return editor.invert(clip(), SOURCE, num_inference_steps=5, iterations=1, sampler="bdia")


@pytest.mark.parametrize("steps", [2, 7, 21])
@pytest.mark.parametrize("kind", SCHEDULES)
def test_bdia_is_led_back_exactly(kind, steps, editors):
    """Under the same words, unguided, from either end. DDIM's inversion of 3 iterations misses by 0.6 to 0.006."""
    editor, seen = editors[kind], []
    inversion = editor.invert(clip(), SOURCE, num_inference_steps=steps, iterations=2, sampler="bdia")
    assert inversion.row_calls == steps - 1 + 2
    for strength in (1.0, 0.5):
        sampling = Sampling(guidance_scale=1.0, sampler="bdia", strength=strength)
        edit = editor.edit(inversion, SOURCE, sampling=sampling, callback=lambda *now: seen.append(now[-1]))
        assert edit.row_calls == min(steps - 1, round(strength * steps))
        # Each step rounds numbers as large as the largest, and the next ones add that up: 7e-6 of it in 21 steps.
        scale = np.abs(inversion.trajectory).max()
        np.testing.assert_allclose(seen[-1], inversion.source, rtol=0, atol=3e-5 * scale)


def test_bdia_with_controls_goes_on_after_an_interruption(editor, exact, tmp_path, monkeypatch):
    """The state on disk has both latents."""
    monkeypatch.setattr(kept_steps, "SECONDS", 0.0)
    options = {
        "controls": ControlConfig(features=0.5, feature_layers=("up_blocks",)),
        "sampling": Sampling(guidance_scale=3.0, sampler="bdia"),
    }
    whole = editor.edit(exact, TARGET, **options)
    assert whole.row_calls == 2 * 3 + 2 * 2
    plain = editor.edit(exact, TARGET, sampling=options["sampling"])
    assert plain.row_calls == 4 * 2 and (plain.frames != whole.frames).any()
    for stop in (0, 2):
        path = tmp_path / f"{stop}.npz"
        editor.edit(exact, TARGET, kept=KeptState(path), callback=lambda step, *_, s=stop: step < s, **options)
        again = editor.edit(exact, TARGET, kept=KeptState(path), **options)
        np.testing.assert_array_equal(again.frames, whole.frames)
        assert again.row_calls == whole.row_calls


@pytest.mark.parametrize(
    "options", [{"sampler": "bdia"}, {"tolerance": 0.02, "iterations": 9}], ids=lambda o: next(iter(o))
)
def test_an_inversion_goes_on_after_an_interruption(options, editor, tmp_path):
    """And counts the row-calls of both parts."""
    source = editor.encode(clip())
    options = {"prompt": SOURCE, "num_inference_steps": 5, **options}
    whole = editor.invert_latents(source, **options)
    for stop in (0, 2):
        kept = KeptTrajectory(tmp_path / f"{stop}.npy", np.asarray(source)[0], 5)
        stopped = editor.invert_latents(source, kept=kept, callback=lambda step, *_, s=stop: step < s, **options)
        assert 0 < stopped.row_calls < whole.row_calls
        kept = KeptTrajectory(tmp_path / f"{stop}.npy", np.asarray(source)[0], 5)
        assert (kept.done, kept.row_calls) == (stop + 1, stopped.row_calls)
        again = editor.invert_latents(source, kept=kept, **options)
        np.testing.assert_array_equal(again.trajectory, whole.trajectory)
        assert again.row_calls == whole.row_calls


@pytest.mark.parametrize("tolerance", [0.3, 0.01])
@pytest.mark.parametrize("kind", SCHEDULES)
def test_iterations_end_where_they_are_near_enough(kind, tolerance, editors):
    """The same loop in numpy; a step begins on the plane of the two places before it, in signal and noise."""
    editor, steps, most = editors[kind], 5, 6
    schedule, text = editor.schedule, editor.encode_prompts([SOURCE])
    inversion = editor.invert(clip(), SOURCE, num_inference_steps=steps, iterations=most, tolerance=tolerance)

    def level(timestep):
        alpha = schedule.final_alpha_cumprod if timestep < 0 else float(schedule.alphas_cumprod[timestep])
        return np.sqrt([alpha, 1 - alpha])

    counts, way = [], [np.asarray(inversion.source)]
    at, to = schedule.timesteps(steps)[::-1], schedule.previous_timesteps(steps)[::-1]
    for i in range(steps):
        guess, asked, quotient = way[-1], 0, 1.0
        if i > 0:
            both = np.stack([level(at[i - 1]), level(to[i - 1])], axis=1)
            guess = np.tensordot(np.linalg.solve(both, level(at[i])), way[-1:-3:-1], 1).astype(np.float32)
        while asked < most and (asked == 0 or quotient >= tolerance):
            output = editor.denoiser.predict(jnp.asarray(guess), jnp.asarray(at[i : i + 1]), text)
            new = ddim_inverse_step(schedule, output, jnp.asarray(way[-1]), timestep=at[i], previous_timestep=to[i])
            quotient = np.linalg.norm(new - guess) / np.linalg.norm(new - way[-1])
            guess, asked = np.asarray(new), asked + 1
        counts.append(asked)
        way.append(guess)
    assert inversion.row_calls == sum(counts) and min(counts) < max(counts)
    # Iterations draw rounding together, or apart: of a net with random weights a few times 1e-5.
    scale = np.abs(inversion.trajectory).max()
    np.testing.assert_allclose(inversion.trajectory[1:], np.concatenate(way[1:]), rtol=0, atol=1e-4 * scale)


def test_what_is_refused(editor, exact):
    expected = "the clip was inverted for the sampler bdia, and ddim does not lead back from there: invert with sampler"
    with pytest.raises(UserError, match=expected):
        editor.edit(exact, TARGET)
    with pytest.raises(UserError, match="num_inference_steps is 1, expected at least 2 with the sampler bdia"):
        editor.check_clip(1, 16, 16, "bdia")
    with pytest.raises(UserError, match=r"tolerance 2\.0 is not between 0 and 1"):
        editor.invert(clip(), SOURCE, tolerance=2.0)
