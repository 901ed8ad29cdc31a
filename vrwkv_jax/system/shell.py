"""Words as a shell reads them again."""

import os
import shlex
from collections.abc import Iterable

from vrwkv_jax.system.errors import printable


def in_shell(word: object) -> str:
    """A path, or another word, as a shell reads it again: quoted where it must be, and never taken for a flag."""
    text = str(word)
    return _quoted(f"./{text}" if text.startswith("-") else text)


def line_in_shell(words: Iterable[str]) -> str:
    """A command and its arguments as one line, which a shell takes apart into these words again."""
    return " ".join(map(_quoted, words))


def _quoted(text: str) -> str:
    if printable(text) == text:
        return shlex.quote(text)
    # The form of bash and zsh for what can't be printed, such as the bytes of a name that is not UTF-8.
    return "$'" + "".join(_escaped(character) for character in text) + "'"


def _escaped(character: str) -> str:
    if printable(character) == character:
        return f"\\{character}" if character in "\\'" else character
    return "".join(f"\\x{byte:02x}" for byte in os.fsencode(character))
