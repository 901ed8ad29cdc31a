"""Ctrl-C and SIGTERM: at once, later, and how a command ends by them."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vrwkv_jax.commands.terminal import TERMINAL
from vrwkv_jax.system.interruption import Terminated, postponed, termination_raises
from vrwkv_jax.system.reporter import reporting_to

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(("number", "exception"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)])
def test_postponed(number, exception, capsys):
    done = []
    with pytest.raises(exception), termination_raises(), reporting_to(TERMINAL):
        with postponed("tidying up") as interruption:
            assert interruption.signal is None
            interruption.end()
            signal.raise_signal(number)
            assert interruption.signal == number
            done.append("tidy")
        done.append("never")
    assert done == ["tidy"]
    assert "interrupted: tidying up (Ctrl-C again stops at once)" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_good_place_to_end_at():
    with pytest.raises(Terminated), postponed("") as interruption:
        signal.raise_signal(signal.SIGTERM)
        interruption.end()
        raise AssertionError("still there")


def test_a_second_time_is_at_once():
    with pytest.raises(KeyboardInterrupt), postponed(""):
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("still there")


def test_the_outermost_block_decides():
    done = []
    with pytest.raises(KeyboardInterrupt):
        with postponed("") as outer:
            with postponed("") as inner:
                signal.raise_signal(signal.SIGINT)
            done.append("inner")
            assert inner is outer
        done.append("never")
    assert done == ["inner"]


def test_what_is_ignored_stays_so():
    """As of a command that a script has put into the background."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with postponed("") as interruption:
            signal.raise_signal(signal.SIGINT)
        assert interruption.signal is None
    finally:
        signal.signal(signal.SIGINT, before)


def test_without_an_interruption_nothing_happens():
    with postponed(""):
        pass


WAIT = """
import sys, time
from vrwkv_jax.commands.cli import run_cli
def command():
    print("ready", flush=True)
    time.sleep(60)
sys.exit(run_cli(command))
"""


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_status_of_an_interrupted_command(number, status):
    process = subprocess.Popen(
        [sys.executable, "-c", WAIT], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    _, stderr = process.communicate(timeout=60)
    assert (process.returncode, stderr) == (status, "interrupted\n")


@pytest.mark.parametrize("module", ["train.tune", "train.pretrain_shapes", "vrwkv_jax.edit", "convert.__main__"])
def test_ctrl_c_while_modules_are_imported(module, tmp_path):
    """A module stands in for jax that takes forever to import, and tells when it is."""
    (tmp_path / "jax.py").write_text("import time\nprint('importing', flush=True)\ntime.sleep(60)\n")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
    code = f"import sys, runpy; sys.path.insert(0, {str(tmp_path)!r}); sys.argv = ['']; "
    code += f"runpy.run_module({module!r}, run_name='__main__', alter_sys=True)"
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=environment,
    )
    assert process.stdout.readline() == "importing\n"
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert (process.returncode, stderr) == (130, "interrupted\n")
