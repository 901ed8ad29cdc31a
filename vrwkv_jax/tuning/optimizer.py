"""What is tuned, and at what rate."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from vrwkv_jax.config import TuningConfig
from vrwkv_jax.models.parameter_rules import GAINS, SCHEDULED, trained
from vrwkv_jax.models.params import Params
from vrwkv_jax.typing import Array, Float


def partition(params: Params, train: str, mixer: str) -> tuple[Params, Params]:
    """``params`` of a U-Net with that ``mixer`` as (tuned, frozen), by ``TuningConfig.train``."""
    is_tuned = trained(train, mixer)
    tuned = {path: leaf for path, leaf in params.items() if is_tuned.search(path)}
    return tuned, {path: leaf for path, leaf in params.items() if path not in tuned}


def make_optimizer(config: TuningConfig) -> optax.GradientTransformation:
    """AdamW on flat parameters, with gradients clipped to a global norm.

    The mixers' gains (mu, decay, bonus, norms) learn at ``mixer_lr_scale`` times the rate and without weight decay.
    What follows a schedule goes from 0 to 1 in ``config.steps`` steps.
    """

    def adamw(learning_rate: float, weight_decay: float) -> optax.GradientTransformation:
        return by_leaf(
            optax.adamw(learning_rate, b1=config.beta1, b2=config.beta2, eps=config.epsilon, weight_decay=weight_decay)
        )

    def by_schedule(gradients: Params, _: Params | None) -> Params:
        per_step = 1 / max(config.steps, 1)
        updates: Params = jax.tree.map(lambda leaf: jnp.full_like(leaf, per_step), gradients)
        return updates

    groups = {
        "weights": adamw(config.learning_rate, config.weight_decay),
        "gains": adamw(config.learning_rate * config.mixer_lr_scale, 0.0),
    }
    scheduled = {"schedule": optax.stateless(by_schedule)}

    def group(path: str) -> str:
        return "schedule" if SCHEDULED.search(path) else "gains" if GAINS.search(path) else "weights"

    def group_of(params: Params) -> dict[str, str]:
        return {path: group(path) for path in params}

    def clip(gradients: Params, _: Params | None) -> Params:
        norm = global_norm(gradients)
        return {path: _clipped(leaf, norm, config.max_grad_norm) for path, leaf in gradients.items()}

    def suited(params: Params) -> optax.GradientTransformation:
        """Without a group that has no parameter, and that runs of earlier versions don't know."""
        own = groups | scheduled if any(map(SCHEDULED.search, params)) else groups
        return optax.chain(optax.stateless(clip), optax.multi_transform(own, group_of))

    def update(gradients: Params, state: Any, params: Params) -> tuple[Params, Any]:
        updated: tuple[Params, Any] = suited(gradients).update(gradients, state, params)
        return updated

    return optax.GradientTransformation(lambda params: suited(params).init(params), update)


def global_norm(params: Params) -> Float[Array, ""]:
    """The norm of all ``params`` taken as one vector."""
    return jnp.sqrt(sum(map(_sum_of_squares, jax.tree.leaves(params))))


# Jitted, as ``by_leaf``: traced and lowered once for all parameters of one shape.
@jax.jit
def _sum_of_squares(x: Array) -> Array:
    return jnp.sum(jnp.square(x))


@jax.jit
def _clipped(x: Array, norm: Array, largest: float | Array) -> Array:
    return jnp.where(norm < largest, x, x / norm * largest)


def by_leaf(transformation: optax.GradientTransformation) -> optax.GradientTransformation:
    """The same ``transformation`` of flat parameters, if it treats each by itself; with the same state.

    It is traced and lowered once for all parameters of one shape, of which there are many.
    """
    update_leaf = jax.jit(transformation.update)

    def flatten(state: Any) -> tuple[list[Any], Any]:
        return jax.tree.flatten(state, is_leaf=lambda x: isinstance(x, dict))

    def update(gradients: Params, state: Any, params: Params) -> tuple[Params, Any]:
        given, structure = flatten(state)
        updates, after = dict(gradients), {}
        for path, gradient in gradients.items():
            if isinstance(gradient, optax.MaskedNode):  # of another group
                continue
            before = jax.tree.unflatten(structure, [x[path] if isinstance(x, dict) else x for x in given])
            updates[path], new = update_leaf(gradient, before, params[path])
            after[path] = jax.tree.leaves(new)
        if not after:
            unchanged: tuple[Params, Any] = transformation.update(gradients, state, params)
            return unchanged
        common = next(iter(after.values()))  # such as the number of steps

        def merged(i: int, old: Any) -> Any:
            if not isinstance(old, dict):
                return common[i]
            return {path: after[path][i] if path in after else leaf for path, leaf in old.items()}

        return updates, jax.tree.unflatten(structure, [merged(i, old) for i, old in enumerate(given)])

    return optax.GradientTransformation(transformation.init, update)
