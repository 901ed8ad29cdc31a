"""One program for all mixers of one shape, of which a U-Net has many."""

from functools import partial
from typing import Any

import jax
from flax import nnx

from pallas_kernels.bi_wkv import State
from vrwkv_jax.models.bypass import Bypass
from vrwkv_jax.models.chunk import MixerChunk, MixerPast
from vrwkv_jax.models.control import Control, Injection, Layers
from vrwkv_jax.models.mixers.base import Carries
from vrwkv_jax.typing import Array, Float


class SharedMixer(nnx.Module):
    """A mixer whose call, ``mix``, is traced and lowered once for all of its shape, wherever they stand."""

    def __call__(self, x: Float[Array, "B F H W C"], control: Control | None = None) -> Float[Array, "B F H W C"]:
        chunk = None if control is None else control.chunk
        place = "" if control is None else control.place
        mixed: Array
        mixed, past = _mix(*nnx.split(self), x, *_given(control), None if chunk is None else chunk.of(place))
        if chunk is not None and past is not None:
            chunk.left[place] = past
        return mixed

    def state_before(self, x: Float[Array, "B F H W C"], control: Control) -> State:
        """The backward state of the recurrence over frames before the second frame of ``x``, where a chunk begins: that
        of the chunk and of all behind it. The first frame is the last one of the chunk before."""
        assert control.chunk is not None
        before: State = _state_before(*nnx.split(self), x, *_given(control), control.chunk.of(control.place))
        return before

    @classmethod
    def bypass(cls, channels: int, config: Any, *, heads: int, rngs: nnx.Rngs) -> Bypass | None:
        return None

    @classmethod
    def carries(cls, config: Any) -> Carries:
        return "nothing"

    def mix(self, x: Float[Array, "B F H W C"], control: Control | None) -> Float[Array, "B F H W C"]:
        raise NotImplementedError

    def mix_chunk(
        self, x: Float[Array, "B F H W C"], control: Control | None, chunk: MixerChunk
    ) -> tuple[Float[Array, "B F H W C"], MixerPast]:
        """``mix`` of a chunk of a clip as of the whole clip, or of that up to the chunk's end where states are carried
        onwards alone; and what it hands on to the next chunk."""
        raise NotImplementedError

    def chunk_state(self, x: Float[Array, "B F H W C"], control: Control | None, chunk: MixerChunk) -> State:
        """``state_before``, for a control that acts at mixers alone."""
        raise NotImplementedError


def _given(control: Control | None) -> tuple[Injection | None, Layers | None, int]:
    """What acts at a mixer, for it to share its program wherever it stands."""
    if control is None:
        return None, None, 0
    control = control.of("mixer")
    return control.injection, control.layers, control.rows


def _control(injection: Injection | None, layers: Layers | None, rows: int) -> Control | None:
    return None if injection is None or layers is None else Control(injection, layers, rows)


@partial(jax.jit, static_argnames=("graphdef", "layers", "rows"))
def _mix(
    graphdef: nnx.GraphDef[SharedMixer],
    state: nnx.State[Any, Any],
    x: Float[Array, "B F H W C"],
    injection: Injection | None,
    layers: Layers | None,
    rows: int,
    chunk: MixerChunk | None,
) -> tuple[Float[Array, "B F H W C"], MixerPast | None]:
    mixer: SharedMixer = nnx.merge(graphdef, state)
    control = _control(injection, layers, rows)
    return (mixer.mix(x, control), None) if chunk is None else mixer.mix_chunk(x, control, chunk)


@partial(jax.jit, static_argnames=("graphdef", "layers", "rows"))
def _state_before(
    graphdef: nnx.GraphDef[SharedMixer],
    state: nnx.State[Any, Any],
    x: Float[Array, "B F H W C"],
    injection: Injection | None,
    layers: Layers | None,
    rows: int,
    chunk: MixerChunk,
) -> State:
    mixer: SharedMixer = nnx.merge(graphdef, state)
    return mixer.chunk_state(x, _control(injection, layers, rows), chunk)
