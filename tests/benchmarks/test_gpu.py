"""The benchmark of a card, with small sizes on whatever device there is."""

import json
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from benchmarks.gpu import __main__ as gpu
from benchmarks.gpu import cases, kernels, product, summary, turns
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


@pytest.mark.parametrize("program", ["sampling", "inversion", "null text", "tuning"])
def test_weights_are_as_wide_as_those_of_a_new_model(program):
    """Whatever the argument is called that has them: with weights of order 1 a deep model overflows."""
    _, arguments, _ = product.prepare(program, 2, "vrwkv", tiny=True)
    found = {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree.leaves_with_path(filled(arguments))}
    kernels = {name: leaf for name, leaf in found.items() if "/kernel" in name and "optimizer" not in name}
    assert len(kernels) > 20
    for name, leaf in kernels.items():
        assert np.std(leaf, dtype=np.float64) * np.sqrt(leaf.size / leaf.shape[-1]) == pytest.approx(1, abs=0.35), name


def test_what_targets_ask_for_comes_first():
    found = cases.cases(list(cases.PARTS), tiny=False)
    assert len(found) == len({json.dumps(case) for case in found})
    parts = [case["part"] for case in found if case.get("frames", 16) == 16]
    assert parts == sorted(parts, key=cases.PARTS.index)  # within them as the parts come
    others = next(i for i, case in enumerate(found) if case.get("frames", 16) != 16)
    assert {case["part"] for case in found[:others]} == {"kernels", "programs", "peers", "job"}


def test_what_a_process_has_started_ends_with_it(tmp_path, monkeypatch):
    """A worker that is ended in the midst of a command."""
    worker = tmp_path / "worker.py"
    worker.write_text(
        "import subprocess, sys, pathlib\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        f"pathlib.Path({str(tmp_path / 'pid')!r}).write_text(str(child.pid))\n"
        "child.wait()\n"
    )
    monkeypatch.setattr(turns, "WORKER", [sys.executable, str(worker)])
    turn, pid = turns.Turn({"part": "job"}, time.monotonic() + 60), tmp_path / "pid"
    while not pid.exists() or not pid.read_text():
        assert turn.process.poll() is None
        time.sleep(0.01)
    turn.kill()
    turn.end()
    child = Path(f"/proc/{pid.read_text()}/stat")
    while child.exists() and child.read_text().split()[2] != "Z":
        time.sleep(0.01)


def test_rows_of_other_code_are_made_anew():
    made = {"device": "d", "versions": {"jax": "1"}, "source": gpu.source()}
    assert gpu.same_place(made, dict(made)) and not gpu.same_place(made, made | {"source": "of yesterday"})


def test_floor():
    """Of the table of bytes: in one chunk 6 and 10 per element, in three phases 10 + 96 / 64 and 16 + 156 / 64."""
    assert [kernels.floor(phase, 16, 2) for phase in ("forward", "backward")] == [6, 10]
    assert [kernels.floor(phase, 4096, 2) for phase in ("forward", "backward")] == [11.5, 18.4375]


def test_growths():
    rows = {
        frames: {"ms": 3.0 * frames**1.5, "peak_bytes": 7 * frames if frames < 64 else None} for frames in (8, 16, 64)
    }
    assert summary.growths("tuning", rows) == [
        "tuning: milliseconds grow as frames to the power of 1.50",
        "tuning: peak memory grows as frames to the power of 1.00",
    ]
    assert summary.growths("tuning", {8: rows[8]}) == []
