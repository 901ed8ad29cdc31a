"""The whole loop: what it comes to where nothing is long, and that it is the same in chunks of any size."""

import itertools
from contextlib import suppress
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.editing.long.adaflow.unets import denoiser, text
from tests.injections import EVERYWHERE, injection
from tests.models.tiny_unet import TINY
from vrwkv_jax.config import ControlConfig, VideoConfig
from vrwkv_jax.editing.long.adaflow import steps
from vrwkv_jax.editing.long.adaflow.config import AdaFlowConfig, check_adaflow
from vrwkv_jax.editing.long.adaflow.features import frame_features
from vrwkv_jax.editing.long.adaflow.sampling import Video, adaflow_sample
from vrwkv_jax.editing.sampling import FromSource
from vrwkv_jax.editing.settings import Sampling
from vrwkv_jax.editing.steps import sampling_step
from vrwkv_jax.system.errors import UserError

TOTAL, HEIGHT, WIDTH = 3, 2, 3
SAMPLING = Sampling(guidance_scale=3.0)
MODEL = denoiser(config=TINY)


class Store:
    """Latents of ``frames`` in memory, in chunks of ``size``."""

    def __init__(self, frames: int, size: int, arrays: dict[int, np.ndarray] | None = None):
        self.frames, self.size, self.chunks = frames, size, dict[tuple[int, int], np.ndarray]()
        for step, array in (arrays or {}).items():
            for first in range(0, len(array), size):
                self.chunks[step, first // size] = array[first : first + size]

    def read(self, step: int, chunk: int) -> np.ndarray:
        return self.chunks[step, chunk]

    def write(self, step: int, chunk: int, latents: np.ndarray) -> None:
        self.chunks[step, chunk] = latents

    def missing(self, step: int) -> list[int]:
        return [chunk for chunk in range(-(-self.frames // self.size)) if (step, chunk) not in self.chunks]

    def next_step(self) -> int:
        return next(step for step in itertools.count() if self.missing(step))

    def whole(self, step: int) -> np.ndarray:
        assert not self.missing(step)
        return np.concatenate([self.chunks[step, chunk] for chunk in range(-(-self.frames // self.size))])


def trajectory(frames: int) -> dict[int, np.ndarray]:
    rng = np.random.default_rng(0)
    return {s: rng.normal(size=(frames, HEIGHT, WIDTH, 3)).astype(np.float32) for s in range(TOTAL + 1)}


def sample(
    starts: list[int],
    frames: int,
    size: int = 4,
    edited: Store | None = None,
    sampling: Sampling = SAMPLING,
    prompts: np.ndarray | None = None,
    **options: Any,
):
    """The latents at the end."""
    of_source = trajectory(frames)
    empty = np.zeros((1, 5, 8), np.float32)
    video = Video(
        frames=frames,
        size=size,
        starts=starts,
        source=Store(frames, size, of_source),
        features=lambda frames: frame_features(MODEL, of_source[0][list(frames)], empty),
        num_inference_steps=TOTAL,
    )
    edited = Store(frames, size) if edited is None else edited
    prompts = text(2) if prompts is None else prompts
    config = options.pop("config", AdaFlowConfig())
    last = adaflow_sample(MODEL, video, edited, jnp.asarray(prompts), config, sampling, seed=5, **options)
    return edited.whole(last)


PROMPTS = text(3)


def test_a_video_of_keyframes_alone_is_extended_attention():
    frames = 3
    found = sample([0, 1, 2], frames, prompts=PROMPTS[:2])
    latents, schedule = trajectory(frames)[TOTAL][None], MODEL.schedule
    for timestep, previous in zip(schedule.timesteps(TOTAL), schedule.previous_timesteps(TOTAL), strict=True):
        latents, _ = sampling_step(
            denoiser("extended", TINY),
            latents,
            state=(),
            timestep=timestep,
            previous_timestep=previous,
            steps_left=np.int32(0),
            encoder_hidden_states=PROMPTS[:2],
            guidance=SAMPLING.guidance,
            sampler="ddim",
            eta=np.float32(0),
            key=jax.random.key(0),
        )
    # three steps, each of which multiplies rounding by the guidance
    np.testing.assert_allclose(found, latents[0], rtol=0, atol=2e-4 * np.abs(latents).max())


def test_it_is_the_same_in_chunks_of_any_size():
    """With clips that begin and end within chunks, keyframes in two windows, and a last chunk of one frame."""
    config = AdaFlowConfig(max_keyframes=3, budget=2, blend_frames=2)
    whole = sample([0, 2, 3, 7], 9, size=9, prompts=PROMPTS[:2], config=config)
    found = sample([0, 2, 3, 7], 9, size=4, prompts=PROMPTS[:2], config=config)
    np.testing.assert_allclose(found, whole, rtol=0, atol=2e-4 * np.abs(whole).max())
    other = sample([0, 2, 3, 7], 9, size=4, prompts=PROMPTS[:2], config=AdaFlowConfig(max_keyframes=3, budget=2))
    assert np.abs(other - whole).max() > 1e-2 * np.abs(whole).max()


def test_it_goes_on_where_it_was_ended():
    seen = []
    common: dict[str, Any] = {"starts": [0, 2, 5], "frames": 9, "prompts": PROMPTS[:2]}
    whole = sample(**common, after_chunk=lambda *place: seen.append(place))
    assert seen == [(step, chunk) for step in range(TOTAL + 1) for chunk in range(3)]
    for place in ((0, 1), (1, 0), (2, 2), (3, 1)):
        edited = Store(9, 4)
        with suppress(AssertionError):  # it has no last step yet
            sample(**common, edited=edited, after_chunk=lambda *done, place=place: done < place)
        assert max(edited.chunks) == place and len(edited.chunks) == 3 * place[0] + place[1] + 1
        for step in range(place[0] - 1):  # which no step after it asks for
            for chunk in range(3):
                edited.chunks[step, chunk] = edited.chunks[step, chunk] + np.nan
        again = []
        np.testing.assert_array_equal(
            sample(**common, edited=edited, after_chunk=lambda *place, again=again: again.append(place)), whole
        )
        assert again == seen[seen.index(place) + 1 :]


def test_beside_the_source():
    """A source that is not needed costs nothing and changes nothing; what is taken over does."""
    common: dict[str, Any] = {"starts": [0, 2], "frames": 4}
    neutral = FromSource([injection(5)] * TOTAL, EVERYWHERE)
    plain = sample(**common, prompts=PROMPTS[1:])
    np.testing.assert_array_equal(sample(**common, prompts=PROMPTS, source=neutral), plain)
    first = FromSource([injection(5, features=True, self_attention=True), *[injection(5)] * (TOTAL - 1)], EVERYWHERE)
    assert np.abs(sample(**common, prompts=PROMPTS, source=first) - plain).max() > 1e-2


def test_strength():
    """The last of the steps alone, from the source where it is then; without any it is the video."""
    common: dict[str, Any] = {"starts": [0], "frames": 2, "prompts": PROMPTS[:2]}
    edited = Store(2, 4)
    found = sample(**common, edited=edited, sampling=Sampling(guidance_scale=3.0, strength=0.34))
    np.testing.assert_array_equal(edited.whole(0), trajectory(2)[1])
    assert {step for step, _ in edited.chunks} == {0, 1}
    assert np.abs(found - edited.whole(0)).max() > 1e-3
    np.testing.assert_array_equal(sample(**common, sampling=Sampling(strength=0.0)), trajectory(2)[0])


def test_more_than_four_hundred_keyframes(monkeypatch):
    """In windows, each frame a clip of its own; every program compiles once."""
    passes = []
    make = steps.keyframe_pass
    monkeypatch.setattr(
        steps, "keyframe_pass", lambda *args, **options: passes.append(args[1].shape) or make(*args, **options)
    )
    frames, programs = 450, [make._jitted, steps.chunk_step._jitted, steps.take._jitted]
    before = [program._cache_size() for program in programs]
    sampling = Sampling(guidance_scale=1.0, strength=0.34)
    found = sample(
        [*range(frames)],
        frames,
        size=16,
        sampling=sampling,
        prompts=PROMPTS[:1],
        config=AdaFlowConfig(max_keyframes=64, budget=1),
    )
    assert found.shape == (frames, HEIGHT, WIDTH, 3) and np.isfinite(found).all()
    assert passes == [(64, HEIGHT, WIDTH, 3)] * 8
    assert [program._cache_size() for program in programs] == [size + 1 for size in before]


def test_latents_that_are_no_numbers():
    bad = PROMPTS[:2] * np.float32(np.nan)
    with pytest.raises(UserError, match="step 1 of 3 of sampling, frames from 0 on, gave latents that are no finite"):
        sample([0], 2, prompts=bad)


NONE = VideoConfig(mixer="none")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"video": VideoConfig()}, "expected mixer='none', not 'vrwkv'"),
        (
            {"video": VideoConfig(mixer="none", attention="extended")},
            "attention is 'extended', expected attention='frame",
        ),
        ({"video": VideoConfig(mixer="none", groupnorm_scope="video")}, "groupnorm_scope is 'video'"),
        ({"sampling": Sampling(sampler="dpm++")}, "sampler dpm[+][+] does: choose sampler='ddim'"),
        ({"mesh": jax.make_mesh((1,), ("frame",))}, "runs on one device"),
        ({"controls": ControlConfig(blend=("cat",))}, "no local blend"),
    ],
)
def test_what_it_cannot_edit_with(settings, message):
    usual: dict[str, Any] = {"video": NONE, "mesh": None, "sampling": SAMPLING, "controls": ControlConfig(features=0.8)}
    check_adaflow(**usual)
    with pytest.raises(UserError, match=message):
        check_adaflow(**usual | settings)


def test_settings():
    for wrong in (
        {"budget": 0},
        {"max_clip": 0},
        {"max_keyframes": 0},
        {"blend_frames": -1},
        {"frame_similarity": 1.5},
    ):
        (name, value), *_ = wrong.items()
        with pytest.raises(UserError, match=f"{name} {value} is not"):
            AdaFlowConfig(**wrong)
