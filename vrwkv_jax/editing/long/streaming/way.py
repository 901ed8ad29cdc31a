"""A clip of any length by the tuned video U-Net, whose mixers carry their states from chunk to chunk."""

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from vrwkv_jax.diffusion.samplers.registry import SAMPLERS
from vrwkv_jax.editing.editor import Editor
from vrwkv_jax.editing.long.latents import KeptStore, Latents
from vrwkv_jax.editing.long.store import LatentStore
from vrwkv_jax.editing.long.streaming.invert import stream_invert
from vrwkv_jax.editing.long.streaming.modes import Streaming, with_fixed_decay
from vrwkv_jax.editing.long.streaming.operations import operations
from vrwkv_jax.editing.long.streaming.sample import stream_sample
from vrwkv_jax.editing.long.streaming.states import width
from vrwkv_jax.editing.long.streaming.streamed import StreamedUNet
from vrwkv_jax.editing.long.ways import AfterChunk, LongEdit, LongInversion, LongSampled, steps_done
from vrwkv_jax.system.compiling import is_rehearsal
from vrwkv_jax.typing import Array, Float


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
            done=steps_done(trajectory),
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
            done=steps_done(edited),
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
