"""The editor against the same work done with PyTorch's diffusers and transformers, frame by frame."""

import jax
import jaxtyping
import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from tests.small import clip
from vrwkv_jax import Editor
from vrwkv_jax.editing import encoders
from vrwkv_jax.editing.controls.config import ControlConfig
from vrwkv_jax.editing.settings import Sampling
from vrwkv_jax.models.video_config import VideoConfig
from vrwkv_jax.system.errors import UserError

SOURCE, TARGET, NEGATIVE = "a red disc", "a blue disc over sand", "blurry"
STEPS, GUIDANCE, ITERATIONS = 4, 5.0, 2


@pytest.fixture(scope="module")
def editor(tiny_checkpoint) -> Editor:
    return Editor.from_pretrained(tiny_checkpoint)


@pytest.fixture(scope="module")
def inversion(editor):
    return editor.invert(clip(), SOURCE, num_inference_steps=STEPS, iterations=ITERATIONS)


class Oracle:
    """The image pipeline in float64; the frames of a clip are its batch."""

    def __init__(self, path):
        self.unet = UNet2DConditionModel.from_pretrained(path / "unet").double()
        self.vae = AutoencoderKL.from_pretrained(path / "vae").double()
        self.text_encoder = CLIPTextModel.from_pretrained(path / "text_encoder").double()
        self.tokenizer = CLIPTokenizer.from_pretrained(path / "tokenizer")
        self.sampler = DDIMScheduler.from_pretrained(path / "scheduler")

    def text(self, prompt):
        ids = self.tokenizer([prompt], padding="max_length", truncation=True, return_tensors="pt")
        return self.text_encoder(ids.input_ids).last_hidden_state

    def predict(self, latents, timestep, text):
        return self.unet(latents, timestep, text.expand(len(latents), -1, -1)).sample

    def encode(self, frames):
        pixels = torch.from_numpy(frames).permute(0, 3, 1, 2).double() / 127.5 - 1
        return self.vae.encode(pixels).latent_dist.mean * self.vae.config.scaling_factor

    def invert(self, latents, prompt):
        """Solves each step of the sampler, affine in the latents, for where it starts, ITERATIONS times over."""
        text = self.text(prompt)
        self.sampler.set_timesteps(STEPS)
        for timestep in reversed(self.sampler.timesteps):
            guess = latents
            for _ in range(ITERATIONS):
                output = self.predict(guess, timestep, text)
                offset = self.sampler.step(output, timestep, torch.zeros_like(latents)).prev_sample
                slope = self.sampler.step(output, timestep, torch.ones_like(latents)).prev_sample - offset
                guess = (latents - offset) / slope
            latents = guess
        return latents

    def sample(self, latents, prompt, negative, scale):
        """``scale``: one for all steps, or one for each."""
        text, negative = self.text(prompt), self.text(negative)
        self.sampler.set_timesteps(STEPS)
        for timestep, strength in zip(self.sampler.timesteps, np.broadcast_to(scale, STEPS), strict=True):
            without = self.predict(latents, timestep, negative)
            output = without + strength * (self.predict(latents, timestep, text) - without)
            latents = self.sampler.step(output, timestep, latents).prev_sample
        return latents

    def decode(self, latents):
        pixels = self.vae.decode(latents / self.vae.config.scaling_factor).sample
        return (pixels * 127.5 + 127.5).clamp(0, 255).round().permute(0, 2, 3, 1).numpy().astype(np.uint8)


def channels_last(latents: torch.Tensor) -> np.ndarray:
    return latents.permute(0, 2, 3, 1).numpy()[None]


def test_the_text_encoder_is_on_the_device_only_while_it_encodes(editor):
    editor.encode_prompts([SOURCE])
    assert {type(leaf) for leaf in editor.components.text_encoder.params.values()} == {np.ndarray}
    assert all(isinstance(leaf, jax.Array) for leaf in editor.components.unet.params.values())


def test_invert_and_edit_equal_the_image_pipeline_before_tuning(tiny_checkpoint, editor, inversion):
    oracle = Oracle(tiny_checkpoint)
    with torch.no_grad():
        source = oracle.encode(clip())
        inverted = oracle.invert(source, SOURCE)
        edited = oracle.decode(oracle.sample(inverted, TARGET, NEGATIVE, GUIDANCE))
    np.testing.assert_allclose(inversion.source, channels_last(source), atol=1e-4)
    scale = inverted.abs().max().item()
    np.testing.assert_allclose(inversion.latents, channels_last(inverted), rtol=0, atol=1e-3 * scale)
    ours = editor.edit(inversion, TARGET, negative_prompt=NEGATIVE, sampling=Sampling(guidance_scale=GUIDANCE)).frames
    assert ours.dtype == np.uint8 and ours.shape == clip().shape
    # A level of 255 where rounding falls the other way.
    assert np.abs(ours.astype(int) - edited).max() <= 1


def test_guidance_of_one_is_the_prompt_alone(editor, inversion):
    """One branch is computed, not two, and equals guidance by the formula."""
    alone = editor.edit(inversion, TARGET, negative_prompt=NEGATIVE, sampling=Sampling(guidance_scale=1.0)).frames
    nearly = editor.edit(
        inversion, TARGET, negative_prompt=NEGATIVE, sampling=Sampling(guidance_scale=1.0000001)
    ).frames
    assert np.abs(alone.astype(int) - nearly).max() <= 1
    assert (
        np.abs(
            alone.astype(int) - editor.edit(inversion, TARGET, sampling=Sampling(guidance_scale=GUIDANCE)).frames
        ).max()
        > 1
    )


