"""A training loop that can be interrupted: AdamW, a moving average of the weights, checkpoints, one line per report."""

import itertools
import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from vrwkv_jax.commands.terminal import TERMINAL
from vrwkv_jax.models.params import Params
from vrwkv_jax.parallel.placement import place
from vrwkv_jax.runs.checkpoints import Checkpoints
from vrwkv_jax.system.errors import UserError
from vrwkv_jax.tuning.state import TuningState
from vrwkv_jax.typing import Array

Loss = Callable[[Params, Any, Array], tuple[Array, dict[str, Array]]]
"""(parameters, batch, key) -> loss and what else is worth a look."""
Batch = Callable[[np.random.Generator, int], Any]
"""(random numbers of this step, step) -> batch."""

State = tuple[Params, Params, optax.OptState]
"""Parameters, their moving average, the optimizer's moments."""

LOG = "log.jsonl"


@dataclass(frozen=True)
class Recipe:
    """How long and how fast."""

    steps: int
    learning_rate: float
    minutes: float | None = None
    """That the steps may take, however many they are: then ``steps`` counts for nothing."""
    warmup: int = 100
    weight_decay: float = 1e-3
    ema: float = 0.998
    seed: int = 0
    checkpoint_every: int = 200


def fit(what: str, params: Params, loss: Loss, batch: Batch, recipe: Recipe, directory: Path) -> Params:
    """Minimises ``loss`` over ``batch(rng, step)`` and returns the moving average of the parameters.

    Batches and keys follow from the seed and the number of the step, so that a run that was interrupted and started
    again in the same ``directory`` ends where one that was not would end; with ``recipe.minutes`` it goes on with what
    is left of them, and ends about there.

    Raises:
        UserError: what is in ``directory`` was started with another recipe, or is damaged.
    """
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1.0, b2=0.99, weight_decay=recipe.weight_decay))

    @partial(jax.jit, donate_argnums=0)
    def update(state: Any, data: Any, key: Array, decay: float, rate: float) -> tuple[Any, dict[str, Array]]:
        params, ema, moments = state
        (value, shown), gradients = jax.value_and_grad(loss, has_aux=True)(params, data, key)
        updates, moments = optimizer.update(gradients, moments, params)
        params = optax.apply_updates(params, jax.tree.map(lambda step: rate * step, updates))
        ema = jax.tree.map(lambda old, new: decay * old + (1 - decay) * new, ema, params)
        return (params, ema, moments), {"loss": value, **shown}

    params = {path: jnp.asarray(leaf, jnp.float32) for path, leaf in params.items()}
    state = (params, jax.tree.map(jnp.copy, params), optimizer.init(params))
    checkpoints, first, training = Checkpoints(directory), 0, {"what": what, **asdict(recipe)}
    _check_recipe(checkpoints, training)
    kept = checkpoints.newest(_as_tuning(0, state))
    if kept is not None:
        first, state = kept.step, place((kept.tuned, *kept.optimizer), None)
    directory.mkdir(parents=True, exist_ok=True)
    key = jax.random.key(recipe.seed)
    spent, values = float((checkpoints.about() or {}).get("seconds", 0.0)), dict[str, float]()
    started = time.perf_counter() - spent

    def keep(step: int) -> None:
        nonlocal started
        begun = time.perf_counter()
        checkpoints.save(_as_tuning(step, state), {"recipe": training, "seconds": begun - started})
        started += time.perf_counter() - begun  # which is no training

    with (
        TERMINAL.stage(what, recipe.steps if recipe.minutes is None else 0, first) as advance,
        (directory / LOG).open("a") as log,
    ):
        for step in itertools.count(first):
            progress = _progress(recipe, step, time.perf_counter() - started)
            if progress >= 1:
                if step > first and recipe.minutes is not None and step % recipe.checkpoint_every:
                    keep(step)
                break
            data = batch(np.random.default_rng((recipe.seed, step)), step)
            decay = min(recipe.ema, (1 + step) / (10 + step))
            state, shown = update(state, data, jax.random.fold_in(key, step), decay, _rate(recipe, step, progress))
            is_last = step + 1 == recipe.steps and recipe.minutes is None
            if step % 20 == 0 or is_last:
                values = {name: float(value) for name, value in shown.items()}
                log.write(json.dumps({"step": step, "seconds": time.perf_counter() - started, **values}) + "\n")
                log.flush()
            advance(**values)
            if (step + 1) % recipe.checkpoint_every == 0 or is_last:
                keep(step + 1)
    averaged: Params = state[1]
    return averaged


def _progress(recipe: Recipe, step: int, seconds: float) -> float:
    """From 0 at the first step to 1 behind the last."""
    return step / recipe.steps if recipe.minutes is None else seconds / (60 * recipe.minutes)


def _rate(recipe: Recipe, step: int, progress: float) -> float:
    """The learning rate: it rises over the steps of the warm-up, then falls to 0 along a cosine of the progress."""
    warmup = recipe.warmup if recipe.minutes is not None else min(recipe.warmup, recipe.steps // 2)
    begun = min(1.0, step / max(1, warmup))
    return recipe.learning_rate * begun * (1 + math.cos(math.pi * progress)) / 2


def seconds_spent(directory: Path) -> float:
    """The time that the steps of a training in ``directory`` took."""
    lines = (directory / LOG).read_text().splitlines()
    return float(json.loads(lines[-1])["seconds"]) if lines else 0.0


def _as_tuning(step: int, state: State) -> TuningState:
    """``state`` as checkpoints know it."""
    params, *rest = state
    return TuningState(step, params, tuple(rest))


def _check_recipe(checkpoints: Checkpoints, recipe: Mapping[str, Any]) -> None:
    earlier = (checkpoints.about() or {}).get("recipe", recipe)
    check_unchanged(checkpoints.directory, "another recipe", earlier, recipe)


def check_unchanged(directory: Path, with_what: str, earlier: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """UserError where something of ``now`` was another in the ``earlier`` part of the training in ``directory``."""
    changed = [name for name, value in now.items() if earlier.get(name) != value]
    if changed:
        differences = ", ".join(f"{name} was {earlier.get(name)} and is {now[name]}" for name in changed)
        raise UserError(
            f"the training in {directory} can't go on with {with_what}: {differences}; go on with its own, or name "
            "another --output"
        )
