"""Null-text inversion (Mokady et al. 2023, https://arxiv.org/abs/2211.09794).

Guided sampling under the clip's own prompt leaves the way that its inversion came. For each step, an embedding in place
of the empty prompt's is optimised, one for all frames, so that the step comes out where the inversion was.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import Mesh

from vrwkv_jax.diffusion.ddim import ddim_step
from vrwkv_jax.diffusion.schedule import NoiseSchedule
from vrwkv_jax.editing.steps import Guidance, guided, predict
from vrwkv_jax.models.params import Params
from vrwkv_jax.typing import Array, Float, Int


@partial(jax.jit, static_argnames=("graphdef", "schedule", "iterations", "dtype", "mesh"))
def null_text_step(
    graphdef: nnx.GraphDef,
    schedule: NoiseSchedule,
    params: Params,
    latents: Float[Array, "1 F H W C"],
    target: Float[Array, "1 F H W C"],
    timestep: Int[Array, ""],
    previous_timestep: Int[Array, ""],
    text: Float[Array, "1 L E"],
    unconditional: Float[Array, "1 L E"],
    guidance: Guidance,
    learning_rate: Float[Array, ""],
    good_enough: Float[Array, ""],
    *,
    iterations: int,
    dtype: str,
    mesh: Mesh | None = None,
) -> tuple[Float[Array, "1 L E"], Float[Array, "1 F H W C"], Float[Array, " 2"]]:
    """The embedding under which a guided step from ``latents`` comes nearest to ``target``, by Adam.

    Starts from ``unconditional`` and ends after ``iterations``, or earlier where the mean squared error falls below
    ``good_enough``.

    Returns:
        the embedding; the latents after the step with it; the error before and after.
    """

    def output(embedding: Array) -> Array:  # with remat, for the gradient would keep all that is in between
        return predict(graphdef, params, latents, timestep[None], embedding, dtype=dtype, remat=True, mesh=mesh)

    conditional = output(text)

    def result(embedding: Array) -> Array:
        both = jnp.concatenate([output(embedding), conditional])
        return ddim_step(schedule, guided(both, 1, guidance), timestep, previous_timestep, latents)

    def error(embedding: Array) -> Array:
        return jnp.mean(jnp.square(result(embedding) - target))

    optimizer = optax.scale_by_adam()

    def goes_on(state: Any) -> Array:
        iteration, *_, least = state
        return (iteration < iterations) & (least >= good_enough)

    def improve(state: Any) -> Any:
        iteration, embedding, moments, best, least = state
        value, gradient = jax.value_and_grad(error)(embedding)
        best, least = jax.tree.map(partial(jnp.where, value < least), (embedding, value), (best, least))
        update, moments = optimizer.update(gradient, moments)
        return iteration + 1, embedding - learning_rate * update, moments, best, least

    start = (0, unconditional, optimizer.init(unconditional), unconditional, jnp.float32(jnp.inf))
    _, last, _, best, least = jax.lax.while_loop(goes_on, improve, start)
    best = jnp.where(error(last) < least, last, best)
    return best, result(best), jnp.stack([error(unconditional), error(best)])
