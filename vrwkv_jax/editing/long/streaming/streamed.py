"""One call of the video U-Net over a clip of any length: chunk by chunk, in every mode of ``modes``."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from vrwkv_jax.editing.denoiser import Denoiser
from vrwkv_jax.editing.long.latents import InMemory, Store, filled
from vrwkv_jax.editing.long.streaming.chunks import Chunks, ReadChunk
from vrwkv_jax.editing.long.streaming.modes import Streaming, check_mode
from vrwkv_jax.editing.long.streaming.programs import predict_chunk, states_before
from vrwkv_jax.editing.long.streaming.states import States, flat, shaped, width
from vrwkv_jax.models.chunk import Past, nothing_before
from vrwkv_jax.models.control import Injection, Layers
from vrwkv_jax.models.video_config import VideoConfig
from vrwkv_jax.system.errors import UserError
from vrwkv_jax.typing import Array, Float


class Predicted(NamedTuple):
    """A chunk and what the model says of it. Only the first ``frames`` of the arrays are the clip's."""

    chunk: int
    frames: int
    latents: Float[np.ndarray, "B F h w C"]
    output: Float[Array, "B F h w C"]
    attention: Float[Array, "2 F h w"] | None


@dataclass(frozen=True)
class Call:
    """What the model is asked with: one timestep, the rows' texts, and what they take over from the first row."""

    timestep: Any
    encoder_hidden_states: Float[Array, "B L E"]
    injection: Injection
    layers: Layers

    @property
    def arguments(self) -> dict[str, Any]:
        """For the programs."""
        return {name: getattr(self, name) for name in ("timestep", "encoder_hidden_states", "injection", "layers")}


class StreamedUNet:
    """The video U-Net of ``denoiser``, made as ``video`` says, over a clip of so many ``frames`` as ``streaming`` says.

    The decay of its mixers must not depend on the number of frames (``modes.with_fixed_decay``).

    Raises:
        UserError: such a model can't be streamed so.
    """

    def __init__(self, denoiser: Denoiser, video: VideoConfig, frames: int, streaming: Streaming) -> None:
        check_mode(video, streaming.stream_mode)
        if denoiser.mesh is not None:
            raise UserError("a clip is streamed on one device: leave out mesh")
        self.denoiser, self.streaming = denoiser, streaming
        self.chunks = Chunks(frames, streaming)
        self._carried: dict[tuple[int, ...], Past] = {}

    def predict(
        self,
        read: ReadChunk,
        timestep: int | np.integer,
        encoder_hidden_states: Float[Array, "B L E"],
        *,
        injection: Injection | None = None,
        layers: Layers = (),
        states: Store | None = None,
    ) -> Iterator[Predicted]:
        """The prediction of ``Denoiser.predict`` at one timestep (or, with an ``injection``, of ``predict_beside``) for
        each chunk of the clip, in order.

        Args:
            read: gives the rows' latents of a chunk, as often as it is asked. In mode exact it is asked for all chunks,
                from the last on, before anything is predicted; the others ask for a chunk and those that it looks
                ahead to just before the chunk is predicted.
            encoder_hidden_states: the rows' texts.
            states: for mode exact, where the states behind all chunks but the last are kept meanwhile, each by step 0
                and its chunk, in ``states_width`` numbers. None: in memory.
        """
        call = Call(np.int32(timestep), encoder_hidden_states, injection or {}, layers)
        start = Past(jnp.asarray(True), nothing_before(self._shapes(read(0), call).mixers))
        nothing: States = {}
        if self.streaming.looks_behind:
            nothing = {place: of_mixer.state for place, of_mixer in start.mixers.items()}
        mode, past = self.streaming.stream_mode, start
        kept: Store | None = None
        if mode == "exact":
            kept = InMemory() if states is None else states
            self._sweep_back(read, call, nothing, kept)
        for chunk in range(self.chunks.count):
            latents = read(chunk)
            future: States | None = nothing or None
            if kept is not None and chunk + 1 < self.chunks.count:
                future = shaped(kept.read(0, chunk), nothing)
            elif mode == "look_ahead":
                future = self._look_ahead(read, call, nothing, chunk, latents)
            frames, latents = latents.shape[1], filled(latents, self.chunks.length, axis=1)
            given = {"frames": np.int32(frames), "past": past, "future": future}
            output, attention, left = predict_chunk(self.denoiser, latents, **given, **call.arguments)
            past = start if mode == "reset" else left
            yield Predicted(chunk, frames, latents, output, attention)

    def states_width(self, rows: Float[np.ndarray, "B f h w C"], text: Float[Array, "B L E"]) -> int:
        """How many numbers the states behind one chunk are, of a clip whose first chunk has these ``rows``."""
        shapes = self._shapes(rows, Call(np.int32(0), text, {}, ()))
        return width({place: of_mixer.state for place, of_mixer in shapes.mixers.items()})

    def _shapes(self, rows: Float[np.ndarray, "B f h w C"], call: Call) -> Past:
        """Those of what is carried, which are found by tracing the U-Net once for each size of a chunk."""
        latents = filled(rows, self.chunks.length, axis=1)
        if latents.shape not in self._carried:
            given = {"frames": np.int32(1), "past": None, "future": None}
            self._carried[latents.shape] = predict_chunk.shapes(self.denoiser, latents, **given, **call.arguments)[2]
        return self._carried[latents.shape]

    def _sweep_back(self, read: ReadChunk, call: Call, nothing: States, kept: Store) -> None:
        """Keeps the backward states behind every chunk but the last."""
        future, behind = nothing, read(self.chunks.count - 1)
        for chunk, frames in self.chunks.swept_first():
            here = read(chunk - 1)
            future = self._before(here, behind, frames, call, future)
            kept.write(0, chunk - 1, flat(future))
            behind = here

    def _look_ahead(
        self, read: ReadChunk, call: Call, nothing: States, chunk: int, latents: Float[np.ndarray, "B f h w C"]
    ) -> States:
        """The backward state behind ``chunk``, of as many frames as are looked ahead to."""
        future, swept = nothing, self.chunks.swept_before(chunk)
        ahead = {chunk: latents} | {behind: read(behind) for behind, _ in reversed(swept)}
        for behind, frames in swept:
            future = self._before(ahead[behind - 1], ahead[behind], frames, call, future)
        return future

    def _before(
        self,
        here: Float[np.ndarray, "B f h w C"],
        behind: Float[np.ndarray, "B g h w C"],
        frames: int,
        call: Call,
        future: States,
    ) -> States:
        """The backward state between two chunks, of the first ``frames`` of the second and the ``future`` behind it.

        The program sees a window of the second, and the last frame of the first.
        """
        latents = np.concatenate([here[:, -1:], filled(behind[:, :frames], self.chunks.window, axis=1)], axis=1)
        run = partial(states_before, self.denoiser, latents, frames=np.int32(frames), future=future)
        states: States = run(**call.arguments)
        return states
