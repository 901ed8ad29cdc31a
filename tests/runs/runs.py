"""Tiny runs, whether two of them are the same, and what is told of them."""

import json
from pathlib import Path

import numpy as np

from vrwkv_jax.checkpoint import native
from vrwkv_jax.runs.own import LOCK
from vrwkv_jax.system.reporter import Silent

TINY = ["--frames", "2", "--stride", "1", "--width", "16", "--height", "16", "--prompt", "a red disc"]
TINY += ["--num-inference-steps", "3", "--placement", "mid", "--guidance-scale", "1", "--sampler", "dpm++"]
TINY += ["--cross-attention", "0", "--no-replace-words", "--features", "0"]  # which this U-Net is too small for
EDITS = ["--edit-prompt", "a blue disc", "--edit-prompt", "a green disc"]
STEPS = ["--steps", "4", "--checkpoint-every", "2", "--sample-every", "3"]


def assert_same_run(actual: Path, expected: Path) -> None:
    """The same bytes in all that a run makes, but for times and the place it lies in."""
    files = {
        name: {path.relative_to(root) for path in root.rglob("*") if path.suffix in (".mp4", ".png", ".npy", ".yaml")}
        for name, root in (("actual", actual), ("expected", expected))
    }
    assert files["actual"] == files["expected"] and len(files["expected"]) > 8
    for path in files["expected"] - {Path("config.yaml")}:
        assert (actual / path).read_bytes() == (expected / path).read_bytes(), path
    params = native.restore(expected / "tuned")
    for path, array in native.restore(actual / "tuned", params).items():
        assert np.asarray(array).tobytes() == np.asarray(params[path]).tobytes(), path
    assert figures(actual) == figures(expected)
    row_calls = [json.loads((run / "metrics.json").read_text())["row_calls"] for run in (actual, expected)]
    assert row_calls[0] == row_calls[1] and row_calls[0]["inversion"] > 0
    assert not (actual / "unfinished").exists() and not (actual / LOCK).exists()


def figures(run: Path) -> list[dict[str, float]]:
    """The log without what is measured anew each time."""
    entries = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [{name: entry[name] for name in entry if name not in ("seconds", "memory_bytes")} for entry in entries]


def interrupted_at(function, last):
    """``function`` with an interruption after its ``last`` call."""
    calls = []

    def interrupted(*args, **kwargs):
        calls.append(None)
        result = function(*args, **kwargs)
        if len(calls) == last:
            raise KeyboardInterrupt
        return result

    return interrupted


class Told(Silent):
    """A reporter that writes down what it is told."""

    def __init__(self):
        self.messages, self.stages = [], []

    def say(self, message):
        self.messages.append(message)

    def stage(self, what, total, done=0, unit="step"):
        self.stages.append((what, total, done))
        return super().stage(what, total, done, unit)
