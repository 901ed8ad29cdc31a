"""The noise schedule against diffusers' DDIMScheduler, and against what its scheduler classes mean by a missing key."""

import inspect
import json

import diffusers
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from diffusers import DDIMInverseScheduler, DDIMScheduler, DDPMScheduler

from vrwkv_jax.diffusion.schedule import NoiseSchedule
from vrwkv_jax.system.errors import UserError

# Stable Diffusion 1.5 as its scheduler_config.json says it; the keys of PNDM's own sampler are to be ignored.
SD15 = json.loads(
    """{"_class_name": "PNDMScheduler", "_diffusers_version": "0.6.0", "beta_end": 0.012, "beta_start": 0.00085,
    "beta_schedule": "scaled_linear", "num_train_timesteps": 1000, "set_alpha_to_one": false, "skip_prk_steps": true,
    "steps_offset": 1, "trained_betas": null, "clip_sample": false}"""
)
BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
TIMESTEP_COUNTS = (1, 3, 7, 50, 61, 333, 999)


def known(config: dict) -> dict:
    """The configuration without the keys that DDIMScheduler would only warn about."""
    return {key: value for key, value in config.items() if key in inspect.signature(DDIMScheduler).parameters}


@pytest.mark.parametrize("zero_snr", [False, True], ids=["", "zero_snr"])
@pytest.mark.parametrize(
    "betas",
    [
        BETAS,
        {"beta_schedule": "linear"},
        {"beta_schedule": "squaredcos_cap_v2"},
        {"trained_betas": [0.01, 0.5, 0.25], "num_train_timesteps": 3},
        BETAS | {"num_train_timesteps": 77},
    ],
    ids=["sd", "linear", "cosine", "trained", "77"],
)
def test_alphas_cumprod_equal_diffusers(betas: dict, zero_snr: bool):
    schedule = NoiseSchedule.from_config(betas | {"rescale_betas_zero_snr": zero_snr})
    expected = DDIMScheduler(**betas, rescale_betas_zero_snr=zero_snr).alphas_cumprod.numpy()
    assert schedule.alphas_cumprod.dtype == np.float32
    # diffusers multiplies a thousand factors of float32 precision; the errors partly cancel (measured: 8e-7).
    np.testing.assert_allclose(schedule.alphas_cumprod, expected, atol=1e-6, rtol=0)
    if zero_snr:
        assert schedule.alphas_cumprod[-1] == 0


def test_sd15():
    schedule = NoiseSchedule.from_config(SD15)
    assert schedule == NoiseSchedule()
    assert schedule.timesteps(50).tolist() == list(range(981, 0, -20))
    assert schedule.inverse_timesteps(50).tolist() == list(range(1, 982, 20))
    assert schedule.previous_timesteps(50).tolist() == [*range(961, 0, -20), -1]
    assert round(schedule.final_alpha_cumprod, 5) == 0.99915
    assert float(schedule.alpha_cumprod_at(-1)) == schedule.final_alpha_cumprod


@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("steps_offset", [0, 1])
def test_timesteps_equal_diffusers(spacing: str, steps_offset: int):
    config = {"timestep_spacing": spacing, "steps_offset": steps_offset}
    schedule, sampler = NoiseSchedule.from_config(config), DDIMScheduler(**config)
    for steps in TIMESTEP_COUNTS:
        if spacing == "linspace" and steps == 1:
            continue
        sampler.set_timesteps(steps)
        expected = sampler.timesteps.numpy()
        # With trailing spacing, rounding in np.arange sometimes gives diffusers a timestep -1 too many (61 steps).
        np.testing.assert_array_equal(schedule.timesteps(steps), expected[expected >= 0])
        np.testing.assert_array_equal(schedule.inverse_timesteps(steps), schedule.timesteps(steps)[::-1])
        if spacing == "linspace":
            np.testing.assert_array_equal(schedule.previous_timesteps(steps), [*expected[1:], -1])
        else:
            previous = expected[expected >= 0] - 1000 // steps
            np.testing.assert_array_equal(schedule.previous_timesteps(steps), np.maximum(previous, -1))
            inverse = DDIMInverseScheduler(**config)
            inverse.set_timesteps(steps)
            expected = inverse.timesteps.numpy()
            np.testing.assert_array_equal(schedule.inverse_timesteps(steps), expected[expected >= 0])


def test_every_timestep():
    schedule = NoiseSchedule.from_config({})
    np.testing.assert_array_equal(schedule.timesteps(1000), np.arange(999, -1, -1))
    np.testing.assert_array_equal(schedule.previous_timesteps(1000), np.arange(998, -2, -1))


def schedulers() -> dict[str, dict]:
    """The defaults of every diffusers scheduler whose noise schedule is made of betas."""
    defaults = {}
    for name in dir(diffusers):
        if name.endswith("Scheduler") and not name.startswith("Flax"):
            parameters = inspect.signature(getattr(diffusers, name).__init__).parameters
            if "beta_start" in parameters:
                defaults[name] = {key: value.default for key, value in parameters.items()}
    return defaults


# A sigmoid schedule of its own, and alphas shifted by the resolution: neither is a Stable Diffusion of images.
OTHER_MODELS = {"RePaintScheduler", "CogVideoXDDIMScheduler", "CogVideoXDPMScheduler"}


def test_a_missing_key_means_what_its_class_means():
    classes = schedulers()
    assert len(classes) > 15
    for name in classes.keys() - OTHER_MODELS:
        schedule = NoiseSchedule.from_config({"_class_name": name})
        assert {"beta_start", "beta_schedule", "prediction_type"} <= classes[name].keys()
        for key, value in classes[name].items():
            if hasattr(schedule, key):
                assert (key, getattr(schedule, key)) == (key, value), name
        if "clip_sample" not in classes[name]:
            assert not schedule.clip_sample, name


