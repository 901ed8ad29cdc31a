"""Where commands write: nothing that is there is lost, and a run can be resumed or replaced."""

import dataclasses
import json
import re
from pathlib import Path

import pytest

from tests.commands.tiny import TINY
from vrwkv_jax import Editor
from vrwkv_jax.commands.edit import main as edit_main
from vrwkv_jax.commands.tune import main as tune_main
from vrwkv_jax.config import TuneConfig, save_yaml
from vrwkv_jax.runs.claim import claimed, free_directory, put_in_place
from vrwkv_jax.system.errors import UserError


def test_an_output_that_is_taken_is_kept(run_directory, tmp_path):
    with pytest.raises(UserError, match=r"is not empty: name another directory, or .* --overwrite"):
        tune_main([*TINY, "--output", str(run_directory)])
    with pytest.raises(UserError, match="already and not empty"):
        edit_main([str(run_directory), "--prompt", "x", "--output", str(run_directory)])


@pytest.fixture
def interrupted_tuning(monkeypatch):
    """Tuning that ends after one step, as by Ctrl-C."""

    def tune(editor, clip, prompt, config, *, start, callback, keep, say):
        callback(step=1, loss=0.5, grad_norm=0.25, seconds=2.0)
        raise KeyboardInterrupt

    monkeypatch.setattr("vrwkv_jax.runs.tuning.tune", tune)


def test_an_interrupted_run_keeps_its_log_and_can_be_replaced(interrupted_tuning, model, tmp_path):
    output = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        tune_main([*TINY, *model, "--output", str(output)])
    assert (output / "config.yaml").is_file()
    entry = json.loads((output / "log.jsonl").read_text())
    assert entry["step"] == 1 and entry["loss"] == 0.5 and entry["memory_bytes"] > 1e6
    with pytest.raises(UserError, match=r"an unfinished run, stopped before .* --resume, .* replace .* --overwrite"):
        tune_main([*TINY, *model, "--output", str(output)])
    with pytest.raises(KeyboardInterrupt):
        tune_main([*TINY, *model, "--output", str(output), "--overwrite"])


def test_a_new_run_offers_to_resume_an_unfinished_one(interrupted_tuning, model, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("small-clip", "small-clip-2"):
        capsys.readouterr()
        with pytest.raises(KeyboardInterrupt):
            tune_main([*TINY, *model])
        assert Path("runs", name, "config.yaml").is_file()
    offer = "runs/small-clip holds an unfinished run, .*: to resume it, use --output runs/small-clip --resume"
    assert re.match(offer, capsys.readouterr().err)


def test_a_run_stays_whole_until_its_replacement_is(interrupted_tuning, model, own_run):
    before = {path: path.read_bytes() for path in own_run.rglob("*") if path.is_file()}
    for _ in range(2):  # the second time, what the first left is in the way
        with pytest.raises(KeyboardInterrupt):
            tune_main([*TINY, *model, "--output", str(own_run), "--overwrite"])
    assert {path: path.read_bytes() for path in own_run.rglob("*") if path.is_file()} == before


def test_a_replacement_takes_the_place(tmp_path):
    config = TuneConfig(output=str(tmp_path / "run"), overwrite=True)
    for prompt in ("first", "second"):
        directory = free_directory(config)
        with claimed(directory, config) as working:
            save_yaml(dataclasses.replace(config, prompt=prompt), working.config)
            put_in_place(working, directory)
        assert [path.name for path in tmp_path.iterdir()] == ["run"]
        assert f"prompt: {prompt}" in directory.config.read_text()


@pytest.mark.parametrize("command", ["tune", "edit"])
def test_an_output_that_cannot_be_made_is_refused_before_the_work(command, run_directory, tmp_path, monkeypatch):
    monkeypatch.setattr(Editor, "from_pretrained", None)
    (tmp_path / "file").write_text("")
    flags = ["--output", str(tmp_path / "file" / "run")]
    with pytest.raises(UserError, match=r"can't be made: .*file is a file"):
        tune_main([*TINY, *flags]) if command == "tune" else edit_main([str(run_directory), "--prompt", "x", *flags])
