"""What can't be streamed is said in one sentence, and what a model was tuned with decides its decay."""

import re
import warnings
from dataclasses import replace
from typing import get_args

import jax
import pytest

from tests.editing.long.streaming.small import clip, denoiser, error, text, video, whole
from tests.models.tiny_unet import abstract
from vrwkv_jax.editing.long.streaming.modes import Mode, Streaming, check_mode, fixed_decay, with_fixed_decay
from vrwkv_jax.editing.long.streaming.streamed import StreamedUNet
from vrwkv_jax.models.mixers.released import ReleasedConfig
from vrwkv_jax.models.mixers.vrwkv import VRWKVConfig
from vrwkv_jax.models.video_config import VideoConfig
from vrwkv_jax.system.errors import UserError

MODES = ("exact", "look_ahead", "forward", "reset", "causal")
TRANSFORMER = VideoConfig(placement=("skip", "transformer"))
CAUSAL = VideoConfig(vrwkv=VRWKVConfig(causal=True))
POSSIBLE = {
    "usual": (
        VideoConfig(),
        {"exact", "look_ahead", "forward", "reset"},
        "stream_mode='causal' is for a model that was tuned",
    ),
    "transformer": (TRANSFORMER, {"forward", "reset"}, "mode"),
    "causal": (CAUSAL, {"reset", "causal"}, "the model is causal"),
    "causal_transformer": (replace(CAUSAL, placement=("transformer",)), {"reset", "causal"}, "the model is causal"),
    "none": (VideoConfig(mixer="none"), {"reset"}, "mixer is none"),
    "other": (VideoConfig(mixer="tune_a_video", attention="frame", groupnorm_scope="frame"), set(), "mixer is tune_a"),
    "onwards": (
        VideoConfig(mixer="fluencyve", attention="frame", groupnorm_scope="frame"),
        {"forward", "reset"},
        "carried onwards alone",
    ),
    "at_once": (
        VideoConfig("released", attention="frame", released=ReleasedConfig("attention")),
        set(),
        "mixer is released, in which frames see each other at once",
    ),
    "extended": (VideoConfig(attention="extended"), set(), "attention is extended"),
    "pooled": (VideoConfig(groupnorm_scope="resnets"), set(), "groupnorm_scope is resnets"),
}


@pytest.mark.parametrize("case", POSSIBLE)
def test_which_modes_a_model_has(case):
    config, possible, message = POSSIBLE[case]
    for mode in MODES:
        if mode in possible:
            check_mode(config, mode)
        else:
            with pytest.raises(UserError, match=re.escape(message)):
                check_mode(config, mode)


def test_mixers_in_transformers_have_no_sweep_back():
    for mode in ("exact", "look_ahead"):
        with pytest.raises(
            UserError, match=r"placement is skip transformer: .* use stream_mode='forward', or stream_mode='reset'"
        ):
            check_mode(TRANSFORMER, mode)


def test_states_that_are_carried_onwards_alone():
    config = VideoConfig(mixer="fluencyve", placement=("mid",), attention="frame", groupnorm_scope="frame")
    for mode in ("exact", "look_ahead", "causal"):
        with pytest.raises(UserError, match=r"fluencyve, whose states .* onwards .* use stream_mode='forward'"):
            check_mode(config, mode)


def test_no_mesh():
    model = replace(denoiser(video()), mesh=jax.make_mesh((1,), ("frame",)))
    with pytest.raises(UserError, match="streamed on one device: leave out mesh"):
        StreamedUNet(model, video(), 7, Streaming())


@pytest.mark.parametrize("token_order", ["factorised", pytest.param("joint", marks=pytest.mark.long)])
def test_a_decay_of_the_clip_becomes_that_of_the_clip_it_was_tuned_on(token_order):
    tuned = VideoConfig(vrwkv=VRWKVConfig(token_order=token_order))
    model, latents = denoiser(tuned), clip(6)
    with pytest.warns(UserWarning, match=r"depends on the number of frames.*that of the 6 .*decay_frames=6"):
        fixed = with_fixed_decay(model, tuned, 6)
    assert fixed.graphdef == abstract(fixed_decay(tuned, 6))[0]
    assert error(whole(fixed, latents, text()), whole(model, latents, text())) < 1e-6
    assert error(whole(fixed, latents[:, :4], text()), whole(model, latents[:, :4], text())) > 1e-4


@pytest.mark.parametrize("config", [video(), video(decay_norm=7), video(decay_norm="none"), VideoConfig(mixer="none")])
def test_another_decay_stays_without_a_warning(config):
    model = denoiser(config)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert with_fixed_decay(model, config, 6) is model


def test_a_decay_of_the_clip_is_not_streamed():
    tuned = VideoConfig()
    unet = StreamedUNet(denoiser(tuned), tuned, 7, Streaming(chunk_frames=4))
    with pytest.raises(ValueError, match="decay can't depend on its length"):
        next(unet.predict(lambda chunk: clip(7)[:, 4 * chunk : 4 * chunk + 4], 1, text()))


def test_settings():
    for name in ("chunk_frames", "look_ahead"):
        with pytest.raises(UserError, match=f"{name} 0 is not at least 1"):
            Streaming(**{name: 0})
    assert get_args(Mode) == MODES
