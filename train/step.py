"""One tuning step, as a pure function of (parameters, optimizer state, clip, key)."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from train.optimizer import make_optimizer
from vrwkv_jax.config import TuningConfig
from vrwkv_jax.diffusion.schedule import NoiseSchedule
from vrwkv_jax.editing.steps import predict
from vrwkv_jax.models.params import Params
from vrwkv_jax.typing import Array, Float


def diffusion_loss(
    params: Params,
    graphdef: nnx.GraphDef,
    schedule: NoiseSchedule,
    latents: Float[Array, "B F H W C"],
    encoder_hidden_states: Float[Array, "B L E"],
    key: Array,
    *,
    dtype: str,
    remat: bool,
) -> Float[Array, ""]:
    """Mean squared error of the prediction at one random timestep per clip, with independent noise for every frame."""
    timestep_key, noise_key = jax.random.split(key)
    timesteps = jax.random.randint(timestep_key, latents.shape[:1], 0, schedule.num_train_timesteps)
    noise = jax.random.normal(noise_key, latents.shape)
    noised = schedule.add_noise(latents, noise, timesteps)
    prediction = predict(graphdef, params, noised, timesteps, encoder_hidden_states, dtype=dtype, remat=remat)
    return jnp.mean(jnp.square(prediction - schedule.training_target(latents, noise, timesteps)))


@partial(jax.jit, static_argnames=("graphdef", "schedule", "config"), donate_argnames=("tuned", "optimizer_state"))
def tuning_step(
    graphdef: nnx.GraphDef,
    schedule: NoiseSchedule,
    config: TuningConfig,
    tuned: Params,
    optimizer_state: Any,
    frozen: Params,
    latents: Float[Array, "B F H W C"],
    encoder_hidden_states: Float[Array, "B L E"],
    key: Array,
) -> tuple[Params, Any, dict[str, Array]]:
    """The next ``tuned`` and ``optimizer_state``, whose arguments are donated, and the step's metrics.

    The metrics are scalars: ``loss``, and ``grad_norm`` before clipping.
    """

    def loss_of(tuned: Params) -> Array:
        params = tuned | frozen
        return diffusion_loss(
            params, graphdef, schedule, latents, encoder_hidden_states, key, dtype=config.dtype, remat=config.remat
        )

    loss, gradients = jax.value_and_grad(loss_of)(tuned)
    updates, optimizer_state = make_optimizer(config).update(gradients, optimizer_state, tuned)
    metrics = {"loss": loss, "grad_norm": optax.global_norm(gradients)}
    return optax.apply_updates(tuned, updates), optimizer_state, metrics
