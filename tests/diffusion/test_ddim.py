"""DDIM steps, sampling and inversion against diffusers' DDIMScheduler and DDIMInverseScheduler."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from diffusers import DDIMInverseScheduler, DDIMScheduler

from vrwkv_jax.diffusion.samplers.ddim import ddim_inverse_step, ddim_step, predict_original_and_noise
from vrwkv_jax.diffusion.schedule import NoiseSchedule
from vrwkv_jax.system.errors import UserError

SHAPE = (2, 3, 5, 7, 4)
BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
PREDICTIONS = ("epsilon", "v_prediction", "sample")
SD15 = BETAS | {"set_alpha_to_one": False, "steps_offset": 1, "clip_sample": False}
CHECKPOINTS = {
    "sd15": SD15,
    "sd21": SD15 | {"prediction_type": "v_prediction"},
    "zero_snr": BETAS
    | {
        "clip_sample": False,
        "prediction_type": "v_prediction",
        "rescale_betas_zero_snr": True,
        "timestep_spacing": "trailing",
    },
}


def normal(seed: int, count: int) -> list[np.ndarray]:
    return list(np.random.default_rng(seed).normal(size=(count, *SHAPE)).astype(np.float32))


def assert_close(actual: jax.Array, expected: torch.Tensor | np.ndarray, tolerance: float) -> None:
    """``tolerance`` is relative to the largest number, because a step is a sum of terms of that size."""
    expected = np.asarray(expected)
    assert actual.dtype == jnp.float32
    np.testing.assert_allclose(actual, expected, atol=tolerance * np.abs(expected).max(), rtol=0)


def network(latents: np.ndarray, timestep: int) -> np.ndarray:
    """Stands in for the U-Net: bounded, nonlinear, mixes positions, depends on the timestep."""
    mixed = 0.6 * latents + 0.4 * np.roll(latents, 1, axis=-2) - 0.3 * np.roll(latents, 1, axis=-1)
    return np.tanh(mixed + np.float32(np.sin(timestep / 100))).astype(np.float32)


# Every combination on which diffusers itself does not divide by zero (those are in test_schedule).
CASES = [
    pytest.param(
        prediction, spacing, offset, to_one, zero_snr, id=f"{prediction}-{spacing}-{offset}-{to_one}-{zero_snr}"
    )
    for prediction, spacing, offset, to_one, zero_snr in itertools.product(
        PREDICTIONS, ("leading", "trailing", "linspace"), (0, 1), (False, True), (False, True)
    )
    if not (prediction == "epsilon" and zero_snr and spacing != "leading")
]


@pytest.mark.parametrize(("prediction", "spacing", "offset", "to_one", "zero_snr"), CASES)
def test_steps_equal_diffusers(prediction: str, spacing: str, offset: int, to_one: bool, zero_snr: bool):
    config = BETAS | {
        "prediction_type": prediction,
        "timestep_spacing": spacing,
        "steps_offset": offset,
        "set_alpha_to_one": to_one,
        "rescale_betas_zero_snr": zero_snr,
        "clip_sample": False,
    }
    schedule, sampler = NoiseSchedule.from_config(config), DDIMScheduler(**config)
    arrays = normal(0, 3)
    latents, output, noise = map(jnp.asarray, arrays)
    torch_latents, torch_output, torch_noise = map(torch.from_numpy, arrays)
    # A dozen roundings of float32 and the float32 table of diffusers, measured at up to 1.1e-6. "sample" divides by
    # sqrt(1 - alpha), which is 0.03 at the last timestep, where the error of the table counts a thousandfold (3e-5).
    tolerance = 1e-4 if prediction == "sample" else 5e-6
    for steps in (3, 7, 50):
        sampler.set_timesteps(steps)
        for timestep in sampler.timesteps[[0, steps // 2, -1]].tolist():
            previous = timestep - 1000 // steps  # what DDIMScheduler does for every spacing
            actual = ddim_step(schedule, output, latents, timestep=timestep, previous_timestep=previous)
            expected = sampler.step(torch_output, timestep, torch_latents)
            assert_close(actual, expected.prev_sample, tolerance)
            actual = ddim_step(
                schedule, output, latents, timestep=timestep, previous_timestep=previous, eta=0.7, noise=noise
            )
            expected = sampler.step(torch_output, timestep, torch_latents, eta=0.7, variance_noise=torch_noise)
            assert_close(actual, expected.prev_sample, tolerance)
            original, _ = predict_original_and_noise(schedule, output, latents, timestep=timestep)
            assert_close(original, expected.pred_original_sample, tolerance)
        if spacing == "linspace" or prediction == "v_prediction":
            continue  # DDIMInverseScheduler refuses the one, and does not undo DDIMScheduler's steps for the other
        inverse = DDIMInverseScheduler(**config)
        inverse.set_timesteps(steps)
        for timestep in inverse.timesteps[[0, steps // 2, -1]].tolist():
            previous = timestep - 1000 // steps
            if previous < 0 and to_one and prediction == "sample":
                continue  # 0 / 0: NoiseSchedule.inverse_timesteps refuses it
            actual = ddim_inverse_step(schedule, output, latents, timestep=timestep, previous_timestep=previous)
            assert_close(actual, inverse.step(torch_output, timestep, torch_latents).prev_sample, tolerance)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_clipping_equals_diffusers(prediction: str):
    config = SD15 | {"prediction_type": prediction, "clip_sample": True, "clip_sample_range": 0.5}
    schedule, sampler, inverse = (
        NoiseSchedule.from_config(config),
        DDIMScheduler(**config),
        DDIMInverseScheduler(**config),
    )
    sampler.set_timesteps(7)
    inverse.set_timesteps(7)
    latents, output = normal(1, 2)
    torched = torch.from_numpy(output), 427, torch.from_numpy(latents)
    # the tolerances of test_steps_equal_diffusers, away from its hard ends
    actual = ddim_step(schedule, jnp.asarray(output), jnp.asarray(latents), timestep=427, previous_timestep=285)
    assert_close(actual, sampler.step(*torched).prev_sample, 5e-6)
    if prediction != "v_prediction":
        actual = ddim_inverse_step(
            schedule, jnp.asarray(output), jnp.asarray(latents), timestep=427, previous_timestep=285
        )
        assert_close(actual, inverse.step(*torched).prev_sample, 5e-6)
    original, _ = predict_original_and_noise(schedule, jnp.asarray(output), jnp.asarray(latents), timestep=427)
    assert np.abs(original).max() == 0.5


@pytest.mark.parametrize("zero_snr", [False, True])
@pytest.mark.parametrize("spacing", ["leading", "trailing"])
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_diffusers_leads_back_from_an_inverse_step(prediction: str, spacing: str, zero_snr: bool):
    """Its DDIMScheduler, given the same model output, comes to where the inverse step started."""
    if prediction == "epsilon" and zero_snr and spacing == "trailing":
        return  # refused: the last timestep tells nothing
    config = SD15 | {"prediction_type": prediction, "timestep_spacing": spacing, "rescale_betas_zero_snr": zero_snr}
    schedule, sampler = NoiseSchedule.from_config(config), DDIMScheduler(**config)
    latents, output = normal(8, 2)
    for steps in (2, 7, 50):
        sampler.set_timesteps(steps)
        for timestep, previous in zip(schedule.timesteps(steps), schedule.previous_timesteps(steps), strict=True):
            inverted = ddim_inverse_step(
                schedule, jnp.asarray(output), jnp.asarray(latents), timestep=timestep, previous_timestep=previous
            )
            back = sampler.step(torch.from_numpy(output), int(timestep), torch.from_numpy(np.array(inverted)))
            # Where little signal is left, the way back divides roundings by its amplitude (0.07; 0.004 if rescaled).
            assert_close(jnp.asarray(latents), back.prev_sample, 1e-3 if zero_snr else 1e-4)


def test_a_single_step_out_of_pure_noise_is_not_inverted():
    config = CHECKPOINTS["zero_snr"] | {"set_alpha_to_one": True}
    with pytest.raises(UserError, match=r"num_inference_steps is 1, but .* nothing leads back; take 2 or more"):
        NoiseSchedule.from_config(config).inverse_timesteps(1)
    assert len(NoiseSchedule.from_config(config).inverse_timesteps(2)) == 2


@pytest.mark.parametrize("steps", [1, 3, 7, 50])
@pytest.mark.parametrize("checkpoint", CHECKPOINTS)
def test_sampling_and_inversion_equal_diffusers(checkpoint: str, steps: int):
    """Every step of the way, jitted once for all timesteps; inversion where that of diffusers undoes sampling."""
    config = CHECKPOINTS[checkpoint]
    schedule, traces = NoiseSchedule.from_config(config), []

    @jax.jit
    def sample(output, timestep, previous, latents):
        traces.append("sample")
        return ddim_step(schedule, output, latents, timestep=timestep, previous_timestep=previous)

    @jax.jit
    def invert(output, timestep, previous, latents):
        traces.append("invert")
        return ddim_inverse_step(schedule, output, latents, timestep=timestep, previous_timestep=previous)

    sampler, inverse = DDIMScheduler(**config), DDIMInverseScheduler(**config)
    timesteps, previous_timesteps = schedule.timesteps(steps), schedule.previous_timesteps(steps)
    ways = [(sample, sampler, timesteps, previous_timesteps)]
    if schedule.prediction_type == "epsilon":
        ways.append((invert, inverse, schedule.inverse_timesteps(steps), previous_timesteps[::-1]))
    for step, oracle, grid, previous_grid in ways:
        oracle.set_timesteps(steps)
        (start,) = normal(2, 1)
        latents, expected = jnp.asarray(start), torch.from_numpy(start)
        for timestep, previous, oracle_timestep in zip(grid, previous_grid, oracle.timesteps.tolist(), strict=True):
            assert timestep == oracle_timestep
            latents = step(network(np.asarray(latents), timestep), timestep, previous, latents)
            output = torch.from_numpy(network(expected.numpy(), oracle_timestep))
            expected = oracle.step(output, oracle_timestep, expected).prev_sample
            # the tolerance of one step, doubled for what the network makes of the differences (measured: 2e-6)
            assert_close(latents, expected, 1e-5)
    assert traces == ["sample", "invert"][: len(ways)]


@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_sampling_undoes_inversion(prediction: str, spacing: str):
    """All steps there and back, with the same outputs."""
    schedule = NoiseSchedule.from_config(SD15 | {"prediction_type": prediction, "timestep_spacing": spacing})
    clean, *outputs = map(jnp.asarray, normal(3, 8))
    for steps in (2, 7):
        ways = list(zip(schedule.timesteps(steps), schedule.previous_timesteps(steps), outputs, strict=False))
        latents = clean
        for timestep, previous, output in reversed(ways):
            latents = ddim_inverse_step(schedule, output, latents, timestep=timestep, previous_timestep=previous)
        assert jnp.abs(latents - clean).max() > 1
        for timestep, previous, output in ways:
            latents = ddim_step(schedule, output, latents, timestep=timestep, previous_timestep=previous)
        # Inversion shrinks the image to 0.07 of itself, so undoing it multiplies the roundings by 15; for "sample", the
        # noise is recovered from the latents at an amplitude of 0.03, the reciprocal of which is 34.
        assert_close(latents, clean, 1e-5 if prediction != "sample" else 2e-4)


@pytest.mark.parametrize("spacing", ["leading", "linspace"])
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_a_perfect_model_is_sampled_exactly(prediction: str, spacing: str):
    """A model that knows the noise gives the image in any number of steps: each step ends where the next one begins."""
    schedule = NoiseSchedule.from_config(SD15 | {"prediction_type": prediction, "timestep_spacing": spacing})
    clean, noise = map(jnp.asarray, normal(4, 2))
    for steps in (3, 7):
        timesteps = schedule.timesteps(steps)
        latents = schedule.add_noise(clean, noise, jnp.full(SHAPE[0], timesteps[0]))
        for timestep, previous in zip(timesteps, schedule.previous_timesteps(steps), strict=True):
            target = schedule.training_target(clean, noise, jnp.full(SHAPE[0], timestep))
            original, epsilon = predict_original_and_noise(schedule, target, latents, timestep=timestep)
            assert_close(original, clean, 1e-5)  # roundings (2e-7), divided by an amplitude of 0.07
            assert_close(epsilon, noise, 1e-5)  # roundings, divided by an amplitude of 0.03
            latents = ddim_step(schedule, target, latents, timestep=timestep, previous_timestep=previous)
        final = np.float64(schedule.final_alpha_cumprod)
        assert_close(latents, np.sqrt(final) * clean + np.sqrt(1 - final) * noise, 1e-5)


def test_the_first_step_of_inversion_starts_at_the_final_alpha():
    """For SD 1.5, from 0.99915 to 0.99828 at timestep 1, which are the products of the first one and two (1 - beta)."""
    schedule = NoiseSchedule.from_config(SD15)
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000)[:2] ** 2
    final, alpha = np.cumprod(1 - betas)
    latents, noise = normal(5, 2)
    timestep, previous = schedule.inverse_timesteps(50)[0], schedule.previous_timesteps(50)[-1]
    actual = ddim_inverse_step(
        schedule, jnp.asarray(noise), jnp.asarray(latents), timestep=timestep, previous_timestep=previous
    )
    expected = np.sqrt(alpha / final) * (latents - np.sqrt(1 - final) * noise) + np.sqrt(1 - alpha) * noise
    assert_close(actual, expected, 5e-6)


def test_fully_random_steps_from_almost_pure_noise():
    """At eta 1 nothing of the old noise stays; a fused multiply-add that rounds below zero must not end in NaN."""
    schedule = NoiseSchedule.from_config(CHECKPOINTS["zero_snr"])
    latents, output, noise = (jnp.asarray(array[0, 0]) for array in normal(6, 3))
    step = jax.jit(partial(ddim_step, schedule, eta=1.0))
    for timestep, previous in itertools.product(range(980, 1000), (0, 1, 2)):
        alpha = np.float64(schedule.alphas_cumprod[previous])
        actual = step(output, latents, timestep=timestep, previous_timestep=previous, noise=noise)
        # At timestep 980 the latents still hold an amplitude of 0.009 of the image.
        assert_close(actual, np.sqrt(alpha) * -output + np.sqrt(1 - alpha) * noise, 0.02)


def test_bfloat16_is_rounded_once_at_the_end():
    schedule = NoiseSchedule(prediction_type="v_prediction")
    latents, output, noise = (jnp.asarray(array, jnp.bfloat16) for array in normal(7, 3))
    exact_latents, exact_output, exact_noise = (array.astype(jnp.float32) for array in (latents, output, noise))
    pairs = [
        (
            ddim_step(schedule, output, latents, timestep=501, previous_timestep=481, eta=0.5, noise=noise),
            ddim_step(
                schedule, exact_output, exact_latents, timestep=501, previous_timestep=481, eta=0.5, noise=exact_noise
            ),
        ),
        (
            ddim_inverse_step(schedule, output, latents, timestep=1, previous_timestep=-19),
            ddim_inverse_step(schedule, exact_output, exact_latents, timestep=1, previous_timestep=-19),
        ),
        *zip(
            predict_original_and_noise(schedule, output, latents, timestep=981),
            predict_original_and_noise(schedule, exact_output, exact_latents, timestep=981),
            strict=True,
        ),
    ]
    for result, exact in pairs:
        assert result.dtype == jnp.bfloat16
        np.testing.assert_array_equal(result, exact.astype(jnp.bfloat16))


def test_eta_may_be_traced():
    latents, output, noise = jnp.asarray(np.random.default_rng(0).normal(size=(3, 2, 4)), jnp.float32)
    schedule = NoiseSchedule()
    step = jax.jit(
        lambda eta: ddim_step(schedule, output, latents, timestep=501, previous_timestep=481, eta=eta, noise=noise)
    )
    for eta in (0.0, 0.3, 1.0):
        expected = ddim_step(schedule, output, latents, timestep=501, previous_timestep=481, eta=eta, noise=noise)
        np.testing.assert_allclose(step(eta), expected, rtol=0, atol=1e-6)
    with pytest.raises(UserError, match="no noise is given"):
        jax.jit(lambda eta: ddim_step(schedule, output, latents, timestep=501, previous_timestep=481, eta=eta))(0.0)


@pytest.mark.parametrize(("eta", "expected"), [(0.5, "no noise is given"), (-0.1, "eta is -0.1"), (1.5, "from 0")])
def test_impossible_eta(eta: float, expected: str):
    latents = jnp.zeros(SHAPE)
    with pytest.raises(UserError, match=expected):
        ddim_step(NoiseSchedule(), latents, latents, timestep=1, previous_timestep=-1, eta=eta)
