"""Sampling an inverted clip back under a new sentence: the loop of an edit, and where the clip may change."""

from collections.abc import Hashable, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vrwkv_jax.diffusion.samplers.base import Noisier
from vrwkv_jax.diffusion.samplers.registry import SAMPLERS
from vrwkv_jax.editing import steps
from vrwkv_jax.editing.controls.base import Needs
from vrwkv_jax.editing.controls.blend import mask_from_attention
from vrwkv_jax.editing.controls.config import ControlConfig
from vrwkv_jax.editing.controls.plan import needs
from vrwkv_jax.editing.denoiser import Denoiser
from vrwkv_jax.editing.inversion import Inversion
from vrwkv_jax.editing.kept_steps import KeptState
from vrwkv_jax.editing.loop import AfterStep
from vrwkv_jax.editing.reuse import of_rows, share_of_operations, whole_steps
from vrwkv_jax.editing.settings import Sampling
from vrwkv_jax.models.control import Injection, Layers
from vrwkv_jax.models.deep_cache import Deep
from vrwkv_jax.parallel.placement import to_host
from vrwkv_jax.system.compiling import is_rehearsal
from vrwkv_jax.typing import Array, Bool, Float


class FromSource(NamedTuple):
    """What is taken over from the source, which is sampled beside the edit: in each step that is sampled, and where."""

    injections: list[Injection]
    layers: Layers


class Asks(NamedTuple):
    """What a step asks the model for beside the edit under its prompt, and by which program."""

    need: Needs
    guided: bool

    def rows(self, *, has_source: bool, has_negative: bool) -> list[int]:
        """Which of the rows that there are: the source's and the negative prompt's, if any, and the edit's."""
        source, negative = [self.need is Needs.SOURCE] * has_source, [self.guided] * has_negative
        return [row for row, is_asked in enumerate([*source, *negative, True]) if is_asked]


def asks_of(sampling: Sampling, source: FromSource | None, sampled: int, is_told: bool = False) -> list[Asks]:
    """Of each step that is sampled. Where the model ``is_told`` the guidance scale, no step asks for a row of it."""
    return [
        Asks(
            Needs.NOTHING if source is None else needs(source.injections[step]),
            sampling.is_guided_in(step, sampled) and not is_told,
        )
        for step in range(sampled)
    ]


class Sampled(NamedTuple):
    """Where sampling has come, and how often it has asked the U-Net for a row."""

    latents: Float[Array, "1 F h w C"]
    row_calls: int | float


class FreePlaces:
    """Where in the latents an edit may change: in ``mask``, and where attention to the words to blend has been."""

    def __init__(self, controls: ControlConfig, mask: Bool[np.ndarray, "F h w"] | None, shape: tuple[int, int, int]):
        self._controls, self._mask = controls, mask
        self.attention: Float[Array, "2 F h w"] = jnp.zeros((2, *shape))

    def places(self) -> Bool[np.ndarray, "F h w"] | None:
        """By the attention so far; None where nothing restrains the edit."""
        controls = self._controls
        if not controls.blend:
            return self._mask
        found = mask_from_attention(self.attention, controls.blend_threshold, controls.blend_dilation)
        return to_host(found if self._mask is None else found & self._mask)

    def restrain(
        self, latents: Float[Array, "1 F h w C"], source: Float[np.ndarray, "1 F h w C"], *, step: int, steps: int
    ) -> Float[Array, "1 F h w C"]:
        """``latents`` after ``step`` of ``steps``, with those of the ``source`` where nothing may change."""
        places = self.places() if step >= round(self._controls.blend_start * steps) else None
        return latents if places is None else jnp.where(places[None, ..., None], latents, source)