def test_a_configuration_saved_by_another_scheduler(tmp_path):
    """As people have it on disk: written by save_pretrained, with the keys of a different sampler."""
    written = diffusers.DPMSolverMultistepScheduler(
        **BETAS, prediction_type="v_prediction", algorithm_type="dpmsolver++"
    )
    written.save_pretrained(tmp_path)
    schedule = NoiseSchedule.from_config(json.loads((tmp_path / "scheduler_config.json").read_text()))
    assert (schedule.prediction_type, schedule.timestep_spacing) == ("v_prediction", "linspace")
    np.testing.assert_allclose(schedule.alphas_cumprod, written.alphas_cumprod.numpy(), atol=1e-6, rtol=0)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
def test_noising_equals_diffusers(prediction_type: str):
    schedule = NoiseSchedule.from_config(SD15 | {"prediction_type": prediction_type})
    oracle = DDPMScheduler(**BETAS)
    rng = np.random.default_rng(0)
    latents, noise = rng.normal(size=(2, 3, 2, 5, 3, 4)).astype(np.float32)
    timesteps = np.array([0, 501, 999], np.int32)
    torched = torch.from_numpy(latents), torch.from_numpy(noise), torch.from_numpy(timesteps).long()

    noisy = jax.jit(schedule.add_noise)(latents, noise, timesteps)
    # a few roundings of float32 (6e-8) of numbers up to about 4
    np.testing.assert_allclose(noisy, oracle.add_noise(*torched), atol=2e-6, rtol=0)

    target = jax.jit(schedule.training_target)(latents, noise, timesteps)
    expected = {"epsilon": noise, "sample": latents, "v_prediction": oracle.get_velocity(*torched)}[prediction_type]
    np.testing.assert_allclose(target, expected, atol=2e-6, rtol=0)


def test_bfloat16_is_rounded_once_at_the_end():
    schedule = NoiseSchedule(prediction_type="v_prediction")
    latents, noise = jax.random.normal(jax.random.key(1), (2, 3, 5, 7), jnp.bfloat16)
    timesteps = jnp.array([1, 400, 998])
    for function in (schedule.add_noise, schedule.training_target):
        result = function(latents, noise, timesteps)
        exact = function(latents.astype(jnp.float32), noise.astype(jnp.float32), timesteps)
        assert result.dtype == jnp.bfloat16
        np.testing.assert_array_equal(result, exact.astype(jnp.bfloat16))


def test_static_argument_of_jit():
    schedule, again = NoiseSchedule.from_config(SD15), NoiseSchedule.from_config(SD15)
    assert hash(schedule) == hash(again)
    traces = []

    def amplitude(schedule, timestep):
        traces.append(schedule)
        return schedule.alpha_cumprod_at(timestep)

    jitted = jax.jit(amplitude, static_argnums=0)
    values = [float(jitted(schedule, 5)), float(jitted(again, 5)), float(jitted(NoiseSchedule(beta_end=0.02), 5))]
    assert len(traces) == 2
    assert values[0] == values[1] == schedule.alphas_cumprod[5] != values[2]


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("beta_schedule", "sigmoid", "linear, scaled_linear, squaredcos_cap_v2"),
        ("prediction_type", "flow_prediction", "epsilon, v_prediction, sample"),
        ("timestep_spacing", "log", "leading, trailing, linspace"),
        ("thresholding", True, "false"),
        ("clip_sample", "yes", "true or false"),
        ("set_alpha_to_one", None, "true or false"),
        ("num_train_timesteps", "1000", "at least 2"),
        ("num_train_timesteps", 1, "at least 2"),
        ("steps_offset", -1, "at least 0"),
        ("steps_offset", True, "at least 0"),
        ("beta_start", 0, "above 0"),
        ("beta_end", float("nan"), "above 0 and below 1"),
        ("clip_sample_range", None, "above 0"),
        ("trained_betas", "linear", "null or a list"),
        ("trained_betas", [0.1, 0.2], "each of the 1000"),
        ("trained_betas", [0.1] * 999 + ["0.2"], "numbers above 0"),
        ("trained_betas", [0] + [0.1] * 999, "numbers above 0"),
        ("_class_name", "FlowMatchEulerDiscreteScheduler", "PNDMScheduler"),
        ("_class_name", "CogVideoXDDIMScheduler", "DDIMScheduler"),
    ],
)
def test_impossible_configurations(key: str, value: object, expected: str):
    with pytest.raises(UserError) as error:
        NoiseSchedule.from_config(SD15 | {key: value})
    message = str(error.value)
    assert f" {key} is " in message and expected in message
    if not isinstance(value, list):
        assert repr(value) in message


@pytest.mark.parametrize(
    ("config", "steps", "expected"),
    [
        ({}, 0, "num_inference_steps is 0"),
        ({}, 1001, "from 1 to 1000"),
        ({"steps_offset": 1}, 1000, "starts at timestep 1000"),
        ({"timestep_spacing": "linspace"}, 1, "at least 2"),
        ({"timestep_spacing": "trailing", "rescale_betas_zero_snr": True}, 50, "pure noise"),
    ],
)
def test_impossible_step_counts(config: dict, steps: int, expected: str):
    schedule = NoiseSchedule.from_config(config)
    for timesteps in (schedule.timesteps, schedule.previous_timesteps, schedule.inverse_timesteps):
        with pytest.raises(UserError, match=expected):
            timesteps(steps)


def test_inversion_that_would_divide_by_zero():
    config = {"prediction_type": "sample", "set_alpha_to_one": True}
    NoiseSchedule.from_config(config).timesteps(50)
    with pytest.raises(UserError, match="set_alpha_to_one"):
        NoiseSchedule.from_config(config).inverse_timesteps(50)
