"""The benchmark beside PyTorch, with small models: both sides compute the same."""

import json
import sys

import pytest

from benchmarks import unet


@pytest.mark.long
def test_a_small_run(tmp_path, monkeypatch, capsys):
    path = tmp_path / "unet.json"
    arguments = ["--tiny", "--pixels", "64", "--frames", "2", "--repeats", "1", "--output", str(path)]
    monkeypatch.setattr(sys, "argv", ["unet", *arguments])
    unet.main()
    rows = json.loads(path.read_text())["rows"]
    assert [row["part"] for row in rows] == list(unet.PARTS)
    assert all(row["ratio"] > 0 and row["largest_difference"] < 1e-4 for row in rows)
