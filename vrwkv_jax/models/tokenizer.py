"""Text to the token ids of CLIP, with the tokenizer that comes with a checkpoint."""

import copy
import gzip
import json
import os
import threading
import warnings
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vrwkv_jax.system.errors import UserError, quoted
from vrwkv_jax.typing import Int

if TYPE_CHECKING:
    import transformers

_START, _END = "<|startoftext|>", "<|endoftext|>"
_CLIP_MERGES = Path(__file__).parent / "clip_vocabulary" / "merges.txt.gz"  # OpenAI's, with its licence beside it
_CLIP_LENGTH = 77  # position embeddings of every CLIP text encoder that OpenAI and LAION published
_UNSTATED = 10**6  # where the files name no length, transformers says 10**30
_SMALLEST = 2 * 256 + 2  # all bytes, all bytes at the end of a word, start and end
_SHORTEST, _LONGEST = 3, 4096  # a prompt of one token between start and end; CLIP has 77, children of it 248
_LARGEST = dict.fromkeys(("tokenizer.json", "vocab.json", "merges.txt"), 6 * 2**20)  # bytes; CLIP's have 4 million
_LARGEST_OTHER = 2**17  # of a list of added or special tokens, which take time by the square of their number
_SHOWN_REASON = 300  # characters of what transformers says
_SHOWN = 80  # characters of a cut-off text that a warning shows


