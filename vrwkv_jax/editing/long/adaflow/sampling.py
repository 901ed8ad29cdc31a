"""The loop of an edit: step after step, in each of them chunk after chunk, in memory that no length changes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vrwkv_jax.editing.controls.base import Needs
from vrwkv_jax.editing.denoiser import Denoiser
from vrwkv_jax.editing.finite import check_finite
from vrwkv_jax.editing.long.adaflow import steps
from vrwkv_jax.editing.long.adaflow.config import AdaFlowConfig
from vrwkv_jax.editing.long.adaflow.draw import draw
from vrwkv_jax.editing.long.adaflow.passes import Outputs
from vrwkv_jax.editing.long.adaflow.schedule import Cut, Schedule
from vrwkv_jax.editing.long.adaflow.windows import Window
from vrwkv_jax.editing.long.latents import KeptStore, Latents
from vrwkv_jax.editing.sampling import Asks, FromSource, asks_of, first_of_each
from vrwkv_jax.editing.settings import Sampling
from vrwkv_jax.parallel.placement import to_host
from vrwkv_jax.system.compiling import is_rehearsal
from vrwkv_jax.typing import Array, Float

AfterChunk = Callable[[int, int], object]
"""Called with (step, chunk) of ``edited`` when it is written. Returning False ends the run there."""


@dataclass(frozen=True)
class Video(Cut):
    """An inverted video.

    ``source`` has the latents after every step of its inversion: at step 0 those of the video, at
    ``num_inference_steps`` the noise. ``features`` gives those of any frames (``frame_features``), be it that they are
    kept or that they are made again.
    """

    source: Latents
    features: Callable[[Sequence[int]], Float[Any, "F h w D"]]
    num_inference_steps: int

    def read(self, latents: Latents, step: int, frames: Sequence[int]) -> Float[np.ndarray, "F h w C"]:
        """Those of any ``frames``."""
        of_chunks = {chunk: latents.read(step, chunk) for chunk in sorted({frame // self.size for frame in frames})}
        return np.stack([of_chunks[frame // self.size][frame % self.size] for frame in frames])


def adaflow_sample(
    denoiser: Denoiser,
    video: Video,
    edited: KeptStore,
    encoder_hidden_states: Float[Array, "B L E"],
    config: AdaFlowConfig,
    sampling: Sampling,
    *,
    source: FromSource | None = None,
    seed: int,
    likely: str = "the guidance scale is too high, or the weights are damaged",
    after_chunk: AfterChunk = lambda step, chunk: None,
) -> int:
    """Samples an inverted ``video`` into ``edited``, and returns the step there that is the result.

    ``encoder_hidden_states`` are the source's prompt, if there is a ``source``, the negative prompt, if ``sampling`` is
    guided, and the prompt. ``edited`` gets the latents after every step, at step 0 those that it starts from, and is
    asked for two steps at a time. Does what is missing there: an edit that was ended goes on, and gives the same.

    Raises:
        UserError: latents are not all finite; ``likely`` is the cause that it gives.
    """
    run = _Run(denoiser, video, edited, np.asarray(encoder_hidden_states), config, sampling, source, seed)
    ahead = [0, *(step + 1 for step in first_of_each(run.asks))]
    for step in ahead if is_rehearsal() else range(edited.next_step(), run.sampled + 1):
        of_step = _Step(run, step - 1) if step > 0 else None
        for chunk in edited.missing(step):
            if of_step is None:
                latents = video.source.read(run.sampled, chunk)
            else:
                sampled = of_step.sample(chunk)
                what = f"step {step} of {run.sampled} of sampling, frames from {chunk * video.size} on,"
                check_finite(sampled, what, likely)
                latents = to_host(sampled)[: video.frames - chunk * video.size]
            edited.write(step, chunk, latents)
            if after_chunk(step, chunk) is False:
                return run.sampled
    return run.sampled


@dataclass(frozen=True)
class _Run:
    denoiser: Denoiser
    video: Video
    edited: KeptStore
    text: Float[np.ndarray, "B L E"]
    config: AdaFlowConfig
    sampling: Sampling
    source: FromSource | None
    seed: int

    @property
    def sampled(self) -> int:
        return self.sampling.steps_of(self.video.num_inference_steps)

    @cached_property
    def asks(self) -> list[Asks]:
        return asks_of(self.sampling, self.source, self.sampled)

    @cached_property
    def schedule(self) -> Schedule:
        return Schedule(self.video, self.config)


class _Step:
    """One step of sampling, of all chunks in their order. Passes over keyframes are made when a chunk needs them."""

    def __init__(self, run: _Run, step: int):
        self._run, self._step = run, step
        video, total = run.video, run.video.num_inference_steps
        at = total - run.sampled + step
        self._inverted = total - at  # the source's step where sampling stands
        self._drawn = draw(run.seed, step, video.starts, video.frames)
        source, asks = run.source, run.asks[step]
        rows = asks.rows(has_source=source is not None, has_negative=run.sampling.is_guided)
        self._has_source = asks.need is Needs.SOURCE
        acts = source is not None and asks.need is not Needs.NOTHING
        injection = source.injections[step] if source is not None and acts else {}
        self._layers = source.layers if source is not None and acts else ()
        schedule = run.denoiser.schedule
        self._previous = schedule.previous_timesteps(total)[at]
        self._asked = steps.Asked(schedule.timesteps(total)[at], jnp.asarray(run.text[rows]), injection)
        self._held: dict[int, Outputs] = {}

    def sample(self, chunk: int) -> Float[Array, "F h w C"]:
        """The latents of a chunk after this step."""
        run, video, clips = self._run, self._run.video, self._run.schedule.clips[chunk]
        frames = video.of_chunk(chunk)
        latents, source = self._read(frames)
        key = jax.random.key(run.seed)
        for number in (self._step, chunk):
            key = jax.random.fold_in(key, number)
        result: Array = steps.chunk_step(
            run.denoiser,
            latents,
            source=source,
            features=video.features(frames),
            kept=steps.Kept(self._outputs(chunk), video.features([self._drawn[clip] for clip in clips])),
            taking=run.schedule.neighbours.taking(frames, clips, self._drawn),
            asked=self._asked,
            layers=self._layers,
            previous_timestep=self._previous,
            steps_left=np.int32(run.sampled - 1 - self._step),
            guidance=run.sampling.guidance,
            sampler=run.sampling.sampler,
            eta=np.float32(run.sampling.eta),
            key=key,
        )
        return result

    def _outputs(self, chunk: int) -> Outputs:
        """Those of the keyframes that ``chunk`` takes from. No more windows are held than it needs."""
        schedule = self._run.schedule
        indices = schedule.windows_of(chunk)
        self._held = {index: held for index, held in self._held.items() if index >= indices[0]}
        for index in set(indices) - self._held.keys():
            self._held[index] = self._pass(schedule.windows[index])
        held = [self._held[index] for index in sorted(set(indices))]
        held += held[-1:] * (schedule.most_windows - len(held))
        clips = zip(schedule.clips[chunk], indices, strict=True)
        places = [clip - schedule.windows[index].start for clip, index in clips]
        taken: Outputs = steps.take(
            tuple(held), np.array([[index - indices[0] for index in indices], places], np.int32)
        )
        return taken

    def _pass(self, window: Window) -> Outputs:
        run = self._run
        frames = self._drawn[window.start : window.start + run.schedule.keyframes]
        latents, source = self._read(frames)
        outputs: Outputs = steps.keyframe_pass(
            run.denoiser,
            latents,
            source=source,
            features=run.video.features(frames),
            asked=self._asked,
            layers=self._layers,
            budget=run.config.budget,
        )
        return outputs

    def _read(self, frames: Sequence[int]) -> tuple[Float[np.ndarray, "F h w C"], Float[np.ndarray, "F h w C"] | None]:
        """Latents where this step begins, and the source's there, if they are needed."""
        video = self._run.video
        source = video.read(video.source, self._inverted, frames) if self._has_source else None
        return video.read(self._run.edited, self._step, frames), source
