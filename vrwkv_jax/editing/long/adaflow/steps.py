"""The compiled programs of a step of sampling. Every number of keyframes and size of chunk compiles once."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from einops import rearrange

from vrwkv_jax.diffusion.guidance import Guidance, guided
from vrwkv_jax.diffusion.samplers.registry import SAMPLERS, SamplerName
from vrwkv_jax.editing.denoiser import Denoiser
from vrwkv_jax.editing.long.adaflow.features import at_levels, attention_levels
from vrwkv_jax.editing.long.adaflow.passes import FramePass, KeyframePass, Outputs
from vrwkv_jax.editing.long.adaflow.propagation import Taking, matches
from vrwkv_jax.editing.long.adaflow.slimming import slimmed
from vrwkv_jax.models.control import Injection, Layers
from vrwkv_jax.system.compiling import program
from vrwkv_jax.typing import Array, Float, Int


class Asked(NamedTuple):
    """What both passes of a step are asked: under which prompts, and what is taken over from the source.

    The first row of ``encoder_hidden_states`` is the source's prompt, if there is a source; then the negative prompt,
    if the step is guided; last, the prompt. ``injection`` is empty where nothing is taken over.
    """

    timestep: Int[Array, ""]
    encoder_hidden_states: Float[Array, "B L E"]
    injection: Injection


class Kept(NamedTuple):
    """What frames need of K keyframes."""

    outputs: Outputs
    features: Float[Array, "K h w D"]


@program(
    "the keyframes' pass",
    once_per="size of frame, number of keyframes, layers of the controls, and with or without guidance and the source",
    static_argnames=("layers", "budget"),
)
def keyframe_pass(
    denoiser: Denoiser,
    latents: Float[Array, "M h w C"],
    *,
    source: Float[Array, "M h w C"] | None,
    features: Float[Array, "M h w D"],
    asked: Asked,
    layers: Layers,
    budget: int,
) -> Outputs:
    """What self-attention gives for M keyframes, which attend to each other (``slimmed_attention``).

    ``features`` are those of the clip itself (``frame_features``), in every step.
    """
    levels = at_levels(features, attention_levels(denoiser.params))
    indices = {tokens: slimmed(found, budget) for tokens, found in levels.items()}
    control = KeyframePass(
        asked.injection, layers, len(asked.encoder_hidden_states), has_source=source is not None, indices=indices
    )
    _predict(denoiser, latents, source, asked, control)
    return control.outputs


@program(
    "the sampling of frames",
    once_per="size of chunk, number of keyframes, layers of the controls, and with or without guidance and the source",
    static_argnames=("layers", "sampler"),
)
def chunk_step(
    denoiser: Denoiser,
    latents: Float[Array, "F h w C"],
    *,
    source: Float[Array, "F h w C"] | None,
    features: Float[Array, "F h w D"],
    kept: Kept,
    taking: Taking,
    asked: Asked,
    layers: Layers,
    previous_timestep: Int[Array, ""],
    steps_left: Int[Array, ""],
    guidance: Guidance,
    sampler: SamplerName,
    eta: Float[Array, ""],
    key: Array,
) -> Float[Array, "F h w C"]:
    """One step of sampling for F frames, down to ``previous_timestep``, with the self-attention of their keyframes.

    Guidance is rescaled frame by frame, so that it is the same in chunks of any size.
    """
    levels = attention_levels(denoiser.params)
    own, of_keyframes = at_levels(features, levels), at_levels(kept.features, levels)
    phi = {tokens: matches(own[tokens], of_keyframes[tokens], taking) for tokens in own}
    control = FramePass(
        asked.injection,
        layers,
        len(asked.encoder_hidden_states),
        has_source=source is not None,
        outputs=kept.outputs,
        phi=phi,
        taking=taking,
    )
    output = _predict(denoiser, latents, source, asked, control)
    edited = rearrange(output[int(source is not None) :], "b f h w c -> (b f) h w c")
    step = SAMPLERS[sampler].step
    latents, _ = step(
        denoiser.schedule,
        guided(edited, len(latents), guidance),
        latents,
        SAMPLERS[sampler].init(latents),
        timestep=asked.timestep,
        previous_timestep=previous_timestep,
        steps_left=steps_left,
        eta=eta,
        key=key,
    )
    return latents


@program("the keyframes' choice", once_per="size of frame, and number of rows and of keyframes")
def take(held: tuple[Outputs, ...], places: Int[Array, "2 K"]) -> Outputs:
    """The outputs of K keyframes out of those of several windows; ``places`` has the window and the place in it."""

    def of_block(*windows: Float[Array, "R M S N D"]) -> Float[Array, "R K S N D"]:
        found = windows[0][:, places[1]]
        for index, window in enumerate(windows[1:], 1):
            found = jnp.where((places[0] == index)[:, None, None, None], window[:, places[1]], found)
        return found

    taken: Outputs = jax.tree.map(of_block, *held)
    return taken


def _predict(
    denoiser: Denoiser,
    latents: Float[Array, "F h w C"],
    source: Float[Array, "F h w C"] | None,
    asked: Asked,
    control: KeyframePass | FramePass,
) -> Float[Array, "B F h w C"]:
    beside = [] if source is None else [source]
    batch = jnp.stack(beside + [latents] * (control.rows - len(beside)))
    timesteps = jnp.broadcast_to(asked.timestep, (control.rows,))
    return denoiser.predict_under(batch, timesteps, asked.encoder_hidden_states, control)