class Tokenizer:
    """Callable: prompts to ids ``B L``, each row of the same length ``max_length``.

    A word of textual inversion with several vectors has as many ids in a row: those of the added tokens ``word``,
    ``word_1``, ``word_2`` and so on, as diffusers has it.
    """

    def __init__(self, clip_tokenizer: "transformers.CLIPTokenizer"):
        self._tokenizer, self._lock = clip_tokenizer, threading.Lock()
        self._series = _series(clip_tokenizer.get_added_vocab())
        stated = clip_tokenizer.model_max_length
        self.max_length = stated if stated < _UNSTATED else _CLIP_LENGTH
        self.vocab_size = 1 + max(clip_tokenizer.get_vocab().values())

    @classmethod
    def from_pretrained(cls, directory: str | os.PathLike[str]) -> "Tokenizer":
        """From a directory with ``tokenizer.json`` or ``vocab.json`` and ``merges.txt``, as checkpoints have it.

        Raises:
            UserError: the directory or a file in it is missing or can't be read.
        """
        directory = Path(directory)
        if not directory.is_dir():
            raise UserError(
                f"tokenizer: {directory} is not a directory; expected the tokenizer/ folder of a checkpoint"
            )
        missing = [name for name in ("vocab.json", "merges.txt") if not (directory / name).is_file()]
        if missing and not (directory / "tokenizer.json").is_file():
            raise UserError(
                f"tokenizer: {directory} has no {' and no '.join(missing)}; "
                f"expected vocab.json and merges.txt, or tokenizer.json; copy them from the original checkpoint"
            )
        strange = [path.name for path in directory.iterdir() if path.exists() and not (path.is_file() or path.is_dir())]
        if strange:
            raise UserError(
                f"tokenizer: {directory / strange[0]} is no regular file: copy it from the original checkpoint"
            )
        for path in directory.iterdir():
            most = _LARGEST.get(path.name, _LARGEST_OTHER)
            if path.suffix in (".json", ".txt", ".jinja") and path.is_file() and path.stat().st_size > most:
                raise UserError(
                    f"tokenizer: {path} has {path.stat().st_size} bytes, expected at most {most}; copy it from the "
                    "original checkpoint"
                )
        try:
            tokenizer = _clip_tokenizer_class().from_pretrained(directory, local_files_only=True)
            if len(tokenizer) < _SMALLEST:  # transformers does without a vocabulary, and every word is unknown
                raise ValueError(f"{len(tokenizer)} tokens make no CLIP vocabulary")
            length = tokenizer.model_max_length
            if type(length) not in (int, float) or not (_SHORTEST <= length <= _LONGEST or length >= _UNSTATED):
                raise ValueError(f"model_max_length is {quoted(length)}, not {_SHORTEST} to {_LONGEST}")
            if len(tokenizer("")["input_ids"]) != 2 or tokenizer.pad_token_id is None:
                raise ValueError("there is no start, no end or no padding")
        except Exception as error:  # the Rust half of transformers raises bare Exception on a damaged file
            raise UserError(
                f"tokenizer: the files in {directory} can't be read ({_first_line(error)}); expected a CLIP tokenizer; "
                f"copy them again from the original checkpoint"
            ) from error
        return cls(tokenizer)

    @classmethod
    def of_clip(cls, padding: str = _END) -> "Tokenizer":
        """CLIP's own, for weights that come without a tokenizer. SD 1.x pads with the end token, SD 2.x with ``!``."""
        lines = gzip.decompress(_CLIP_MERGES.read_bytes()).decode("utf-8").splitlines()[1:]
        merges: Any = [tuple(line.split(" ")) for line in lines]  # transformers says list[str], tokenizers wants these
        ids = {token: index for index, token in enumerate(_vocabulary(merges))}
        make = _clip_tokenizer_class()
        return cls(make(vocab=ids, merges=merges, pad_token=padding, model_max_length=_CLIP_LENGTH))

    def save(self, directory: str | os.PathLike[str]) -> None:
        """Writes the files that ``from_pretrained`` reads, and transformers, to ``directory``."""
        self._tokenizer.save_pretrained(directory)

    def __call__(self, prompts: Sequence[str]) -> Int[np.ndarray, "B L"]:
        """Start token, the prompt's tokens, end token, and padding to ``max_length``, as int32.

        The padding is the checkpoint's own: SD 1.5 pads with the end token, SD 2.x with ``!``. A prompt that is too
        long is cut, with a warning that shows what was lost.
        """
        if isinstance(prompts, str):
            raise TypeError(f"Tokenizer: expected a list of prompts, got the string {prompts!r}")
        for prompt in prompts:
            self._warn_if_cut(prompt)
        first, last = self._encode("")["input_ids"]
        ids = np.full((len(prompts), self.max_length), self._tokenizer.pad_token_id, np.int32)
        for row, prompt in zip(ids, prompts, strict=True):
            tokens = [first, *(token for token, _ in self._placed(prompt)[: self.max_length - 2]), last]
            row[: len(tokens)] = tokens
        return ids

    def count(self, prompt: str) -> int:
        """Number of tokens in ``prompt``, without start and end; ``max_length - 2`` fit."""
        return len(self._spans(prompt))

    def tokens(self, prompt: str) -> list[int]:
        """The prompt's ids from the start token to the end token, without padding."""
        ids = self([prompt])[0, : min(self.count(prompt) + 2, self.max_length)]
        return [int(token) for token in ids]

    def spans(self, prompt: str) -> list[tuple[int, int]]:
        """Where in ``prompt`` each of ``tokens(prompt)`` begins and ends; start and end are nowhere, at (0, 0)."""
        return [(0, 0), *self._spans(prompt)[: self.max_length - 2], (0, 0)]

    def with_word(self, word: str, vectors: int) -> "Tokenizer":
        """Another tokenizer, which knows a new ``word`` as well, in any case, as so many tokens in a row.

        Their ids follow those of all others. In a prompt that is cut off, all of them count; all stand where the word
        does.
        """
        with self._lock:
            tokenizer = copy.deepcopy(self._tokenizer)
        first, names = len(tokenizer), self.names_of(word, vectors)
        tokenizer.add_tokens(names)
        ids = tokenizer.convert_tokens_to_ids(names)
        if ids != list(range(first, first + vectors)):
            raise UserError(
                f"the tokenizer can't take the word {quoted(word)}: its ids are not all below their number, {first}; "
                "expected a CLIP tokenizer"
            )
        return Tokenizer(tokenizer)

    @staticmethod
    def names_of(word: str, vectors: int) -> list[str]:
        """The tokens of a word with so many vectors, as diffusers calls them: ``word``, ``word_1``, ``word_2``, ..."""
        return [word, *(f"{word}_{index}" for index in range(1, vectors))]

    def vocabulary(self) -> set[str]:
        """All tokens, as the files write them."""
        return set(self._tokenizer.get_vocab())

    def _spans(self, prompt: str) -> list[tuple[int, int]]:
        """Where in ``prompt`` each of its tokens begins and ends, however many there are."""
        return [span for _, span in self._placed(prompt)]

    def _placed(self, prompt: str) -> list[tuple[int, tuple[int, int]]]:
        """The ids of the tokens of ``prompt``, and where each begins and ends, however many there are."""
        encoded = self._encode(prompt, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        placed = zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)
        return [(each, span) for token, span in placed for each in self._series.get(token, (token,))]

    def _encode(self, text: str | list[str], **options: Any) -> Any:
        """One thread at a time, for transformers sets the ``options`` of a call on what all calls share."""
        with self._lock:
            return self._tokenizer(text, **options)

    def _warn_if_cut(self, prompt: str) -> None:
        spans, fit = self._spans(prompt), self.max_length - 2
        if len(spans) > fit:
            lost = prompt[spans[fit][0] :]
            if len(lost) > _SHOWN:
                lost = f"{lost[: _SHOWN - 1]}…"
            warnings.warn(f"the prompt has {len(spans)} tokens, {fit} fit; cut off: {lost!r}", stacklevel=3)


