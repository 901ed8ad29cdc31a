"""The two ways to edit a clip of any length: each inverts it and samples it back, chunk by chunk, from store to store.

``Streamed``: the tuned video U-Net, whose mixers carry their states from chunk to chunk. ``AdaFlow``: the image U-Net,
with keyframes that all others take their self-attention from.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from vrwkv_jax.diffusion.samplers.registry import SAMPLERS, SamplerName
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
from vrwkv_jax.editing.long.streaming.invert import stream_invert
from vrwkv_jax.editing.long.streaming.modes import Streaming, with_fixed_decay
from vrwkv_jax.editing.long.streaming.operations import operations
from vrwkv_jax.editing.long.streaming.sample import stream_sample
from vrwkv_jax.editing.long.streaming.states import width
from vrwkv_jax.editing.long.streaming.streamed import StreamedUNet
from vrwkv_jax.editing.sampling import FromSource, asks_of
from vrwkv_jax.editing.settings import Sampling
from vrwkv_jax.parallel.placement import to_host
from vrwkv_jax.system.compiling import is_rehearsal
from vrwkv_jax.typing import Array, Float

FEATURE_CHUNKS = 4
"""Chunks of features that are held in memory."""
AfterChunk = Callable[[int, int], object]
"""Called with (step, chunk) when what they gave is written."""


class LongInversion(NamedTuple):
    """How a clip is inverted: as ``Editor.invert`` is told."""

    prompt: str
    num_inference_steps: int
    iterations: int
    sampler: SamplerName


class LongEdit(NamedTuple):
    """How an inverted clip is sampled. ``text`` are the rows of each step, or (S = 1) of all."""

    num_inference_steps: int
    text: Float[Array, "S B L E"]
    source: FromSource | None
    sampling: Sampling
    seed: int

    @property
    def sampled(self) -> int:
        """How many steps there are."""
        return self.sampling.steps_of(self.num_inference_steps)

    @property
    def rows_asked(self) -> int:
        """For how many rows all of them together ask the model."""
        has = {"has_source": self.source is not None, "has_negative": self.sampling.is_guided}
        return sum(len(asks.rows(**has)) for asks in asks_of(self.sampling, self.source, self.sampled))


class LongSampled(NamedTuple):
    """The step of the store that is the edited clip, and the row-calls of all of them (``runs.row_calls``)."""

    step: int
    row_calls: float


@runtime_checkable
class Way(Protocol):
    """One of the ways, for a clip of so many frames. What it keeps beside the latents lies in its directory."""

    @property
    def editor(self) -> Editor: ...

    @property
    def size(self) -> tuple[int, int, int]:
        """``h w C`` of the latents of a frame."""

    def invert(self, trajectory: KeptStore, settings: LongInversion, after_chunk: AfterChunk) -> float:
        """Fills ``trajectory``, which has the clip's latents at step 0; goes on where an earlier call was ended.

        Returns the row-calls of all steps, those of the earlier call included.

        Raises:
            UserError: latents are not all finite.
        """

    def sample(self, trajectory: Latents, edited: KeptStore, edit: LongEdit, after_chunk: AfterChunk) -> LongSampled:
        """Samples into ``edited``, likewise."""

    def disk_bytes(self, rows: int) -> int:
        """How much it takes on disk beside the latents, for edits of so many ``rows`` at most."""


@dataclass(frozen=True)
class Streamed:
    """Of a clip of so many ``frames`` and latents of ``size``, by a video U-Net that was tuned on ``tuned_frames``."""

    editor: Editor
    frames: int
    size: tuple[int, int, int]
    streaming: Streaming
    tuned_frames: int
    directory: Path | None
    """Where it keeps what it does not hold in memory; None: it holds all."""

    @cached_property
    def unet(self) -> StreamedUNet:
        denoiser = with_fixed_decay(self.editor.denoiser, self.editor.video, self.tuned_frames)
        return StreamedUNet(denoiser, self.editor.video, self.frames, self.streaming)

    @cached_property
    def row_calls(self) -> float:
        """Of one row in one call of the model over the clip, sweeps back included."""
        chunks, share = self.unet.chunks, 0.0
        if chunks.sweeps:
            text = self.editor.text_shape(1).shape[1:]
            found = operations(self.unet.denoiser, chunks, 1, self.size, text)
            share = found.sweep / found.chunk
        return (chunks.count + share * chunks.sweeps) * chunks.length / chunks.frames

    def invert(self, trajectory: KeptStore, settings: LongInversion, after_chunk: AfterChunk) -> float:
        text = self.editor.encode_prompts([settings.prompt])
        guesses = None
        if settings.iterations > 1 and self.directory is not None:
            shape = (self.frames, *self.size)
            of = ["guesses", *settings]
            guesses = LatentStore(self.directory / "guesses", of, shape, chunk=self.streaming.chunk_frames, kept=2)
        stream_invert(
            self.unet,
            trajectory,
            text,
            num_inference_steps=settings.num_inference_steps,
            iterations=settings.iterations,
            inverse_step=SAMPLERS[settings.sampler].inverse_step,
            done=_done(trajectory),
            guesses=guesses,
            states=self._states(1, text),
            on_chunk=after_chunk,
        )
        return 0 if is_rehearsal() else settings.num_inference_steps * settings.iterations * self.row_calls

    def sample(self, trajectory: Latents, edited: KeptStore, edit: LongEdit, after_chunk: AfterChunk) -> LongSampled:
        stream_sample(
            self.unet,
            trajectory,
            edited,
            edit.text,
            edit.sampling,
            num_inference_steps=edit.num_inference_steps,
            source=edit.source,
            seed=edit.seed,
            done=_done(edited),
            sampler_states=self._sampler_states(edit),
            states=self._states(edit.text.shape[1], edit.text[0]),
            on_chunk=after_chunk,
        )
        return LongSampled(edit.sampled, 0 if is_rehearsal() else edit.rows_asked * self.row_calls)

    def disk_bytes(self, rows: int) -> int:
        guesses = 2 * 4 * self.frames * math.prod(self.size)
        if self.streaming.stream_mode != "exact":
            return guesses
        latents = np.broadcast_to(np.float32(0), (1, self.streaming.chunk_frames, *self.size))
        width = self.unet.states_width(latents, self.editor.encode_prompts([""]))
        return guesses + 4 * self.unet.chunks.count * width * (1 + rows)

    def _states(self, rows: int, text: Float[Array, "B L E"]) -> "_Rows | None":
        """Where mode exact keeps what it knows while the model is asked, with so many ``rows`` at most."""
        if self.streaming.stream_mode != "exact" or self.unet.chunks.count == 1 or self.directory is None:
            return None
        latents = np.broadcast_to(np.float32(0), (rows, self.streaming.chunk_frames, *self.size))
        return self._rows(self.directory / f"states-{rows}", self.unet.states_width(latents, text), kept=1)

    def _sampler_states(self, edit: LongEdit) -> "_Rows | None":
        if self.directory is None:
            return None
        latents = jnp.zeros((1, self.streaming.chunk_frames, *self.size))
        return self._rows(self.directory / "sampler", width(SAMPLERS[edit.sampling.sampler].init(latents)), kept=2)

    def _rows(self, directory: Path, values: int, kept: int) -> "_Rows":
        shape = (self.unet.chunks.count, values)
        return _Rows(LatentStore(directory, directory.name, shape, chunk=1, kept=kept) if values else None, values)


class _Rows:
    """A store with one row of ``values`` for each chunk, or fewer; None where there are none at all."""

    def __init__(self, store: LatentStore | None, values: int) -> None:
        self._store, self._values = store, values

    def read(self, step: int, chunk: int) -> Float[np.ndarray, " n"]:
        if self._store is None:
            return np.zeros(0, np.float32)
        values: np.ndarray = self._store.read(step, chunk)[0]
        return values

    def write(self, step: int, chunk: int, values: Float[np.ndarray, " n"]) -> None:
        if self._store is not None:
            self._store.write(step, chunk, np.pad(values, (0, self._values - values.size))[None])


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
        for step in range(_done(trajectory), total):
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


def _done(store: KeptStore) -> int:
    """How many steps are there as a whole, without that at the beginning."""
    return max(0, store.next_step() - 1)