@pytest.mark.parametrize(
    ("interval", "guided"),
    [((0.0, 0.5), [True, True, False, False]), ((0.2, 0.7), [False, True, True, False]), ((0.0, 1.0), [True] * STEPS)],
)
def test_guidance_in_an_interval(interval, guided, tiny_checkpoint, editor, inversion):
    oracle, latents = Oracle(tiny_checkpoint), torch.from_numpy(np.array(inversion.latents[0])).double()
    with torch.no_grad():
        scales = np.where(guided, GUIDANCE, 1.0)
        expected = oracle.decode(oracle.sample(latents.permute(0, 3, 1, 2), TARGET, NEGATIVE, scales))
    sampling = Sampling(guidance_scale=GUIDANCE, guidance_interval=interval)
    edit = editor.edit(inversion, TARGET, negative_prompt=NEGATIVE, sampling=sampling)
    assert edit.row_calls == STEPS + sum(guided)
    assert np.abs(edit.frames.astype(int) - expected).max() <= 1


@pytest.mark.parametrize(
    ("interval", "complaint"),
    [
        ((0.5, 0.5), "a later stop"),
        ((0.7, 0.2), "a later stop"),
        ((-0.1, 1.0), "between 0 and 1"),
        ((0.0, float("nan")), "between 0 and 1"),
        ((0.5,), "two numbers"),
        (0.5, "two numbers"),
    ],
)
def test_intervals_that_are_none(interval, complaint, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # outside of tests nobody else checks the type
    with pytest.raises(UserError, match=rf"^guidance_interval .* is not .*{complaint}"):
        Sampling(guidance_interval=interval)


def test_fresh_noise_comes_from_the_seed(editor, inversion):
    def edit(eta, seed):
        return editor.edit(inversion, TARGET, sampling=Sampling(GUIDANCE, eta=eta), seed=seed).frames

    np.testing.assert_array_equal(edit(0.5, seed=1), edit(0.5, seed=1))
    assert (edit(0.5, seed=1) != edit(0.5, seed=2)).any()
    np.testing.assert_array_equal(edit(0.0, seed=1), edit(0.0, seed=2))


def test_settings_one_by_one_still_work(editor, inversion):
    with pytest.warns(DeprecationWarning, match=r"sampling=Sampling\(guidance_scale=5.0\)"):
        earlier = editor.edit(inversion, TARGET, guidance_scale=GUIDANCE).frames
    np.testing.assert_array_equal(earlier, editor.edit(inversion, TARGET, sampling=Sampling(GUIDANCE)).frames)


@pytest.mark.parametrize("controls", [ControlConfig(), ControlConfig(features=0.5, feature_layers=("up_blocks/0",))])
def test_numbers_need_no_new_program(controls, editor, inversion, caplog):
    def edit(**settings):
        return editor.edit(inversion, TARGET, controls=controls, sampling=Sampling(**settings)).frames

    plain = edit(guidance_scale=GUIDANCE)
    with jax.log_compiles():
        others = [
            edit(guidance_scale=2.0),
            edit(eta=1.0),
            edit(guidance_rescale=0.5),
            edit(guidance_mean=0.5),
            edit(strength=0.5),
        ]
    assert all((other != plain).any() for other in others)
    assert not [message for message in caplog.messages if "XLA compilation of jit(sampling_step)" in message]
    assert not [message for message in caplog.messages if "XLA compilation of jit(controlled_step)" in message]


def test_callback_sees_every_step_and_can_stop(editor, inversion):
    seen = []
    editor.edit(
        inversion, TARGET, callback=lambda step, timestep, latents: seen.append((step, timestep, latents.shape))
    )
    shape = inversion.latents.shape
    assert seen == [(step, int(t), shape) for step, t in enumerate(editor.schedule.timesteps(STEPS))]

    kept = []

    def stop_at_second(step, timestep, latents):
        kept.append(latents)
        return step < 1

    stopped = editor.edit(inversion, TARGET, callback=stop_at_second).frames
    assert len(kept) == 2
    np.testing.assert_array_equal(stopped, editor.decode(kept[-1]))


def test_an_inversion_that_was_stopped_cannot_be_edited(editor):
    stopped = editor.invert(clip(), SOURCE, num_inference_steps=STEPS, callback=lambda step, *_: step < 1)
    assert not stopped.complete
    with pytest.raises(UserError, match="stopped before its end"):
        editor.edit(stopped, TARGET)


def test_frames_are_encoded_and_decoded_in_slices(editor, monkeypatch):
    whole = np.asarray(editor.encode(clip(5))), editor.decode(editor.encode(clip(5)))
    monkeypatch.setattr(encoders, "PIXELS_PER_SLICE", 2 * 24 * 16)
    jax.clear_caches()
    np.testing.assert_allclose(editor.encode(clip(5)), whole[0], atol=1e-5)
    sliced = editor.decode(editor.encode(clip(5)))
    assert np.abs(sliced.astype(int) - whole[1]).max() <= 1


def test_a_size_the_vae_cannot_divide_is_refused(checkpoint):
    editor = Editor.from_pretrained(checkpoint, video=VideoConfig(mixer="none"))
    with pytest.raises(UserError, match="23x16 pixels, expected multiples of 4"):
        editor.encode(np.zeros((2, 16, 23, 3), np.uint8))


def test_parameters_of_another_model_are_refused(editor):
    with pytest.raises(UserError, match="no parameter conv_in/nothing"):
        editor.with_unet_params({"conv_in/nothing": np.zeros(3)})