def _series(added: Mapping[str, int]) -> dict[int, list[int]]:
    """Of the first token of each word among the ``added`` ones that has several: the ids of all."""
    found = {}
    for word, first in added.items():
        ids = [first]
        while (following := added.get(f"{word}_{len(ids)}")) is not None:
            ids.append(following)
        if len(ids) > 1:
            found[first] = ids
    return found


def _first_line(error: Exception) -> str:
    """What ``error`` says, as far as it fits into a sentence."""
    text = (str(error).strip() or type(error).__name__).splitlines()[0]
    return text if len(text) <= _SHOWN_REASON else f"{text[:_SHOWN_REASON]}..."


def write_byte_tokenizer(
    directory: str | os.PathLike[str], texts: Sequence[str] = (), max_length: int = _CLIP_LENGTH
) -> None:
    """Writes a complete CLIP tokenizer for models made from scratch: single bytes, and the words of ``texts``.

    Any text can be written in it, in lower case as with CLIP: words that ``texts`` don't have (twice) cost one token
    per byte of UTF-8 or a little less. The first 512 ids (256 bytes, 256 bytes that end a word) are those of OpenAI's
    vocabulary.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    _write_tokenizer(directory, [], max_length)
    if texts:
        _write_tokenizer(directory, _learn_merges(directory, texts), max_length)


def add_words(
    source: str | os.PathLike[str], directory: str | os.PathLike[str], texts: Sequence[str]
) -> list[tuple[int, int]]:
    """Writes the byte tokenizer in ``source`` to ``directory``, with one token for every word of ``texts`` as well.

    Words that were one token stay what they were; the new tokens' ids come between theirs and those of start and end.

    Returns:
        of every new token in the order of the ids, the ids of the two that it joins.

    Raises:
        UserError: ``source`` can't be read, or was not made by ``write_byte_tokenizer``.
    """
    source, directory = Path(source), Path(directory)
    tokenizer = Tokenizer.from_pretrained(source)
    symbols = _byte_symbols()
    letters = [*symbols, *(f"{symbol}</w>" for symbol in symbols)]
    lines = (source / "merges.txt").read_text(encoding="utf-8").splitlines()[1:]
    merges = [(first, second) for first, second in (line.split(" ") for line in lines if line)]
    ids = {token: index for index, token in enumerate(dict.fromkeys([*letters, *map("".join, merges)]))}
    known = tokenizer._tokenizer.get_vocab()
    if known != ids | {_START: len(ids), _END: len(ids) + 1}:
        raise UserError(f"tokenizer: {source} is not one of bytes and words, which train.pretrain_shapes makes")
    ranks = {pair: rank for rank, pair in enumerate(merges)}
    splits = tokenizer._tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str
    joined = []
    for word in dict.fromkeys(word for text in dict.fromkeys(texts) for word, _ in splits(text.lower())):
        while len(parts := _merged([*word[:-1], f"{word[-1]}</w>"], ranks)) > 1:
            pair = parts[0], parts[1]
            ranks[pair] = len(ranks)
            if "".join(pair) not in ids:
                ids["".join(pair)] = len(ids)
                joined.append((ids[pair[0]], ids[pair[1]]))
    directory.mkdir(parents=True, exist_ok=True)
    _write_tokenizer(directory, list(ranks), tokenizer.max_length)
    return joined


def _merged(parts: list[str], ranks: Mapping[tuple[str, str], int]) -> list[str]:
    """Byte-pair encoding: while there are pairs with a rank, the one of the lowest is joined."""
    while known := [pair for pair in pairwise(parts) if pair in ranks]:
        first, second = min(known, key=ranks.__getitem__)
        joined: list[str] = []
        for part in parts:
            if joined and (joined[-1], part) == (first, second):
                joined[-1] += part
            else:
                joined.append(part)
        parts = joined
    return parts


def _learn_merges(directory: Path, texts: Sequence[str]) -> list[tuple[str, str]]:
    """Byte-pair encoding's merges that make one token of every word of ``texts``."""
    tokenizer = Tokenizer.from_pretrained(directory)._tokenizer
    enough = 2**15  # tokens: merging ends when no pair is left that occurs twice
    learned = tokenizer.train_new_from_iterator(texts, enough, show_progress=False)
    return [tuple(pair) for pair in json.loads(learned.backend_tokenizer.to_str())["model"]["merges"]]


