"""How far a tuning has come."""

from typing import Any, NamedTuple

import jax.numpy as jnp

from vrwkv_jax.config import TuningConfig
from vrwkv_jax.models.parameter_rules import ENDS
from vrwkv_jax.models.params import Params
from vrwkv_jax.tuning.optimizer import make_optimizer, partition


class TuningState(NamedTuple):
    """After ``step`` steps: the tuned parameters (path -> float32 array), and the optimizer's state.

    Nothing else goes from step to step: keys follow from the seed and the step's number, and each sees the one clip.
    """

    step: int
    tuned: Params
    optimizer: Any


def initial_state(params: Params, config: TuningConfig, mixer: str) -> TuningState:
    """The state before the first step, of a U-Net with that ``mixer`` and ``params``, which stay as they are."""
    tuned, _ = partition(params, config.train, mixer)
    tuned = {path: jnp.array(leaf, jnp.float32, copy=True) for path, leaf in tuned.items()}
    return TuningState(0, tuned, make_optimizer(config).init(tuned))


def for_edits(tuned: Params, config: TuningConfig) -> Params:
    """``tuned`` with mixers that add ``config.mixer_strength`` of what they were tuned to add.

    For mixers that start as the identity a way from the model before tuning to the tuned one, of them alone (WiSE-FT
    goes it with all weights: Wortsman et al. 2021, https://arxiv.org/abs/2109.01903).
    """
    strength = config.mixer_strength
    return {path: strength * leaf if strength != 1 and ENDS.search(path) else leaf for path, leaf in tuned.items()}
