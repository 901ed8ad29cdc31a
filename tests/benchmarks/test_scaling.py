"""The benchmark of scaling: its power laws, what it keeps, and one small run of each part."""

import json
import sys

import pytest

from benchmarks.power_law import exponent
from benchmarks.scaling import __main__ as scaling
from benchmarks.scaling import layers
from benchmarks.scaling.summary import all_exponents


def test_exponent():
    assert exponent([8, 16, 64], [3 * f**1.5 for f in (8, 16, 64)]) == pytest.approx(1.5)


def test_exponents_in_frames_and_in_places():
    """A layer quadratic in frames and linear in places, whose memory is linear in both."""
    rows = [
        {
            "device": device,
            "layer": "a",
            "level": 0,
            "frames": f,
            "pixels": p,
            "ms": f**power * p**2,
            "operations": 1,
            "compiled_bytes": f * p**2,
        }
        for device, power in (("one", 2), ("another", 3))
        for f in (8, 16, 32)
        for p in (256, 512)
    ]
    exponents = all_exponents(rows, [])
    found = {(row["exponent_of"], row["in"]): row["exponent"] for row in exponents if row["device"] == "one"}
    others = {(row["exponent_of"], row["in"]): row["exponent"] for row in exponents if row["device"] == "another"}
    assert others[("ms", "frames")] == pytest.approx(3)
    assert found[("ms", "frames")] == pytest.approx(2) and found[("compiled_bytes", "frames")] == pytest.approx(1)
    assert found[("ms", "pixels")] == pytest.approx(1)  # of the number of places, not of their side


def test_operations_by_count():
    """Mixers that say they are linear in frames are; attention over all frames is not."""
    counted = {
        name: [layers.operations(name, frames, 128, level=0) for frames in (4, 8)]
        for name in ("vrwkv", "released linear_attention", "extended")
    }
    ratios = {name: after / before for name, (before, after) in counted.items()}
    assert ratios["vrwkv"] == pytest.approx(2, abs=0.02)
    assert ratios["released linear_attention"] == pytest.approx(2, abs=0.02)
    assert ratios["extended"] > 2.05


def test_what_a_run_may_take_is_expected_by_how_it_has_grown():
    assert scaling.seconds_expected([], 8) == 0
    assert scaling.seconds_expected([(8, 100.0)], 16) == pytest.approx(0.4)
    assert scaling.seconds_expected([(4, 1.0), (8, 100.0), (16, 200.0)], 64) == pytest.approx(0.8)


@pytest.mark.long
def test_a_small_run_goes_on_where_it_stopped(tmp_path, monkeypatch, capsys):
    path = tmp_path / "scaling.json"
    small = ["--mixer", "vrwkv", "extended", "--pixels", "64", "--seconds", "10", "--output", str(path)]
    monkeypatch.setattr(scaling.layers, "LEVELS", ((8, 16), (16, 32)))
    monkeypatch.setattr(sys, "argv", ["scaling", *small, "--frames", "1", "2"])
    scaling.main()
    rows = json.loads(path.read_text())["layers"]
    assert len(rows) == 8 and all(row["ms"] > 0 for row in rows)
    assert path.with_suffix(".png").stat().st_size > 1000 and "exponent" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["scaling", *small, "--frames", "1", "2", "3"])
    scaling.main()
    assert json.loads(path.read_text())["layers"][:8] == rows


@pytest.mark.long
def test_attention_by_shares_of_its_queries(monkeypatch):
    """What takes 5 ms and 2 for each unit of queries takes as much for all of them, by its shares and as a whole."""
    monkeypatch.setattr(layers, "QUERIES", 16)
    monkeypatch.setattr(layers, "times", lambda call, wait, **_: {"ms": 5 + 2 * call().size / 320 / 16})
    whole = layers.measure("extended", 16, 64, 0, limit=60, expected=0)
    assert whole["how"] == "whole" and whole["ms"] == pytest.approx(5 + 2 * 16 * 64 / 16)
    assert whole["ms_by_shares"] == pytest.approx(whole["ms"])
    shared = layers.measure("extended", 16, 64, 0, limit=0, expected=1)
    assert shared["how"] == layers.BY_SHARES and shared["ms"] == pytest.approx(whole["ms"])
    assert shared["operations"] == whole["operations"]
    assert "ms" not in layers.measure("vrwkv", 8, 64, 0, limit=0, expected=1)
