"""What commands print, taken apart."""

import sys
from io import StringIO

from vrwkv_jax.commands.terminal import TERMINAL
from vrwkv_jax.studio.progress import Progress, parse_progress, read_progress


def test_what_a_terminal_writes_is_understood(monkeypatch):
    """The commands' own reporter is the oracle."""
    printed = StringIO()
    monkeypatch.setattr(sys, "stderr", printed)
    with TERMINAL.stage("reconstruction", 7) as advance:
        advance(loss=0.1)
        advance(loss=0.1)
    found = parse_progress(printed.getvalue())
    assert (found.stage, found.done, found.total) == ("reconstruction", 2, 7)
    assert found.left is None or found.left.startswith("00:")


def test_messages_warnings_and_errors():
    found = parse_progress(
        "warning: it is HDR\nloading a model\nwarning: it is HDR\n"
        "error: clip.yaml has 2 mistakes:\n  `a` is wrong\n  `b` is, too\n"
    )
    assert found.said == "loading a model"
    assert found.warnings == ("it is HDR",)
    assert found.error == "clip.yaml has 2 mistakes: `a` is wrong `b` is, too"


def test_a_stage_hides_what_was_said_before():
    bar = "edit 1        :  50%|#####     | 2/4 [00:01<?, ?step/s]"
    assert parse_progress(f"loading a model\n{bar}").said is None
    found = parse_progress(f"{bar}\rcompiling an edit ...")
    assert (found.stage, found.left, found.said, found.share) == ("edit 1", None, "compiling an edit ...", 0.5)


def test_interruptions():
    assert not parse_progress("interrupted: finishing this step, to save it").interrupted
    assert parse_progress("interrupted: runs/a is saved up to step 3").interrupted


def test_a_defect_is_one_line():
    found = parse_progress("Traceback (most recent call last):\n  File x\nZeroDivisionError: division by zero\n")
    assert found.error == "it ended with a defect of ours (ZeroDivisionError: division by zero)"


def test_of_a_long_log_the_end_is_read(tmp_path):
    log = tmp_path / "log"
    assert read_progress(log) == Progress()
    log.write_text("error: long ago\n" + "x" * 100 + "\n" * 70_000 + "tuning  :  1%|#| 1/100 [00:01<01:39, 1s/it]")
    assert (read_progress(log).left, read_progress(log).error) == ("01:39", None)
