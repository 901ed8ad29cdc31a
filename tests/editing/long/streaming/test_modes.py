"""What each mode is worth: exact ones are the clip at once, others are off by what they don't see."""

from dataclasses import replace
from functools import cache

import jax.numpy as jnp
import numpy as np
import pytest

from tests.editing.long.streaming.small import LENGTH, clip, denoiser, error, streamed, text, video, whole, whole_beside
from tests.injections import injection
from vrwkv_jax.editing.long.latents import InMemory
from vrwkv_jax.editing.long.streaming.chunks import Chunks
from vrwkv_jax.editing.long.streaming.modes import Streaming
from vrwkv_jax.editing.long.streaming.programs import states_before
from vrwkv_jax.editing.long.streaming.streamed import StreamedUNet
from vrwkv_jax.models.mixers.fluencyve import FluencyVEConfig
from vrwkv_jax.models.mixers.released import ReleasedConfig
from vrwkv_jax.models.video_config import VideoConfig

ROUNDING = 5e-6
"""Of float32, of the scale of the result: sums of about 100 terms in another order, through a dozen layers."""


@pytest.mark.parametrize(
    ("settings", "frames", "chunk_frames"),
    [
        ({}, 13, 4),
        ({}, 7, 4),
        ({}, 3, 4),
        ({"token_order": "joint"}, 7, 3),
        ({"first_frame": "zero", "projection": "conv", "decay_norm": "none", "skip_gate": True}, 4, 1),
    ],
    ids=str,
)
def test_exact_is_the_clip_at_once(settings, frames, chunk_frames):
    config = video(**settings)
    model, latents = denoiser(config), clip(frames)
    expected = whole(model, latents, text())
    found, _ = streamed(model, config, latents, "exact", chunk_frames)
    assert error(found, expected) < ROUNDING
    if frames > chunk_frames:
        assert error(streamed(model, config, latents, "forward", chunk_frames)[0], expected) > 100 * ROUNDING


@pytest.mark.parametrize("token_order", ["factorised", pytest.param("joint", marks=pytest.mark.long)])
def test_exact_with_guidance_beside_the_source(token_order):
    """Three rows, with all that controls take over from the first one, which the sweep back takes over, too."""
    config, frames = video(token_order=token_order), 5
    model, latents = denoiser(config), clip(frames, rows=3)
    switches = dict.fromkeys(("self_attention", "features", "mixer_keys"), True)
    given = injection(LENGTH, blend=np.eye(2, LENGTH, dtype=np.float32), **switches)
    expected, attention = whole_beside(model, latents, text(3), given)
    found, maps = streamed(model, config, latents, "exact", 3, given=given)
    assert error(found, expected) < ROUNDING
    np.testing.assert_allclose(maps, attention, rtol=0, atol=1e-6)
    plain, _ = streamed(model, config, latents, "exact", 3)
    assert error(plain, expected) > 100 * ROUNDING


DECAY, LONG, PAIR = 0.4, 17, 2


@cache
def errors(mode: str, look_ahead: int = 1) -> float:
    """Root of the mean square, in chunks of two frames, with one decay per frame in all channels."""
    config = video()
    model, latents = denoiser(config, DECAY), clip(LONG)
    expected = np.asarray(whole(model, latents, text()))
    found, _ = streamed(model, config, latents, mode, PAIR, look_ahead)
    return float(np.sqrt(np.mean(np.square(found - expected)) / np.mean(np.square(expected))))


def test_the_error_falls_with_the_look_ahead():
    """As exp(-decay n): the weight of the first frame that is not seen. Keys weigh frames by up to e^1, either way."""
    measured = {n: errors("look_ahead", n) for n in (2, 4, 6, 8)}
    for n, value in measured.items():
        expected = measured[2] * np.exp(-DECAY * (n - 2))
        assert 0.5 * expected < value < 2 * expected, measured
    assert measured[2] < 0.7 * errors("forward")


def test_modes_in_order():
    """Not carrying anything is worst; what has all that lies behind is exact."""
    in_order = [errors("exact"), errors("look_ahead", 8), errors("look_ahead", 2), errors("forward"), errors("reset")]
    assert in_order == sorted(in_order), in_order
    assert in_order[0] < ROUNDING < in_order[1]
    assert errors("look_ahead", LONG - 1) < ROUNDING
    assert errors("reset") > 1.5 * errors("forward")


def test_looking_ahead_by_less_than_a_chunk_and_by_one_and_a_half():
    """With all that is left of the clip, these are exact."""
    config = video()
    model, latents = denoiser(config), clip(7)
    expected = whole(model, latents, text())
    assert error(streamed(model, config, latents, "look_ahead", 4, 3)[0], expected) < ROUNDING
    assert error(streamed(model, config, latents, "look_ahead", 4, 6)[0], expected) < ROUNDING
    assert error(streamed(model, config, latents, "look_ahead", 3, 4)[0], expected) < ROUNDING
    assert error(streamed(model, config, latents, "look_ahead", 4, 2)[0], expected) > 100 * ROUNDING


@pytest.mark.parametrize(
    ("placement", "token_order"), [(("skip", "mid"), "joint"), (("skip", "transformer"), "factorised")], ids=str
)
def test_causal_is_the_clip_at_once(placement, token_order):
    config = video(placement, causal=True, token_order=token_order)
    model, latents = denoiser(config), clip(7)
    expected = whole(model, latents, text())
    assert error(streamed(model, config, latents, "causal", 3)[0], expected) < ROUNDING
    assert error(streamed(model, config, latents, "reset", 3)[0], expected) > 100 * ROUNDING
    changed = latents.copy()
    changed[:, 5] += 1
    difference = np.abs(np.asarray(whole(model, changed, text()) - expected)).max((0, 2, 3, 4))
    assert (difference > ROUNDING * np.abs(expected).max()).tolist() == [False] * 5 + [True] * 2


