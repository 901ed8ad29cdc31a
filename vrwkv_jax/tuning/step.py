"""One tuning step, as a pure function of (parameters, optimizer state, clip, key)."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from vrwkv_jax.config import TuningConfig
from vrwkv_jax.editing.denoiser import Denoiser
from vrwkv_jax.models.params import Params
from vrwkv_jax.parallel.placement import keep_placed
from vrwkv_jax.system.compiling import program
from vrwkv_jax.tuning.optimizer import global_norm, make_optimizer
from vrwkv_jax.typing import Array, Float, Int


def diffusion_loss(
    denoiser: Denoiser,
    latents: Float[Array, "B F H W C"],
    *,
    timesteps: Int[Array, " B"],
    encoder_hidden_states: Float[Array, "B L E"],
    key: Array,
    remat: bool,
) -> Float[Array, ""]:
    """Mean squared error of the prediction at one timestep per clip, with independent noise for every frame."""
    schedule, noise = denoiser.schedule, jax.random.normal(key, latents.shape)
    noised = schedule.add_noise(latents, noise, timesteps)
    prediction = denoiser.predict(noised, timesteps, encoder_hidden_states, remat=remat)
    return jnp.mean(jnp.square(prediction - schedule.training_target(latents, noise, timesteps)))


@program(
    "the tuning",
    once_per="size of clip and settings of tuning",
    static_argnames="config",
    donate_argnames=("tuned", "optimizer_state"),
)
def tuning_step(
    *,
    frozen: Denoiser,
    tuned: Params,
    optimizer_state: Any,
    latents: Float[Array, "1 F H W C"],
    encoder_hidden_states: Float[Array, "1 L E"],
    key: Array,
    config: TuningConfig,
) -> tuple[Params, Any, dict[str, Array]]:
    """The next ``tuned`` and ``optimizer_state``, whose arguments are donated, and the step's metrics.

    ``frozen`` is the U-Net without the parameters that are ``tuned``. The loss is the mean over ``config.batch_size``
    draws of timestep and noise. The metrics are scalars: ``loss``; ``grad_norm`` before clipping; ``update_norm``;
    ``param_norm`` after the update.
    """
    remat, schedule = config.remat, frozen.schedule
    assert config.dtype == frozen.dtype and remat != "auto", "both are to be chosen first"
    timestep_key, noise_key = jax.random.split(key)
    latents, encoder_hidden_states = (
        jnp.broadcast_to(x, (config.batch_size, *x.shape[1:])) for x in (latents, encoder_hidden_states)
    )
    timesteps = jax.random.randint(timestep_key, latents.shape[:1], 0, schedule.num_train_timesteps)

    def loss_of(tuned: Params) -> Array:
        return diffusion_loss(
            frozen.with_params(tuned),
            latents,
            timesteps=timesteps,
            encoder_hidden_states=encoder_hidden_states,
            key=noise_key,
            remat=remat,
        )

    loss, gradients = jax.value_and_grad(loss_of)(tuned)
    updates, optimizer_state = make_optimizer(config).update(gradients, optimizer_state, tuned)
    applied = optax.apply_updates(tuned, updates)
    tuned, optimizer_state = keep_placed((applied, optimizer_state), frozen.mesh)
    norms = {"grad_norm": gradients, "update_norm": updates, "param_norm": tuned}
    metrics = {"loss": loss} | {name: global_norm(tree) for name, tree in norms.items()}
    return tuned, optimizer_state, metrics
