"""How commands end."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


def python(code: str) -> subprocess.CompletedProcess[str]:
    root = Path(__file__).parents[2]
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=False)


@pytest.mark.parametrize(
    ("body", "status", "out", "err"),
    [
        ("print('done')", 0, "done\n", ""),
        ("raise UserError('clip.mp4 does not exist')", 2, "", "error: clip.mp4 does not exist\n"),
        ("raise KeyboardInterrupt", 130, "", "interrupted\n"),
        ("warnings.warn('two\\nlines')", 0, "", "warning: two lines\n"),
    ],
    ids=["done", "user error", "interrupted", "warning"],
)
def test_exit_status_and_messages(body, status, out, err):
    result = python(
        "import sys, warnings\nfrom vrwkv_jax.commands.cli import run_cli\n"
        "from vrwkv_jax.system.errors import UserError\n"
        f"def command():\n    {body}\nsys.exit(run_cli(command))"
    )
    assert (result.returncode, result.stdout, result.stderr) == (status, out, err)


def test_defects_keep_their_traceback():
    result = python("from vrwkv_jax.commands.cli import run_cli\nrun_cli(lambda: 1 / 0)")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.rstrip().endswith("ZeroDivisionError: division by zero")


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_command_that_nobody_reads_on_ends_without_a_word(stream, unbuffered):
    """As `| head` and `|& head` leave it, when they have seen enough."""
    code = (
        f"import sys\nfrom vrwkv_jax.commands.cli import run_cli\nprints = lambda: print('x' * 99, file=sys.{stream})\n"
    )
    code += "sys.exit(run_cli(prints))"
    read, write = os.pipe()
    os.close(read)
    outputs = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | {stream: write}
    environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    done = subprocess.run([sys.executable, "-c", code], env=environment, **outputs)
    os.close(write)
    assert done.returncode == 141 and not done.stdout and not done.stderr


@pytest.mark.parametrize(
    ("argv", "err"),
    [
        (["--width", "500"], "error: --width 500 is not a multiple of 8: use 496 or 504\n"),
        (["--config", "none.yaml"], "error: none.yaml does not exist: give the path of a YAML file\n"),
    ],
)
def test_mistakes_reach_the_shell_in_one_line(argv, err):
    result = python(
        "import sys\nfrom vrwkv_jax.commands.cli import run_cli\nfrom vrwkv_jax.config import parse_tune_config\n"
        f"sys.exit(run_cli(lambda: parse_tune_config({argv!r})))"
    )
    assert (result.returncode, result.stderr) == (2, err)
