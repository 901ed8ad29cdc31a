"""How many operations the programs of streaming have. Counted, not measured."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from vrwkv_jax.editing.denoiser import Denoiser
from vrwkv_jax.editing.long.streaming.chunks import Chunks
from vrwkv_jax.editing.long.streaming.programs import predict_chunk, states_before
from vrwkv_jax.system.operations import count_operations


class Operations(NamedTuple):
    """Those of the model for a chunk, and of a sweep back over one, or over the frames that are looked ahead to."""

    chunk: int
    sweep: int


def operations(
    denoiser: Denoiser, chunks: Chunks, rows: int, size: tuple[int, ...], text: tuple[int, ...]
) -> Operations:
    """For so many ``rows`` of frames whose latents have this ``size``, ``h w C``, and of texts ``L E``.

    Without controls, whose operations are few. The parameters may be shapes.
    """
    model = denoiser.with_recurrences(implementation=None)  # what is named for a GPU can't be traced for CPUs

    def shape(*size: int, dtype: Any = jnp.float32) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(size, dtype)

    common = {"frames": shape(dtype=jnp.int32), "timestep": shape(dtype=jnp.int32), "injection": {}}
    common["encoder_hidden_states"] = shape(rows, *text)

    def chunk(model: Denoiser, given: dict[str, Any]) -> Any:
        return predict_chunk(model, layers=(), **given)

    def sweep(model: Denoiser, given: dict[str, Any]) -> Any:
        return states_before(model, layers=(), **given)

    given = common | {"latents": shape(rows, chunks.length, *size), "past": None, "future": None}
    past = jax.eval_shape(chunk, model, given).past
    given |= {"past": past}
    if not chunks.streaming.looks_behind:
        return Operations(count_operations(chunk, model, given), 0)
    given |= {"future": {place: of_mixer.state for place, of_mixer in past.mixers.items()}}
    swept = common | {"latents": shape(rows, 1 + chunks.window, *size), "future": given["future"]}
    of_sweep = count_operations(sweep, model, swept) if chunks.sweeps else 0
    return Operations(count_operations(chunk, model, given), of_sweep)
