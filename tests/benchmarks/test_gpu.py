"""The benchmark of a card, with small sizes on whatever device there is."""

import json
import sys

import jax
import pytest

from benchmarks.gpu import __main__ as gpu
from benchmarks.gpu import cases, kernels, product, summary
from benchmarks.gpu.values import filled


def run(path, *arguments, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["gpu", "--tiny", "--output", str(path), *arguments])
    gpu.main()
    return json.loads(path.read_text())["rows"]


@pytest.mark.long
@pytest.mark.parametrize("part", ["kernels", "programs", "peers", "scaling"])
def test_small_run(part, tmp_path, monkeypatch, capsys):
    """One case of each part, and no more of it when it is asked for again."""
    some = cases.cases([part], tiny=True)[:1]
    monkeypatch.setattr(gpu, "cases", lambda parts, tiny: some)
    path = tmp_path / "gpu.json"
    rows = run(path, "--parts", part, monkeypatch=monkeypatch)
    assert {row["case"]["part"] for row in rows} == {part} and all(row["ms"] > 0 for row in rows if "runs" in row)
    assert all(row["finite"] for row in rows if "finite" in row)
    assert "summary" in capsys.readouterr().out
    monkeypatch.setattr(gpu, "in_turns", lambda cases, deadline: pytest.fail("done before"))
    assert run(path, "--parts", part, monkeypatch=monkeypatch) == rows


def test_what_fails_is_said(tmp_path, monkeypatch, capsys):
    some = [{"part": "kernels", "tiny": True, "shape": [1, 0, 4], "contender": "scan"}]
    monkeypatch.setattr(gpu, "cases", lambda parts, tiny: some)
    monkeypatch.setattr(sys, "argv", ["gpu", "--tiny", "--output", str(tmp_path / "gpu.json"), "--parts", "kernels"])
    gpu.main()
    assert "Error" in capsys.readouterr().out and not (tmp_path / "gpu.json").exists()


@pytest.mark.parametrize("program", ["inversion", "controlled", "null text", "vae encode", "vae decode", "tuning"])
def test_every_program_takes_the_values(program):
    step, arguments, static = product.prepare(program, 2, "vrwkv", tiny=True)
    values = jax.device_put(filled(arguments))
    shapes = [jax.tree.map(jax.typeof, x) for x in (arguments, values)]
    assert jax.tree.structure(shapes[0]) == jax.tree.structure(shapes[1])
    assert len(jax.tree.leaves(jax.eval_shape(lambda **given: step(**given, **static), **values))) > 0


def test_floor():
    """Of the table of bytes: in one chunk 6 and 10 per element, in three phases 10 + 96 / 64 and 16 + 156 / 64."""
    assert [kernels.floor(phase, 16, 2) for phase in ("forward", "backward")] == [6, 10]
    assert [kernels.floor(phase, 4096, 2) for phase in ("forward", "backward")] == [11.5, 18.4375]


def test_exponent():
    rows = {frames: {"ms": 3.0 * frames**1.5} for frames in (8, 16, 64)}
    assert summary.exponent(rows) == pytest.approx(1.5)
