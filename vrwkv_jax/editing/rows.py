"""What an edit asks the model with: a text for each row of the batch, and what they take over from the source's row."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax.numpy as jnp

from vrwkv_jax.editing.controls.config import ControlConfig
from vrwkv_jax.editing.controls.plan import plan
from vrwkv_jax.editing.sampling import FromSource
from vrwkv_jax.editing.settings import Sampling
from vrwkv_jax.models.tokenizer import Tokenizer
from vrwkv_jax.typing import Array, Float


class Rows(NamedTuple):
    """The rows of every step, or (S = 1) of all alike: the source's prompt, if a control takes something over from it;
    the negative prompt, if there is guidance; the prompt."""

    text: Float[Array, "S B L E"]
    source: FromSource | None


def rows_of_edit(
    prompt: str,
    *,
    source_prompt: str,
    negative_prompt: str | Float[Array, "S L E"],
    sampling: Sampling,
    controls: ControlConfig,
    num_inference_steps: int,
    tokenizer: Tokenizer,
    encode: Callable[[Sequence[str]], Float[Array, "B L E"]],
) -> Rows:
    """Those of an edit under ``prompt`` of a clip that shows ``source_prompt``; ``encode`` is the text encoder.

    Raises:
        UserError: as ``plan``.
    """
    source, given = None, [negative_prompt] * sampling.is_guided + [prompt]
    if not controls.is_neutral:
        injections = plan(controls, tokenizer, source_prompt, prompt, sampling.steps_of(num_inference_steps))
        source, given = FromSource(injections, controls.layers), [source_prompt, *given]
    rows = [encode([text]) if isinstance(text, str) else text for text in given]
    count = max(len(row) for row in rows)
    return Rows(jnp.stack([jnp.broadcast_to(row, (count, *row.shape[1:])) for row in rows], axis=1), source)
