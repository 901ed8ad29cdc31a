"""Commands that are printed can be pasted."""

import os
import subprocess

import pytest

from vrwkv_jax.system.errors import printable
from vrwkv_jax.system.shell import in_shell, line_in_shell

NAMES = [
    "runs/jeep",
    "my clip (1)",
    "it's",
    "-x",
    "$HOME",
    "a\nb",
    "\x1b[2J",
    "caf\udce9",
    "\u202etxt",
    "雪 🎿",
    "a\\b'\x07",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_shell_reads_the_path_again(name):
    word = in_shell(name)
    assert printable(word) == word
    read = subprocess.run(["bash", "-c", f"printf %s {word}"], capture_output=True, check=True).stdout
    assert os.fsdecode(read) in (name, f"./{name}") and not read.startswith(b"-")


def test_a_shell_takes_a_line_apart_into_its_words():
    words = [*NAMES, "", "--prompt", "--negative-prompt=-x y"]
    read = subprocess.run(["bash", "-c", "printf '%s\\0' " + line_in_shell(words)], capture_output=True, check=True)
    assert [os.fsdecode(word) for word in read.stdout.split(b"\0")[:-1]] == words
