"""What is tuned, and at what rate."""

import re

import optax

from vrwkv_jax.config import TuningConfig
from vrwkv_jax.models.params import Params

TRAINED = {
    "mixers": re.compile(r"/(mixer|gate)/|/attn[12]/to_q/"),  # what is new, and what asks the questions
    "all": re.compile(""),
}
# AdamW moves a parameter by about its learning rate per step, 0.015 in 500 steps at 3e-5: enough for a matrix, nothing
# for a decay or an interpolation weight of order 1.
GAINS = re.compile(r"/mixer/(.*/)?(mu_[rkvc]|w|u|norm[12]/(scale|bias))$")


def partition(params: Params, train: str) -> tuple[Params, Params]:
    """``params`` as (tuned, frozen), by ``TuningConfig.train``."""
    tuned = {path: leaf for path, leaf in params.items() if TRAINED[train].search(path)}
    return tuned, {path: leaf for path, leaf in params.items() if path not in tuned}


def make_optimizer(config: TuningConfig) -> optax.GradientTransformation:
    """AdamW on flat parameters, with gradients clipped to a global norm.

    The mixers' gains (mu, decay, bonus, norms) learn at ``mixer_lr_scale`` times the rate and without weight decay.
    """

    def adamw(learning_rate: float, weight_decay: float) -> optax.GradientTransformation:
        return optax.adamw(
            learning_rate, b1=config.beta1, b2=config.beta2, eps=config.epsilon, weight_decay=weight_decay
        )

    groups = {
        "weights": adamw(config.learning_rate, config.weight_decay),
        "gains": adamw(config.learning_rate * config.mixer_lr_scale, 0.0),
    }

    def group_of(params: Params) -> dict[str, str]:
        return {path: "gains" if GAINS.search(path) else "weights" for path in params}

    return optax.chain(optax.clip_by_global_norm(config.max_grad_norm), optax.multi_transform(groups, group_of))
