"""The benchmarks of single ops, at small sizes."""

import json
import sys

import pytest

from benchmarks import bi_wkv, contenders, selective_scan


@pytest.mark.long
@pytest.mark.parametrize(
    ("op", "shape"), [(bi_wkv.OP, "1x40x64"), (selective_scan.OP, "1x40x6x4")], ids=["bi_wkv", "selective_scan"]
)
def test_small_run(op, shape, tmp_path, monkeypatch, capsys):
    path = tmp_path / "results.json"
    monkeypatch.setattr(sys, "argv", [op.name, "--shapes", shape, "--repeats", "2", "--output", str(path)])
    contenders.run(op, "")
    rows = json.loads(path.read_text())["rows"]
    assert {(row["contender"], row["phase"]) for row in rows} == {
        (name, phase) for name in set(op.contenders) - {"mosaic"} for phase in ("forward", "both")
    }
    assert all(0 < row["ms"] <= row["median_ms"] for row in rows)
    assert capsys.readouterr().out.count(" of copy ") == len(rows)


@pytest.mark.parametrize("op", [bi_wkv.OP, selective_scan.OP], ids=lambda op: op.name)
def test_default_shapes_are_sensible(op):
    for on_gpu in (False, True):
        shapes = op.shapes(on_gpu, contenders.FRAMES)
        assert len(set(shapes)) == len(shapes) > 5
        assert all(op.sensible("scan", shape, on_gpu) for shape in shapes)


def test_bytes_that_must_move(monkeypatch):
    """k, v and y; then k, v, g, dk and dv besides (decay and bonus are next to nothing)."""
    monkeypatch.setattr(contenders, "perf_counter", iter(range(10**6)).__next__)  # every run takes a second
    rows = contenders.measure(bi_wkv.OP, (1, 4096, 64), "float32", 1, ["scan"])
    array = 4 * 4096 * 64
    moved = {row["phase"]: row["GB/s"] * 1e9 / array for row in rows}
    assert moved == pytest.approx({"forward": 3, "both": 8}, rel=1e-3)
