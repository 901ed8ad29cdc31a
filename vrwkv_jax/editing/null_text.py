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
from vrwkv_jax.system.compiling import program
from vrwkv_jax.typing import Array, Float, Int


@program(
    "null-text inversion",
    once_per="size of clip and number of iterations",
    static_argnames=("graphdef", "schedule", "iterations", "dtype", "mesh"),
)
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
) -> tuple[Float[Array, "1 L E"], Float[Array, "1 F H W C"]]:
    """The embedding under which a guided step from ``latents`` comes nearest to ``target``, and where it comes.

    Starts from ``unconditional`` and ends after ``iterations`` of Adam, or earlier where the mean squared error falls
    below ``good_enough``.
    """

    def output(embedding: Array) -> Array:  # with remat, for the gradient would keep all that is in between
        return predict(graphdef, params, latents, timestep[None], embedding, dtype=dtype, remat=True, mesh=mesh)

    conditional = output(text)

    def error(embedding: Array) -> tuple[Array, Array]:
        both = jnp.concatenate([output(embedding), conditional])
        result = ddim_step(schedule, guided(both, 1, guidance), timestep, previous_timestep, latents)
        return jnp.mean(jnp.square(result - target)), result

    optimizer = optax.scale_by_adam()

    def better(embedding: Array, value: Array, result: Array, best: Any) -> Any:
        return jax.tree.map(partial(jnp.where, value < best[1]), (embedding, value, result), best)

    def goes_on(state: Any) -> Array:
        iteration, *_, (_, least, _) = state
        return (iteration < iterations) & (least >= good_enough)

    def improve(state: Any) -> Any:
        iteration, embedding, moments, best = state
        (value, result), gradient = jax.value_and_grad(error, has_aux=True)(embedding)
        update, moments = optimizer.update(gradient, moments)
        return iteration + 1, embedding - learning_rate * update, moments, better(embedding, value, result, best)

    nothing = (unconditional, jnp.float32(jnp.inf), latents)
    start = (0, unconditional, optimizer.init(unconditional), nothing)
    _, last, _, best = jax.lax.while_loop(goes_on, improve, start)
    embedding, _, result = better(last, *error(last), best)
    return embedding, result
