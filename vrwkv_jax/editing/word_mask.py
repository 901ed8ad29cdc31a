"""Where words of a clip's prompt are in the clip: its attention to them along the inversion, without any edit."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from vrwkv_jax.diffusion.samplers.registry import SAMPLERS, SamplerName
from vrwkv_jax.editing.controls.blend import mask_from_attention
from vrwkv_jax.editing.controls.words import check_not_cut_off, find_word, words_in
from vrwkv_jax.editing.denoiser import Denoiser
from vrwkv_jax.editing.inversion import Inversion
from vrwkv_jax.editing.loop import AfterStep
from vrwkv_jax.editing.steps import is_told_guidance
from vrwkv_jax.models.control import Acting
from vrwkv_jax.models.tokenizer import Tokenizer
from vrwkv_jax.parallel.placement import to_host
from vrwkv_jax.system.checks import between, check_value
from vrwkv_jax.system.compiling import program
from vrwkv_jax.system.errors import UserError
from vrwkv_jax.typing import Array, Bool, Float, Int

MOST_ASKED = 5
"""Steps in which the model is asked, one row each."""
THRESHOLD = 0.4
"""Less than that of ``blend``, whose masks are grown as well."""
_WORDS = "words"


@program("the attention to words", once_per="size of clip", static_argnames="sampler")
def attention_step(
    denoiser: Denoiser,
    latents: Float[Array, "1 F H W C"],
    *,
    timestep: Int[Array, ""],
    encoder_hidden_states: Float[Array, "1 L E"],
    chosen: Float[Array, " L"],
    sampler: SamplerName,
) -> Float[Array, "F H W"]:
    """The mean attention of all layers to the ``chosen`` tokens, in latents that lie at ``timestep``."""
    _, attention = denoiser.predict_beside(
        latents,
        timestep[None],
        encoder_hidden_states,
        {_WORDS: jnp.stack([chosen, chosen])},  # of the first row and the last, which are one here
        (Acting(_WORDS, "word_maps"),),
        guidance=jnp.ones(1) if is_told_guidance(denoiser, sampler) else None,
    )
    return attention[0]


def chosen_tokens(tokenizer: Tokenizer, prompt: str, words: Sequence[str]) -> Float[np.ndarray, " L"]:
    """1 for the tokens of ``words`` in ``prompt``, what the clip shows.

    Raises:
        UserError: there are no words, or one is not there.
    """
    chosen, known = np.zeros(tokenizer.max_length, np.float32), ", ".join(words_in(tokenizer, prompt))
    if not words:
        raise UserError(f"no words are given whose places are wanted: choose some of {known}")
    for word in words:
        positions = find_word(tokenizer, prompt, word)
        if not positions:
            check_not_cut_off(tokenizer, prompt, word)
            raise UserError(f"{word!r} is not in the clip's prompt {prompt!r}: choose of its words {known}")
        chosen[positions] = 1
    return chosen


def steps_asked(num_inference_steps: int) -> list[int]:
    """Of the steps of sampling, those in which the model is asked: evenly spaced in the half with less noise.

    There the attention shows the thing best, and hardly differs from step to step; in noise it shows about where it is.
    """
    first = num_inference_steps // 2
    count = min(MOST_ASKED, num_inference_steps - first)
    return [first + (2 * place + 1) * (num_inference_steps - first) // (2 * count) for place in range(count)]


def asked(inversion: Inversion) -> int:
    """How many steps that is, and row-calls."""
    return len(steps_asked(inversion.num_inference_steps))


def word_mask(
    denoiser: Denoiser,
    inversion: Inversion,
    words: Sequence[str],
    threshold: float,
    *,
    prompt: str,
    tokenizer: Tokenizer,
    encode: Callable[[Sequence[str]], Float[Array, "B L E"]],
    unit: int,
    after_step: AfterStep,
) -> Bool[np.ndarray, "F H W"]:
    """See ``Editor.word_mask``; a place of the latents is ``unit`` pixels wide and high."""
    inversion.check_complete()
    check_value("threshold", threshold, between(0, 1))
    chosen = chosen_tokens(tokenizer, prompt, words)
    timesteps, _ = SAMPLERS[inversion.sampler].grid(denoiser.schedule, inversion.num_inference_steps)
    text, attention = encode([prompt]), jnp.zeros(inversion.trajectory.shape[1:4])
    for index, step in enumerate(steps_asked(inversion.num_inference_steps)):
        attention += attention_step(
            denoiser,
            jnp.asarray(inversion.before_sampling(step)),
            timestep=timesteps[step],
            encoder_hidden_states=text,
            chosen=chosen,
            sampler=inversion.sampler,
        )
        if not after_step(index, timesteps[step], attention[None, ..., None]):
            break
    return mask_in_pixels(attention, threshold, unit)


def mask_in_pixels(attention: Float[Array, "F h w"], threshold: float, unit: int) -> Bool[np.ndarray, "F H W"]:
    """``mask_from_attention``, between whose places the attention is interpolated, for borders without steps."""
    frames, height, width = attention.shape
    large = jax.image.resize(attention, (frames, unit * height, unit * width), "linear")
    mask: Bool[np.ndarray, "F H W"] = to_host(mask_from_attention(jnp.stack([large, large]), threshold, 0))
    return mask
