"""The benchmark of memory, as far as it goes without jax's CUDA plugin."""

import json
import sys
from importlib.util import find_spec

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import memory
from benchmarks.gpu_target import TARGETS, target_config
from vrwkv_jax.commands.cli import run_cli

CASE = memory.Case("tuning", 16, 512, 512, "bfloat16", True, "sm_90")


def row(frames: int, total: float, program: str = "tuning") -> dict:
    case = memory.named(CASE) | {"program": program, "frames": frames}
    return {"case": case, "total": total, "arguments": 2e9, "temporaries": total - 2e9}


def test_fit():
    found = memory.fit([8, 16, 32], [5e9, 7e9, 11e9])
    assert found == pytest.approx({"bytes_per_frame": 2.5e8, "fixed_bytes": 3e9, "largest_deviation": 0}, abs=1e-6)
    bent = memory.fit([8, 16, 32], [5e9, 7e9, 12e9])
    line = bent["fixed_bytes"] + bent["bytes_per_frame"] * np.array([8, 16, 32])
    assert bent["largest_deviation"] == pytest.approx(max(abs(line / np.array([5e9, 7e9, 12e9]) - 1)))
    assert bent["largest_deviation"] > 0.02


def test_lines_need_three_points_of_one_kind():
    rows = [row(32, 11e9), row(8, 5e9), row(16, 4e9, "sampling"), row(8, 3e9, "sampling")]
    assert memory.fits(rows) == []
    (line,) = memory.fits([*rows, row(16, 7e9)])
    assert (line["program"], line["frames"]) == ("tuning", [32, 8, 16])
    assert line["bytes_per_frame"] == pytest.approx(2.5e8)


def test_table():
    lines = memory.table([row(16, 7e9), row(128, 35e9), row(8, 5e9), row(8, 3e9, "sampling")]).splitlines()
    assert [line.split()[:2] for line in lines[1:5]] == [
        ["sampling", "8"],
        ["tuning", "8"],
        ["tuning", "16"],
        ["tuning", "128"],
    ]
    assert lines[3].split() == ["tuning", "16", "512x512", "bfloat16", "yes", "7.00", "2.00", "5.00", "NVIDIA", "H200"]
    assert lines[5] == "tuning: 3.00 GB and 0.250 GB per frame, 0.0% off at most"


def test_what_was_compiled_is_not_compiled_again(monkeypatch):
    compiled = []

    def lower(case, mesh):
        compiled.append(case)
        return jax.jit(lambda x: factor * x).lower(jnp.ones(1000))

    monkeypatch.setattr(memory, "lower", lower)
    monkeypatch.setattr(memory, "QUICK", {})
    factor = 2.0
    (first,) = rows = memory.add(CASE, None, [])
    assert first["total"] >= 8000 and first["made"]["device"] == "NVIDIA H200, described: compiled, not measured"
    assert json.loads(json.dumps(rows)) == rows
    assert memory.add(CASE, None, rows) is rows
    factor = 3.0
    (second,) = memory.add(CASE, None, rows)
    assert second["program_sha256"] != first["program_sha256"] and len(compiled) == 3


@pytest.mark.skipif(
    any(find_spec(f"jax_plugins.{name}") for name in ("xla_cuda13", "xla_cuda12"))
    if find_spec("jax_plugins")
    else False,
    reason="jax's CUDA plugin is there",
)
def test_without_the_plugin(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(sys, "argv", ["memory", "--output", str(tmp_path / "memory.json")])
    assert run_cli(memory.main) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1 and "can't compile for NVIDIA H200" in message
    assert f"pip install jax-cuda13-plugin=={jax.__version__} " in message and not list(tmp_path.iterdir())


@pytest.mark.parametrize("arguments", [["--frames", "0"], ["--width", "500"], ["--height", "0"]])
def test_impossible_sizes(arguments, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["memory", *arguments])
    assert run_cli(memory.main) == 2
    assert "multiples of 8" in capsys.readouterr().err


def test_targets_are_described():
    text = target_config(*TARGETS["sm_89"])
    assert "major: 8 minor: 9" in text and 'device_description_str: "NVIDIA GeForce RTX 4090"' in text