BY_FRAME = {"attention": "frame", "groupnorm_scope": "frame"}
STATE_SPACE = VideoConfig("released", released=ReleasedConfig("state_space"), **BY_FRAME)
FLUENCYVE = VideoConfig("fluencyve", fluencyve=FluencyVEConfig(d_state=3), **BY_FRAME)


def test_what_looks_at_nothing_behind_is_the_clip_at_once():
    model, latents = denoiser(STATE_SPACE), clip(7)
    expected = whole(model, latents, text())
    assert error(streamed(model, STATE_SPACE, latents, "forward", 3)[0], expected) < ROUNDING
    assert error(streamed(model, STATE_SPACE, latents, "reset", 3)[0], expected) > 100 * ROUNDING


@pytest.mark.long
def test_what_looks_at_nothing_behind_in_bfloat16_and_beside_its_source():
    model, latents = denoiser(STATE_SPACE), clip(7, rows=3)
    given = injection(LENGTH, blend=np.eye(2, LENGTH, dtype=np.float32), mixer_keys=True)
    expected, attention = whole_beside(model, latents, text(3), given)
    found, maps = streamed(model, STATE_SPACE, latents, "forward", 3, given=given)
    assert error(found, expected) < ROUNDING
    np.testing.assert_allclose(maps, attention, rtol=0, atol=1e-6)
    half = replace(model, dtype="bfloat16")
    exact, at_once = whole(model, latents, text(3)), whole(half, latents, text(3))
    assert error(streamed(half, STATE_SPACE, latents, "forward", 3)[0], exact) < 1.5 * error(at_once, exact) < 0.1


def test_states_of_another_mixer_are_carried():
    """The first frame of a chunk knows of the last one before it, which a chunk by itself does not."""
    model, latents = denoiser(FLUENCYVE), clip(7)
    changed = latents.copy()
    changed[:, 3] += 1
    (before, after), (reset, reset_after) = (
        [streamed(model, FLUENCYVE, clip, mode, 4)[0] for clip in (latents, changed)] for mode in ("forward", "reset")
    )
    assert error(before[:, :4], whole(model, latents[:, :4], text())) < ROUNDING
    assert error(after[:, 4:5], before[:, 4:5]) > 10 * ROUNDING
    assert error(reset_after[:, 4:], reset[:, 4:]) == 0


@pytest.mark.parametrize("config", [video(("transformer",)), VideoConfig(mixer="none")], ids=["transformer", "none"])
def test_reset_is_each_chunk_by_itself(config):
    model, latents = denoiser(config), clip(7)
    found, _ = streamed(model, config, latents, "reset", 4)
    expected = jnp.concatenate([whole(model, latents[:, i : i + 4], text()) for i in (0, 4)], axis=1)
    assert error(found, expected) < ROUNDING


def test_exact_in_bfloat16():
    """States are kept in float32, and frames in the dtype that they had: no further off than the clip at once is."""
    config = video()
    model, latents = denoiser(config), clip(7)
    exact, half = whole(model, latents, text()), replace(model, dtype="bfloat16")
    at_once = error(whole(half, latents, text()), exact)
    found, _ = streamed(half, config, latents, "exact", 4)
    assert 1e-3 < at_once < 0.05 and error(found, exact) < 1.5 * at_once


@pytest.mark.parametrize(
    ("mode", "look_ahead", "order"), [("exact", 1, "0 3 2 1 0 0 1 2 3"), ("look_ahead", 6, "0 0 1 2 1 2 3 2 3 3")]
)
def test_what_is_read(mode, look_ahead, order):
    """In mode exact every chunk twice; before anything is predicted, the first one for its size."""
    config, asked = video(), []
    model, latents = denoiser(config), clip(13)
    streamed(model, config, latents, mode, 4, look_ahead, asked=asked)
    assert asked == [int(chunk) for chunk in order.split()]


@pytest.mark.parametrize(
    ("frames", "streaming"),
    [
        (13, Streaming("exact", 4)),
        (3, Streaming("exact", 4)),
        (7, Streaming("look_ahead", 4, 3)),
        (7, Streaming("look_ahead", 4, 6)),
        (17, Streaming("look_ahead", 2, 6)),
        (7, Streaming("forward", 4)),
    ],
    ids=str,
)
def test_the_sweeps_back_are_known_before(frames, streaming, monkeypatch):
    config, made = video(), []

    def counted(*args, **kwargs):
        made.append(None)
        return states_before(*args, **kwargs)

    monkeypatch.setattr("vrwkv_jax.editing.long.streaming.streamed.states_before", counted)
    mode, chunk, ahead = streaming.stream_mode, streaming.chunk_frames, streaming.look_ahead
    streamed(denoiser(config), config, clip(frames), mode, chunk, ahead)
    assert len(made) == Chunks(frames, streaming).sweeps


def test_states_lie_where_the_caller_says():
    config = video()
    model, latents = denoiser(config), clip(13)
    width = StreamedUNet(model, config, 13, Streaming("exact", 4)).states_width(latents[:, :4], text())
    states = InMemory()
    found, _ = streamed(model, config, latents, "exact", 4, states=states)
    assert error(found, whole(model, latents, text())) < ROUNDING
    rows = [states.read(0, chunk) for chunk in range(3)]
    assert all(row.shape == (width,) and (row != 0).mean() > 0.5 for row in rows)
