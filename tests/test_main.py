"""``vrwkv``: one name for all commands, and what has moved can still be found."""

import subprocess
import sys

import pytest

import vrwkv_jax


def vrwkv(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", "vrwkv_jax", *arguments], capture_output=True, text=True)


@pytest.mark.parametrize("arguments", [[], ["--help"]])
def test_lists_its_commands(arguments):
    done = vrwkv(*arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split()[0] for line in done.stdout.splitlines() if line.startswith("  ")] == [
        "tune",
        "edit",
        "mask",
        "metrics",
        "studio",
        "convert",
    ]


def test_an_unknown_command_is_one_line():
    done = vrwkv("tun")
    assert (done.returncode, done.stdout) == (2, "")
    known = "tune, edit, mask, metrics, studio, convert"
    assert done.stderr == f"error: vrwkv has no command 'tun': expected one of {known}\n"


@pytest.mark.parametrize(
    ("name", "module", "arguments"),
    [
        ("tune", "train.tune", ["--video", "nowhere.mp4", "--prompt", "x"]),
        ("edit", "vrwkv_jax.edit", ["nowhere", "--prompt", "x"]),
        ("metrics", "vrwkv_jax.metrics", ["nowhere.mp4", "there.mp4"]),
        ("convert", "convert", ["nowhere", "there"]),
    ],
)
def test_each_is_the_command_that_python_runs(name, module, arguments, tmp_path):
    ours, theirs = (
        subprocess.run([sys.executable, "-m", *command, *arguments], capture_output=True, text=True, cwd=tmp_path)
        for command in (["vrwkv_jax", name], [module])
    )
    assert (ours.returncode, ours.stderr) == (theirs.returncode, theirs.stderr) and ours.returncode == 2
    assert "\nerror: " in f"\n{ours.stderr}"


def test_tune_is_where_it_was_with_a_warning():
    with pytest.warns(DeprecationWarning, match="train.loop has moved: import tune from vrwkv_jax"):
        from train.loop import tune
    assert tune is vrwkv_jax.tune
