"""The compiled programs of streaming. One of each serves all chunks of a clip and clips of every length."""

from typing import NamedTuple

import jax.numpy as jnp

from pallas_kernels.bi_wkv import State
from vrwkv_jax.editing.controls.blend import word_attention
from vrwkv_jax.editing.denoiser import Denoiser
from vrwkv_jax.models import params as P
from vrwkv_jax.models.chunk import Chunk, Past
from vrwkv_jax.models.control import Control, Injection, Layers
from vrwkv_jax.models.unet import UNet
from vrwkv_jax.system.compiling import program
from vrwkv_jax.typing import Array, Float, Int

ONCE_PER = "size of chunk, number of rows, and layers of the controls"


class OfChunk(NamedTuple):
    """What the model says of a chunk: its prediction, the attention to the chosen words (None: to none were any
    chosen), and what it knows of the clip up to the chunk's end."""

    output: Float[Array, "B F H W C"]
    attention: Float[Array, "2 F H W"] | None
    past: Past


@program("a chunk of the clip", once_per=ONCE_PER, static_argnames="layers")
def predict_chunk(
    denoiser: Denoiser,
    latents: Float[Array, "B F H W C"],
    *,
    frames: Int[Array, ""],
    timestep: Int[Array, ""],
    encoder_hidden_states: Float[Array, "B L E"],
    past: Past | None,
    future: dict[str, State] | None,
    injection: Injection,
    layers: Layers,
) -> OfChunk:
    """The model's prediction, in float32, of a chunk of a clip whose first ``frames`` count.

    ``past`` and ``future`` are what the mixers know of the clip before the chunk and behind it. The rows take over from
    the first what ``injection`` says, in ``layers``. Computed as ``Denoiser.predict_beside``.
    """
    chunk = Chunk(frames, past, future)
    control = Control(injection, layers, len(latents), chunk=chunk)
    timesteps = jnp.broadcast_to(timestep, len(latents))
    output = denoiser.predict_under(latents, timesteps, encoder_hidden_states, control)
    attention = word_attention(control.maps, *latents.shape[2:4]) if control.maps else None
    return OfChunk(output, attention, Past(jnp.asarray(False), chunk.left))


@program("the sweep back over the clip", once_per=ONCE_PER, static_argnames="layers")
def states_before(
    denoiser: Denoiser,
    latents: Float[Array, "B F_and_one H W C"],
    *,
    frames: Int[Array, ""],
    timestep: Int[Array, ""],
    encoder_hidden_states: Float[Array, "B L E"],
    future: dict[str, State],
    injection: Injection,
    layers: Layers,
) -> dict[str, State]:
    """What lies behind the first of the ``latents``' frames, for the mixers: the chunk, of which the next ``frames``
    count, and the ``future`` behind that. See ``UNet.states_before``."""
    control = Control(injection, layers, len(latents), chunk=Chunk(frames, None, future))
    unet: UNet = P.merge(denoiser.graphdef, P.cast(denoiser.params, denoiser.dtype))
    timesteps = jnp.broadcast_to(timestep, len(latents))
    text = encoder_hidden_states.astype(denoiser.dtype)
    return unet.states_before(latents.astype(denoiser.dtype), timesteps, text, control)
