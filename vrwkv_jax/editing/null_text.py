"""Null-text inversion (Mokady et al. 2023, https://arxiv.org/abs/2211.09794).

Guided sampling under the clip's own prompt leaves the way that its inversion came. For each step, an embedding in place
of the empty prompt's is optimised, one for all frames, so that the step comes out where the inversion was.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from vrwkv_jax.diffusion.guidance import Guidance, guided
from vrwkv_jax.diffusion.samplers.ddim import ddim_step
from vrwkv_jax.diffusion.samplers.registry import SAMPLERS
from vrwkv_jax.editing.denoiser import Denoiser
from vrwkv_jax.editing.inversion import Inversion
from vrwkv_jax.editing.kept_steps import KeptState
from vrwkv_jax.editing.loop import AfterStep
from vrwkv_jax.editing.settings import Sampling
from vrwkv_jax.editing.steps import sampling_step
from vrwkv_jax.system.compiling import program
from vrwkv_jax.typing import Array, Float, Int

LEARNING_RATE = 1e-2  # falls to half of it towards the clip
GOOD_ENOUGH = 1e-5  # mean squared error


def null_text(
    denoiser: Denoiser,
    inversion: Inversion,
    *,
    text: Float[Array, "1 L E"],
    empty: Float[Array, "1 L E"],
    sampling: Sampling,
    iterations: int,
    kept: KeptState | None,
    after_step: AfterStep,
    counted: Callable[[int], object],
) -> Float[Array, "S L E"]:
    """An embedding for each step of sampling under ``text``, the first found from that of the ``empty`` prompt.

    A step that is not guided has that of the step before, and asks once. See ``Editor.null_text``. Goes on after the
    steps that are ``kept``, and keeps more.
    """
    total, schedule = inversion.num_inference_steps, denoiser.schedule
    timesteps, previous_timesteps = schedule.timesteps(total), schedule.previous_timesteps(total)
    latents, embedding, found, done, row_calls = inversion.latents, empty, [], 0, 0
    if kept is not None and kept.step > 0:
        row_calls = int(kept.arrays[0])
        done, (latents, *found) = kept.step, map(jnp.asarray, kept.arrays[1:])
        embedding = found[-1]
    for step in range(done, total):
        at = {"timestep": timesteps[step], "previous_timestep": previous_timesteps[step]}
        if sampling.is_guided_in(step, total):
            embedding, latents, asked = null_text_step(
                denoiser,
                latents,
                target=inversion.before_sampling(step + 1),
                text=text,
                unconditional=embedding,
                guidance=sampling.guidance,
                learning_rate=np.float32(LEARNING_RATE * (1 - step / (2 * total))),
                good_enough=np.float32(GOOD_ENOUGH),
                iterations=iterations,
                **at,
            )
            row_calls += int(asked)
        else:
            latents, _ = sampling_step(
                denoiser,
                latents,
                state=SAMPLERS["ddim"].init(latents, None),
                encoder_hidden_states=text,
                steps_left=np.int32(total - 1 - step),
                guidance=sampling.guidance_if(False),
                sampler="ddim",
                eta=np.float32(0),
                key=jax.random.key(0),
                **at,
            )
            row_calls += 1
        found.append(embedding)
        keep = None if kept is None else partial(kept.keep, step + 1, (jnp.asarray(row_calls), latents, *found))
        if not after_step(step, timesteps[step], latents, keep):
            break
    counted(row_calls)
    return jnp.concatenate(found)


@program("null-text inversion", once_per="size of clip and number of iterations", static_argnames="iterations")
def null_text_step(
    denoiser: Denoiser,
    latents: Float[Array, "1 F H W C"],
    *,
    target: Float[Array, "1 F H W C"],
    timestep: Int[Array, ""],
    previous_timestep: Int[Array, ""],
    text: Float[Array, "1 L E"],
    unconditional: Float[Array, "1 L E"],
    guidance: Guidance,
    learning_rate: Float[Array, ""],
    good_enough: Float[Array, ""],
    iterations: int,
) -> tuple[Float[Array, "1 L E"], Float[Array, "1 F H W C"], Int[Array, ""]]:
    """The embedding under which a guided step from ``latents`` comes nearest to ``target``, and where it comes.

    The third result is how often that asked the U-Net for a row.

    Starts from ``unconditional`` and ends after ``iterations`` of Adam, or earlier where the mean squared error falls
    below ``good_enough``.
    """

    def output(embedding: Array) -> Array:  # with remat, for the gradient would keep all that is in between
        return denoiser.predict(latents, timestep[None], embedding, remat=True)

    conditional = output(text)

    def error(embedding: Array) -> tuple[Array, Array]:
        both = jnp.concatenate([output(embedding), conditional])
        result = ddim_step(
            denoiser.schedule,
            guided(both, 1, guidance),
            latents,
            timestep=timestep,
            previous_timestep=previous_timestep,
        )
        return jnp.mean(jnp.square(result - target)), result

    optimizer = optax.scale_by_adam()

    def better(embedding: Array, value: Array, result: Array, best: Any) -> Any:
        return jax.tree.map(partial(jnp.where, value < best[1]), (embedding, value, result), best)

    def goes_on(state: Any) -> Array:
        iteration, *_, (_, least, _) = state
        is_due: Array = (iteration < iterations) & (least >= good_enough)
        return is_due

    def improve(state: Any) -> Any:
        iteration, embedding, moments, best = state
        (value, result), gradient = jax.value_and_grad(error, has_aux=True)(embedding)
        update, moments = optimizer.update(gradient, moments)
        return iteration + 1, embedding - learning_rate * update, moments, better(embedding, value, result, best)

    nothing = (unconditional, jnp.float32(jnp.inf), latents)
    start = (jnp.int32(0), unconditional, optimizer.init(unconditional), nothing)
    iteration, last, _, best = jax.lax.while_loop(goes_on, improve, start)
    embedding, _, result = better(last, *error(last), best)
    return embedding, result, iteration + 2  # the prompt's, one for each iteration, and where the last has led
