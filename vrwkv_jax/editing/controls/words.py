"""Which token of an edit's prompt stands for which token of the clip's prompt, and where a word's tokens are."""

import itertools
import re
import unicodedata
from typing import Any, NamedTuple

import numpy as np

from vrwkv_jax.models.tokenizer import Tokenizer
from vrwkv_jax.system.checks import Rule, rule_maker
from vrwkv_jax.system.errors import UserError
from vrwkv_jax.typing import Bool, Float

# Names of the characters of Chinese, Japanese, Thai, Lao, Khmer, Burmese and Tibetan, which write no spaces.
UNSPACED = re.compile(
    r"CJK |IDEOGRAPHIC |(HALFWIDTH )?(HIRAGANA|KATAKANA)|BOPOMOFO|THAI |LAO |KHMER |MYANMAR |TIBETAN "
)


class TokenMap(NamedTuple):
    """Attention to the tokens of the source prompt, handed on to those of the edit's prompt.

    A map ``[..., L]`` of attention to the source becomes ``map @ matrix``, a map to the edit's tokens, for those that
    are ``known``; the others have no counterpart.
    """

    matrix: Float[np.ndarray, "L L"]
    known: Bool[np.ndarray, " L"]


def token_map(tokenizer: Tokenizer, source: str, edited: str, *, replace: bool) -> TokenMap:
    """Matches the prompts' tokens by Needleman and Wunsch's alignment (prompt-to-prompt's refinement).

    Args:
        replace: hand on as well what stands between matched tokens, in place of what stands there in the source
            (prompt-to-prompt's replacement): one to one where there are equally many tokens, else the sum over the
            source's tokens in equal shares.
    """
    old, new = tokenizer.tokens(source), tokenizer.tokens(edited)
    length = tokenizer.max_length
    matrix, known = np.zeros((length, length), np.float32), np.zeros(length, bool)
    before = -1  # the last token of the source that was matched
    run: list[int] = []  # the edit's tokens since then, which have no match
    for position, counterpart in enumerate(align(old, new)):  # the last ones are the ends, and match
        if counterpart < 0:
            run.append(position)
            continue
        gap = range(before + 1, counterpart)
        if replace and run and gap:
            if len(run) == len(gap):
                matrix[gap, run] = 1
            else:
                matrix[np.ix_(gap, run)] = 1 / len(run)
            known[run] = True
        matrix[counterpart, position], known[position] = 1, True
        before, run = counterpart, []
    padding = min(length - len(old), length - len(new))
    for i in range(padding):
        matrix[len(old) + i, len(new) + i], known[len(new) + i] = 1, True
    return TokenMap(matrix, known)


def align(source: list[int], edited: list[int]) -> list[int]:
    """For each token of ``edited`` the position of its equal in ``source``, or -1 where it has none.

    The most matches in order that there can be (Needleman and Wunsch 1970, with nothing to pay for a gap).
    """
    best = np.zeros((len(source) + 1, len(edited) + 1), int)
    for i, one in enumerate(source, start=1):
        for j, other in enumerate(edited, start=1):
            match = best[i - 1, j - 1] + 1 if one == other else -1
            best[i, j] = max(best[i - 1, j], best[i, j - 1], match)
    matched = [-1] * len(edited)
    i, j = len(source), len(edited)
    while i and j:
        if source[i - 1] == edited[j - 1] and best[i, j] == best[i - 1, j - 1] + 1:
            i, j = i - 1, j - 1
            matched[j] = i
        elif best[i - 1, j] >= best[i, j - 1]:
            i -= 1
        else:
            j -= 1
    return matched


def word_tokens(tokenizer: Tokenizer, prompt: str, words: str) -> list[int]:
    """The positions of the tokens of ``words``, one or several, wherever they stand in ``prompt``; case is ignored.

    Raises:
        UserError: they don't stand there, or were cut off.
    """
    tokens = find_word(tokenizer, prompt, words)
    if not tokens:
        check_not_cut_off(tokenizer, prompt, words)
        raise UserError(f"{words!r} is not in the prompt {prompt!r}; expected a word of it")
    return tokens


def find_word(tokenizer: Tokenizer, prompt: str, words: str) -> list[int]:
    """As ``word_tokens``, but empty where there are none."""
    prompt = unicodedata.normalize("NFC", prompt)  # as the tokenizer does: an accent may be a character of its own
    places = _places(prompt, words)
    return [
        position
        for position, (start, end) in enumerate(tokenizer.spans(prompt))
        if any(start < last and end > first for first, last in places)
    ]


def check_not_cut_off(tokenizer: Tokenizer, prompt: str, words: str) -> None:
    """Raises UserError where ``words`` stand in ``prompt`` after what the text encoder takes."""
    if _places(unicodedata.normalize("NFC", prompt), words) and not find_word(tokenizer, prompt, words):
        raise UserError(
            f"{words!r} stands in the prompt {prompt!r} beyond the {tokenizer.max_length - 2} tokens that this model "
            "takes, where it is cut off: shorten what comes before it"
        )


def words_in(tokenizer: Tokenizer, prompt: str) -> list[str]:
    """The words of ``prompt`` that ``find_word`` finds, each once, whatever its case, and as it first stands there.

    In a script that writes no spaces each character is one.
    """
    prompt = unicodedata.normalize("NFC", prompt)
    borders = [place for place in range(len(prompt) + 1) if not _is_inside(prompt, place)]
    parts = [prompt[first:last] for first, last in itertools.pairwise(borders)]
    words: dict[str, str] = {}
    for part in parts:
        if any(map(_is_of_word, part)):
            words.setdefault(part.lower(), part)
    return [word for word in words.values() if find_word(tokenizer, prompt, word)]


def _places(prompt: str, words: str) -> list[tuple[int, int]]:
    """Where whole ``words`` stand; in a script that writes no spaces, wherever their characters do."""
    pattern = re.escape(unicodedata.normalize("NFC", words.strip()))
    found = (match.span() for match in re.finditer(pattern, prompt, re.IGNORECASE) if match[0])
    return [(first, last) for first, last in found if not (_is_inside(prompt, first) or _is_inside(prompt, last))]


def _is_inside(text: str, place: int) -> bool:
    """Whether a word goes on from the character before ``place`` to the one after it."""
    if not 0 < place < len(text):
        return False
    before, after = text[place - 1], text[place]
    if unicodedata.category(after).startswith("M"):  # a mark on the character before
        return True
    return all(
        _is_of_word(character) and not UNSPACED.match(unicodedata.name(character, "")) for character in (before, after)
    )


def _is_of_word(character: str) -> bool:
    return character == "_" or character.isalnum() or unicodedata.category(character).startswith("M")


@rule_maker
def word_values(rule: Rule) -> Rule:
    """Texts such as ``word=0.5``, whose numbers follow ``rule``."""

    def check(values: Any) -> str | None:
        words = set[str]()
        for value in values:
            word, equals, number = str(value).rpartition("=")
            if not (equals and word.strip()):
                return f"has {value!r}, which is not of the form word=number"
            if word.strip().lower() in words:
                return f"names {word.strip()!r} twice: once is enough"
            words.add(word.strip().lower())
            try:
                complaint = rule(float(number))
            except ValueError:
                return f"has {value!r}, where {number!r} is not a number"
            if complaint:
                return f"has {value!r}, where {number} {complaint}"
        return None

    return check


def split(value: str) -> tuple[str, float]:
    """Word and number of ``word=number``."""
    word, _, number = value.rpartition("=")
    return word, float(number)
