"""What is printed of a name or a file cannot command the terminal."""

import ast
import os
import re
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import vrwkv_jax
from vrwkv_jax.commands.cli import run_cli
from vrwkv_jax.config import TuneConfig, messages_name_flags
from vrwkv_jax.runs.claim import free_directory
from vrwkv_jax.system.errors import UserError, printable, setting


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a jeep, übermalt Ж 車 \N{WOMAN}\u200d\N{ROCKET}", "a jeep, übermalt Ж 車 \N{WOMAN}\u200d\N{ROCKET}"),
        ("\x1b[2Jclip\x07.mp4", r"\x1b[2Jclip\x07.mp4"),
        ("two\nlines\rover\x9b31m\x7f", r"two\nlines\rover\x9b31m\x7f"),
        ("gpj\u202e4pm\u2028", r"gpj\u202e4pm\u2028"),
        ("caf\udce9.mp4", r"caf\xe9.mp4"),  # Latin-1's é, as Python reads it in a name
    ],
)
def test_what_commands_a_terminal_is_spelled_out(text, shown):
    assert printable(text) == shown


def test_errors_and_warnings_of_commands_are_printable(capsys):
    def command():
        warnings.simplefilter("default")  # not an error, as in the tests
        warnings.warn("of \x1b[31mred.mp4", stacklevel=1)
        raise UserError("bad:\n  \x1b]0;title\x07.mp4")

    assert run_cli(command) == 2
    assert capsys.readouterr().err == "warning: of \\x1b[31mred.mp4\nerror: bad:\n  \\x1b]0;title\\x07.mp4\n"


def test_what_a_command_says_of_names_is_printable_in_every_terminal(tmp_path):
    """A run that is interrupted at its end, in a directory whose name clears the screen; and letters Latin-1 lacks."""
    script = tmp_path / "says.py"
    script.write_text("def main():\n    print('雪')\n")
    command = (
        "import sys; sys.path.insert(0, sys.argv[1]); from vrwkv_jax.commands.cli import run_module; run_module('says')"
    )
    environment = os.environ | {"PYTHONIOENCODING": "latin-1"}
    done = subprocess.run([sys.executable, "-c", command, str(tmp_path)], env=environment, capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"\\u96ea\n", b"")


def test_messages_name_settings_and_the_flags_of_commands(tmp_path):
    (tmp_path / "file").touch()

    def said() -> str:
        with pytest.raises(UserError) as caught:
            free_directory(TuneConfig(output=str(tmp_path / "file")))
        return str(caught.value)

    with messages_name_flags(), ThreadPoolExecutor() as threads:
        assert setting("learning_rate") == "--lr" and setting("remat", True) == "--remat"
        assert setting("bi_wkv", "auto") == "--bi-wkv auto" and setting("run") == "RUN"
        assert said() == threads.submit(said).result() and said().startswith(f"--output {tmp_path}/file is a file")
    assert setting("learning_rate") == "learning_rate" and setting("remat", True) == "remat=True"
    assert setting("bi_wkv", "auto") == "bi_wkv='auto'" and said().startswith(f"output {tmp_path}/file is a file")


def test_the_library_names_no_flags():
    """Which its callers may not have: messages call settings by ``setting``. The flags of git are not meant, and the
    studio makes command lines.
    """
    package, said = Path(vrwkv_jax.__file__).parent, []
    for file in package.rglob("*.py"):
        if file.relative_to(package).parts[0] not in ("commands", "config", "studio", "__main__.py"):
            tree = ast.parse(file.read_text())
            docstrings = {node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)}
            said += [
                (file.name, node.value)
                for node in ast.walk(tree)
                if isinstance(node, ast.Constant) and node not in docstrings and re.search(r"--[a-z]", str(node.value))
            ]
    assert {file for file, _ in said} == {"provenance.py"}, said