def sample(
    denoiser: Denoiser,
    inversion: Inversion,
    encoder_hidden_states: Float[Array, "S B L E"],
    sampling: Sampling,
    *,
    source: FromSource | None,
    free: FreePlaces,
    seed: int,
    kept: KeptState | None,
    after_step: AfterStep,
) -> Sampled:
    """The latents of ``inversion`` after the steps of ``sampling``, or after the one at which the callback ended it.

    ``encoder_hidden_states`` are the rows of ``controlled_step`` if there is a ``source``, else of ``sampling_step``,
    for every step or (S = 1) for all. The source's is asked for in those steps alone in which a control needs it, the
    negative prompt's in those that are guided. Goes on after the steps that are ``kept``, and keeps more, but only
    before a step that runs all blocks of the U-Net, for deep features are not kept. Row-calls are those of all steps,
    the kept ones included; one by the shallow blocks alone counts as the share of the operations that they have.
    """
    total, sampler = inversion.num_inference_steps, SAMPLERS[sampling.sampler]
    timesteps, previous_timesteps = sampler.grid(denoiser.schedule, total)
    sampled = sampling.steps_of(total)
    first = total - sampled
    latents, key = jnp.asarray(inversion.before_sampling(first)), jax.random.key(seed)
    noisier = (
        Noisier(jnp.asarray(inversion.before_sampling(first - 1)), timesteps[first - 1])
        if sampler.two_latents
        else None
    )
    state, done, is_told = sampler.init(latents, noisier), first, steps.is_told_guidance(denoiser, sampling.sampler)
    guided = [sampling.is_guided_in(step, sampled) for step in range(sampled)]
    asks = asks_of(sampling, source, sampled, is_told)
    whole = whole_steps(asks, source and source.injections, sampling.cache_interval, sampling.cache_until)
    text = to_host(encoder_hidden_states)
    rows = [ask.rows(has_source=source is not None, has_negative=sampling.is_guided) for ask in asks]
    texts = [text[min(step, len(text) - 1), own] for step, own in enumerate(rows, first)]
    if kept is not None and kept.step > 0:
        done, (latents, free.attention, *leaves) = kept.step, map(jnp.asarray, kept.arrays)
        state = jax.tree.unflatten(jax.tree.structure(state), leaves)
    deep: Deep | None = None
    for step in _first_of_each(asks, whole, done, first) if is_rehearsal() else range(done, total):
        need, is_whole = asks[step - first].need, whole[step - first] == step - first
        common = {
            "state": state,
            "timestep": timesteps[step],
            "previous_timestep": previous_timesteps[step],
            "steps_left": np.int32(total - 1 - step),
            "encoder_hidden_states": texts[step - first],
            "guidance": sampling.guidance_if(guided[step - first]),
            "sampler": sampling.sampler,
            "eta": np.float32(sampling.eta),
            "key": jax.random.fold_in(key, step),
        }
        if sampling.cache_interval > 1:
            acts = source if need is not Needs.NOTHING else None
            reused = None if deep is None or is_whole else of_rows(deep, rows[whole[step - first]], rows[step - first])
            latents, state, attention, found = steps.cached_step(
                denoiser,
                latents,
                depth=sampling.cache_depth,
                deep=reused,
                source=inversion.before_sampling(step) if need is Needs.SOURCE else None,
                injection=None if acts is None else acts.injections[step - first],
                layers=() if acts is None else acts.layers,
                **common,
            )
            deep = found if is_whole else deep
            free.attention = free.attention if attention is None else free.attention + attention
        elif source is None or need is Needs.NOTHING:
            latents, state = steps.sampling_step(denoiser, latents, **common)
        else:
            latents, state, attention = steps.controlled_step(
                denoiser,
                latents,
                source=inversion.before_sampling(step) if need is Needs.SOURCE else None,
                injection=source.injections[step - first],
                layers=source.layers,
                **common,
            )
            free.attention = free.attention + attention
        latents = free.restrain(latents, inversion.before_sampling(step + 1), step=step - first, steps=sampled)
        arrays = (latents, free.attention, *jax.tree.leaves(state))
        done = step + 1
        is_self_contained = done == total or whole[done - first] == done - first
        keep = partial(kept.keep, done, arrays) if kept is not None and is_self_contained else None
        if not after_step(step - first, timesteps[step], latents, keep):
            break
    asked = [len(own) for step, own in enumerate(rows[: done - first]) if whole[step] == step]
    reusing = [len(own) for step, own in enumerate(rows[: done - first]) if whole[step] != step]
    share = share_of_operations(denoiser, latents.shape, text.shape, sampling.cache_depth) if reusing else 1
    return Sampled(latents, sum(asked) + share * sum(reusing))


def _first_of_each(asks: list[Asks], whole: list[int], done: int, first: int) -> list[int]:
    """Of the steps from ``done`` on, the first with each program, and those whose deep features these reuse.

    ``asks`` and ``whole`` begin with the step ``first``.
    """
    programs = list(zip(asks, (own == step for step, own in enumerate(whole)), strict=True))
    steps = first_of_each(programs, done - first)
    return sorted({first + step for own in steps for step in (own, whole[own])})


def first_of_each(programs: Sequence[Hashable], done: int = 0) -> list[int]:
    """Of the steps from ``done`` on the first with each of the ``programs``, which are those of all steps, in order."""
    return sorted({programs[step]: step for step in reversed(range(done, len(programs)))}.values())
