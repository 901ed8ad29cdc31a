"""Textual inversion (Gal et al. 2022): words that were learned for a model, as vectors among those of its tokens."""

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from vrwkv_jax.checkpoint.description import Description
from vrwkv_jax.checkpoint.lora_names import parse, shortened
from vrwkv_jax.checkpoint.tensors import Tensors
from vrwkv_jax.checkpoint.torch_files import TorchFile
from vrwkv_jax.checkpoint.torch_tensors import FLOATS
from vrwkv_jax.checkpoint.weight_files import open_tensors
from vrwkv_jax.models.params import Params
from vrwkv_jax.models.tokenizer import Tokenizer
from vrwkv_jax.system.errors import UserError, quoted
from vrwkv_jax.typing import Float

MOST_VECTORS = 75  # what fits between the start and the end of a prompt
LONGEST_WORD = 100  # characters
FAMILIES = {768: "SD 1.x", 1024: "SD 2.x", 1280: "SDXL"}  # by the width of their tokens
OF_SDXL = {"clip_l", "clip_g"}
TABLE = "token_embedding/embedding"


@dataclass(frozen=True)
class Embedding:
    """A word and its vectors, each of which is a token."""

    word: str
    vectors: Float[np.ndarray, "n D"]
    where: str


def open_embedding(file: Path, word: str | None = None) -> Embedding:
    """The word in ``file``, of safetensors or of ``torch.save``; see ``read_embedding``.

    Raises:
        UserError: it is not there, damaged, hostile, or no textual inversion that is read.
    """
    tensors = open_tensors(file)
    return read_embedding(tensors, file, contents=tensors.contents if isinstance(tensors, TorchFile) else {}, word=word)


def read_embedding(tensors: Tensors, file: Path, *, contents: Mapping[str, Any], word: str | None = None) -> Embedding:
    """The word in ``file``, as AUTOMATIC1111's web UI (``.pt``, ``.safetensors``) or diffusers writes it.

    Args:
        contents: what else the file holds, of which ``name`` is the word of a ``.pt``.
        word: what to call it; None: as its file says, or as its file is called.

    Raises:
        UserError: it holds something else, or too many vectors, or numbers that are not finite; or the word is none.
    """
    names = list(tensors)
    if OF_SDXL & set(names):
        raise UserError(f"{file} is a textual inversion for SDXL, which is not read; expected one for SD 1.x or 2.x")
    learned = [name for name in names if name.startswith("string_to_param.")]
    if len(learned) == 1:
        name, given = learned[0], contents.get("name")
    elif "emb_params" in names:
        name, given = "emb_params", None
    elif len(names) == 1:
        name, given = names[0], names[0]
    else:
        raise UserError(f"{file} is {_other(names)}; expected a textual inversion with one word")
    if tensors.dtype(name) not in FLOATS:
        raise UserError(f"{file} has vectors of type {tensors.dtype(name)}; expected {', '.join(FLOATS)}")
    shape = tuple(tensors.shape(name))
    if len(shape) not in (1, 2) or 0 in shape:
        raise UserError(f"{file} has an array of shape {list(shape)}; expected vectors [n, {' or '.join(_widths())}]")
    if len(shape) == 2 and shape[0] > MOST_VECTORS:
        raise UserError(f"{file} has {shape[0]} vectors; expected at most {MOST_VECTORS}, which fit into a prompt")
    if shape[-1] > max(FAMILIES):
        raise UserError(f"{file} has vectors of width {shape[-1]}; expected {' or '.join(_widths())}")
    vectors = np.asarray(tensors[name]).astype(np.float32).reshape(-1, shape[-1])
    if not np.isfinite(vectors).all():
        raise UserError(f"{file} holds numbers that are not finite (NaN or infinite): get the file again")
    chosen = next((text for text in (word, given) if isinstance(text, str) and text.strip()), file.stem)
    _check_word(chosen, file)
    return Embedding(chosen, vectors, str(file))


def with_words(described: Description, embeddings: Sequence[Embedding]) -> Description:
    """``described`` with a tokenizer that knows the words, and a text encoder that has room for them.

    A word of n vectors stands for n tokens with ids in a row, beginning behind all others; in the text encoder's table
    ``with_rows`` puts the vectors there.

    Raises:
        UserError: an embedding is of another width than the text encoder, or its word is a token already.
    """
    own = described.text_encoder.hidden_size
    tokenizer = described.tokenizer
    for embedding in embeddings:
        width = embedding.vectors.shape[1]
        if width != own:
            raise UserError(
                f"{embedding.where} has vectors of width {width}{_of_family(width)}, and the model's text encoder has "
                f"{own}{_of_family(own)}: use one that was learned for this model"
            )
        _check_new(embedding, tokenizer)
        tokenizer = tokenizer.with_word(embedding.word, len(embedding.vectors))
    room = max(described.text_encoder.vocab_size, tokenizer.vocab_size)
    return replace(described, tokenizer=tokenizer, text_encoder=replace(described.text_encoder, vocab_size=room))


def with_rows(params: Params, tokenizer: Tokenizer, embeddings: Sequence[Embedding]) -> Params:
    """``params`` of a text encoder with the vectors in its table, behind all tokens of ``tokenizer``.

    ``tokenizer`` is the one that did not know the words yet.
    """
    if not embeddings:
        return params
    table, first = params[TABLE], tokenizer.vocab_size
    rows = jnp.asarray(np.concatenate([embedding.vectors for embedding in embeddings]), table.dtype)
    return params | {TABLE: jnp.concatenate([table[:first], rows, table[first + len(rows) :]])}


def _check_word(word: str, file: Path) -> None:
    if word != " ".join(word.split()) or not word.isprintable() or len(word) > LONGEST_WORD:
        raise UserError(
            f"{file} has the word {quoted(word)}; expected at most {LONGEST_WORD} characters, without control "
            "characters or needless spaces: give it another word"
        )


def _check_new(embedding: Embedding, tokenizer: Tokenizer) -> None:
    """Raises UserError where the word, or one of those for its other vectors, is a token already."""
    tokens = Tokenizer.names_of(embedding.word, len(embedding.vectors))
    known = {_folded(token) for token in tokenizer.vocabulary()}
    taken = [token for token in tokens if _folded(token) in known]
    if not taken and tokenizer.count(embedding.word) == 1:
        taken = [embedding.word]
    if taken:
        raise UserError(
            f"{embedding.where} brings the word {quoted(taken[0])}, which is a token of the model's already: give it "
            "another word"
        )


def _folded(text: str) -> str:
    """As CLIP's tokenizer reads it."""
    return unicodedata.normalize("NFC", text).lower()


def _other(names: list[str]) -> str:
    """What a file is that has other ``names`` than an embedding."""
    if not names:
        return "without tensors"
    if any(parse(name) is not None for name in names):
        return f"a LoRA (it has {shortened(names)})"
    return f"no textual inversion (it has {shortened(names)})"


def _widths() -> list[str]:
    return [str(width) for width, family in FAMILIES.items() if family != "SDXL"]


def _of_family(width: int) -> str:
    return f" ({FAMILIES[width]})" if width in FAMILIES else ""
