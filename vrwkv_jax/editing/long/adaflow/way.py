"""A clip of any length by the image U-Net, with keyframes that all other frames take their self-attention from."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vrwkv_jax.editing import steps
from vrwkv_jax.editing.editor import Editor
from vrwkv_jax.editing.finite import check_finite
from vrwkv_jax.editing.long.adaflow.config import AdaFlowConfig
from vrwkv_jax.editing.long.adaflow.features import frame_features
from vrwkv_jax.editing.long.adaflow.keyframes import clip_starts
from vrwkv_jax.editing.long.adaflow.sampling import Video, adaflow_sample
from vrwkv_jax.editing.long.adaflow.schedule import Cut, Schedule
from vrwkv_jax.editing.long.latents import KeptStore, Latents, filled
from vrwkv_jax.editing.long.store import LatentStore
from vrwkv_jax.editing.long.ways import AfterChunk, LongEdit, LongInversion, LongSampled, steps_done
from vrwkv_jax.parallel.placement import to_host
from vrwkv_jax.system.compiling import is_rehearsal
from vrwkv_jax.typing import Array, Float

FEATURE_CHUNKS = 4
"""Chunks of features that are held in memory."""


@dataclass(frozen=True)
class AdaFlow:
    """Of a clip of so many ``frames`` and latents of ``size``, by the image U-Net, ``chunk_frames`` at a time."""

    editor: Editor
    frames: int
    size: tuple[int, int, int]
    config: AdaFlowConfig
    chunk_frames: int
    directory: Path
    _clips: "list[_Clips]" = field(default_factory=list, init=False, compare=False)
    """Of the clip, once they have been found."""

    def prepare(self, source: Latents, after_chunk: AfterChunk = lambda step, chunk: None) -> None:
        """Makes the features of all frames, which go to the disk, and finds the clips by them: the same for every edit.

        ``source`` has the clip's latents as those of step 0. In a rehearsal no clips are found.
        """
        if is_rehearsal():
            self._features_of(source.read(0, 0))
        elif not self._clips:
            store = self._features
            for chunk in store.missing(0):
                store.write(0, chunk, self._features_of(source.read(0, chunk)))
                after_chunk(0, chunk)
            features = _Features(store, self.chunk_frames)
            starts = list(clip_starts((features.of(frame) for frame in range(self.frames)), self.config))
            self._clips.append(_Clips(features, starts))

    @property
    def prepared(self) -> int:
        """How many chunks have features."""
        return self._features.chunks - len(self._features.missing(0))

    @property
    def row_calls(self) -> float:
        """Of one row of all chunks, without keyframes."""
        cut = Cut(self.frames, self.chunk_frames, [])
        return len(cut.chunks) * cut.size / cut.frames

    def invert(self, trajectory: KeptStore, settings: LongInversion, after_chunk: AfterChunk) -> float:
        """Frame by frame: that of a chunk depends on no other."""
        schedule, total = self.editor.schedule, settings.num_inference_steps
        timesteps, previous = schedule.inverse_timesteps(total), schedule.previous_timesteps(total)[::-1]
        text = self.editor.encode_prompts([settings.prompt])
        for step in range(steps_done(trajectory), total):
            for chunk in trajectory.missing(step + 1):
                latents = trajectory.read(step, chunk)
                before = jnp.asarray(filled(latents, self.chunk_frames)[None])
                inverted, _ = steps.inversion_step(
                    self.editor.denoiser,
                    before,
                    timestep=timesteps[step],
                    previous_timestep=previous[step],
                    encoder_hidden_states=text,
                    guess=before,
                    iterations=np.int32(settings.iterations),
                    tolerance=np.float32(0),
                    sampler=settings.sampler,
                )
                check_finite(inverted, f"step {step + 1} of {total} of the inversion", "the weights are damaged")
                trajectory.write(step + 1, chunk, to_host(inverted)[0, : len(latents)])
                after_chunk(step, chunk)
        return total * settings.iterations * self.row_calls

    def sample(self, trajectory: Latents, edited: KeptStore, edit: LongEdit, after_chunk: AfterChunk) -> LongSampled:
        self.prepare(trajectory)
        if not self._clips:  # in a rehearsal: how many keyframes there will be is not known yet
            return LongSampled(edit.sampled, 0)
        features, starts = self._clips[0]
        if is_rehearsal():  # beside who reads them
            features = self._blank_features
        video = Video(self.frames, self.chunk_frames, starts, trajectory, features, edit.num_inference_steps)
        last = adaflow_sample(
            self.editor.denoiser,
            video,
            edited,
            edit.text[0],
            self.config,
            edit.sampling,
            source=edit.source,
            seed=edit.seed,
            after_chunk=lambda step, chunk: after_chunk(step - 1, chunk) if step else None,  # at 0 it only begins
        )
        return LongSampled(last, edit.rows_asked * Schedule(video, self.config).frames_asked / self.frames)

    def disk_bytes(self, rows: int) -> int:
        return 4 * self.frames * math.prod(self._feature_shape)

    def starts(self, source: Latents) -> list[int]:
        """The first frames of the clips that AdaFlow cuts it into; for ``source`` see ``prepare``."""
        self.prepare(source)
        return self._clips[0].starts

    @cached_property
    def _empty(self) -> Float[Array, "1 L E"]:
        return self.editor.encode_prompts([""])

    @property
    def _feature_shape(self) -> tuple[int, ...]:
        """Of one frame's."""
        one = jax.ShapeDtypeStruct((self.chunk_frames, *self.size), jnp.float32)
        shape: tuple[int, ...] = frame_features.shapes(self.editor.denoiser, one, self._empty).shape
        return shape[1:]

    @cached_property
    def _features(self) -> LatentStore:
        shape = (self.frames, *self._feature_shape)
        return LatentStore(self.directory / "features", "features", shape, chunk=self.chunk_frames, kept=1)

    def _features_of(self, latents: Float[np.ndarray, "f h w C"]) -> Float[np.ndarray, "f h w D"]:
        made = frame_features(self.editor.denoiser, filled(latents, self.chunk_frames), self._empty)
        return to_host(made)[: len(latents)]

    def _blank_features(self, frames: Sequence[int]) -> Float[np.ndarray, "F h w D"]:
        return np.ones((len(frames), *self._feature_shape), np.float32)


class _Features:
    """Of any frames, from a ``store`` of chunks of ``size`` frames. Read as float32, in whatever they were made."""

    def __init__(self, store: LatentStore, size: int) -> None:
        self._store, self._size, self._held = store, size, dict[int, np.ndarray]()

    def __call__(self, frames: Sequence[int]) -> Float[np.ndarray, "F h w D"]:
        return np.stack([self.of(frame) for frame in frames])

    def of(self, frame: int) -> Float[np.ndarray, "h w D"]:
        chunk = frame // self._size
        if chunk not in self._held:
            while len(self._held) >= FEATURE_CHUNKS:
                self._held.pop(next(iter(self._held)))
            self._held[chunk] = self._store.read(0, chunk)
        found: np.ndarray = self._held[chunk][frame % self._size]
        return found


class _Clips(NamedTuple):
    features: Callable[[Sequence[int]], Float[np.ndarray, "F h w D"]]
    starts: list[int]