def _write_tokenizer(directory: Path, merges: Sequence[tuple[str, str]], max_length: int) -> None:
    special = {"bos_token": _START, "eos_token": _END, "unk_token": _END, "pad_token": _END}
    config = {"tokenizer_class": "CLIPTokenizer", "model_max_length": max_length, "do_lower_case": True, **special}
    for name, content in {
        "vocab.json": {token: index for index, token in enumerate(_vocabulary(merges))},
        "tokenizer_config.json": config,
        "special_tokens_map.json": special,
    }.items():
        (directory / name).write_text(json.dumps(content, ensure_ascii=False, indent=2), encoding="utf-8")
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    (directory / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _vocabulary(merges: Sequence[tuple[str, str]]) -> list[str]:
    """All tokens in the order of their ids: bytes, bytes that end a word, what ``merges`` make, start and end."""
    symbols = _byte_symbols()
    merged = dict.fromkeys("".join(pair) for pair in merges)
    return [*symbols, *(f"{symbol}</w>" for symbol in symbols), *merged, _START, _END]


def _clip_tokenizer_class() -> "type[transformers.CLIPTokenizer]":
    # else the import tells everyone without PyTorch that it misses models, which nobody here asks it for
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    from transformers import CLIPTokenizer

    return CLIPTokenizer


def _byte_symbols() -> list[str]:
    """The printable characters that stand for the 256 bytes in the vocabulary of GPT-2 and CLIP, in their order.

    Bytes that Latin-1 prints stand for themselves and come first; the others are the characters from U+0100 on.
    """
    printable = [byte for byte in range(256) if chr(byte).isprintable() and not chr(byte).isspace()]
    return [chr(byte) for byte in printable] + [chr(256 + index) for index in range(256 - len(printable))]
