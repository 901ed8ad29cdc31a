"""Settings that JAX and XLA can't follow, and cards that they don't use."""

import os
import re
import subprocess
import sys

import jax
import pytest

from vrwkv_jax.parallel import devices
from vrwkv_jax.system.errors import UserError

COMMANDS = {"train.tune": [], "vrwkv_jax.edit": ["nowhere", "--prompt", "x"], "convert": ["nowhere", "there"]}


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("JAX_PLATFORMS", "nonsense", "JAX_PLATFORMS asks for nonsense, which can't be started here .*: unset it"),
        (
            "XLA_FLAGS",
            "--xla_nonsense=1",
            r"XLA_FLAGS, '--xla_nonsense=1' \(Unknown flag in XLA_FLAGS: --xla_nonsense=1\)",
        ),
        ("XLA_FLAGS", "--xla_gpu_autotune_level=x", r"\(Couldn't interpret value x for flag xla_gpu_autotune_level\)"),
        (
            "JAX_ENABLE_X64",
            "maybe",
            r"JAX does not take a setting .* 'maybe' .* 'JAX_ENABLE_X64'\): correct it, or unset it",
        ),
    ],
)
@pytest.mark.parametrize("command", COMMANDS)
def test_a_setting_that_cannot_be_followed_is_one_sentence(command, name, value, said, tmp_path):
    flags = COMMANDS[command] if command != "train.tune" else ["--output", str(tmp_path / "run")]
    if command == "vrwkv_jax.edit" and name == "JAX_PLATFORMS":
        said = "nowhere is not there"  # which is read first
    done = subprocess.run(
        [sys.executable, "-m", command, *flags], env=os.environ | {name: value}, capture_output=True, text=True
    )
    assert done.returncode == 2 and re.match(f"error: .*{said}", done.stderr), done.stderr
    assert done.stderr.count("\n") == 1 and not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", COMMANDS)
def test_a_current_directory_that_is_gone(command, tmp_path):
    """As in a terminal where it was removed, or moved and made anew, from another one."""
    start = "import os, sys; os.rmdir(os.getcwd()); from vrwkv_jax.commands.cli import run_module; "
    start += "sys.exit(run_module(sys.argv[1]))"
    (tmp_path / "here").mkdir()
    flags = [f"vrwkv_jax.commands.{command.rpartition('.')[2]}", *COMMANDS[command]]
    done = subprocess.run([sys.executable, "-c", start, *flags], cwd=tmp_path / "here", capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (
        2,
        "error: the current directory is not there any more (No such file or directory): change to another with cd\n",
    )


@pytest.mark.parametrize("asked", ["cuda", "gpu"])
def test_a_platform_that_fails_without_a_word(asked, monkeypatch):
    def fail():
        raise AssertionError

    monkeypatch.setattr(jax, "devices", fail)
    monkeypatch.setenv("JAX_PLATFORMS", asked)
    monkeypatch.setattr(devices, "PLUGINS", ("no_such_plugin",))
    with pytest.raises(
        UserError, match=rf"asks for {asked}, .*\(there is none that JAX can use\): unset it, or, .*\[cuda\]'$"
    ):
        devices.check_devices()


def test_a_card_that_is_not_used_is_said(monkeypatch, tmp_path):
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    monkeypatch.setattr(devices, "CARDS", (str(tmp_path / "none"), str(tmp_path)))
    monkeypatch.setattr(devices, "PLUGINS", ("no_such_plugin",))
    if jax.default_backend() != "cpu":
        pytest.skip("a device is used here")
    with pytest.warns(UserWarning, match=r"for it has no CUDA plugin: install it: pip install -e '.\[cuda\]'$"):
        devices.check_devices()
    monkeypatch.setattr(devices, "PLUGINS", ("yaml",))
    with pytest.warns(UserWarning, match=r"plugin can't use it .*: see whether nvidia-smi"):
        devices.check_devices()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    devices.check_devices()
