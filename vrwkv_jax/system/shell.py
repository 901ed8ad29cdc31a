"""Words as a shell reads them again."""

import os
import shlex

from vrwkv_jax.system.errors import printable


def in_shell(word: object) -> str:
    """A path, or another word, as a shell reads it again: quoted where it must be, and never taken for a flag."""
    text = str(word)
    if text.startswith("-"):
        text = f"./{text}"
    if printable(text) == text:
        return shlex.quote(text)
    # The form of bash and zsh for what can't be printed, such as the bytes of a name that is not UTF-8.
    return "$'" + "".join(_escaped(character) for character in text) + "'"


def _escaped(character: str) -> str:
    if printable(character) == character:
        return f"\\{character}" if character in "\\'" else character
    return "".join(f"\\x{byte:02x}" for byte in os.fsencode(character))
