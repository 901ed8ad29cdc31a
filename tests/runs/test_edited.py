"""Edits of a finished run that are stopped go on where they were."""

import shlex

import pytest

from tests.runs.runs import interrupted_at
from vrwkv_jax.commands.cli import run_cli
from vrwkv_jax.commands.edit import main
from vrwkv_jax.runs import results
from vrwkv_jax.runs.lock import locked
from vrwkv_jax.system.errors import UserError

PROMPTS = ["--prompt", "a yellow disc", "--prompt", "a black disc"]


def contents(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_edits_that_are_done_stay(whole, tmp_path, monkeypatch, capsys):
    """Stopped in the second of two, after an inversion of another number of steps."""
    begin = [str(whole), *PROMPTS, "--num-inference-steps", "2", "--inversion-tolerance", "0"]
    output, again, edited = tmp_path / "the edits", tmp_path / "again", []
    monkeypatch.setattr(
        "vrwkv_jax.commands.edit.start_editing", lambda *_, **__: None
    )  # which calls the same functions
    edit_once = results.edit_once

    def counting(*args):
        edited.append(args[2])
        return edit_once(*args)

    with monkeypatch.context() as patch:
        patch.setattr(results, "edit_once", interrupted_at(counting, 2))
        assert run_cli(lambda: main([*begin, "--output", str(output)])) == 130
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith(f"interrupted: {output} holds what is done: resume with the same command and --output ")
    monkeypatch.setattr(results, "edit_once", counting)
    main([*begin, *shlex.split(said.partition("command and ")[2])])
    assert edited == ["a yellow disc", "a black disc", "a black disc"]
    main([*begin, "--output", str(again)])
    assert contents(output) == contents(again) and len(contents(output)) == 6
    asked = [line for line in capsys.readouterr().out.splitlines() if "row-calls" in line]
    assert asked == ["12 row-calls (inversion 6, reconstruction 2, edits 4)"] * 2


def test_what_is_stopped_before_anything_is_done_leaves_nothing(whole, tmp_path, monkeypatch, capsys):
    def stopped(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("vrwkv_jax.commands.edit.make_edits", stopped)
    assert run_cli(lambda: main([str(whole), *PROMPTS, "--output", str(tmp_path / "edits")])) == 130
    assert capsys.readouterr().err.splitlines()[-1] == "interrupted" and not list(tmp_path.iterdir())


def test_a_full_disk_is_one_sentence(whole, tmp_path, monkeypatch, capsys):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("vrwkv_jax.commands.edit.make_edits", full)
    assert run_cli(lambda: main([str(whole), *PROMPTS, "--output", str(tmp_path / "edits")])) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert "edits can't be written (No space left on device): make room; " in said and "same command" in said


def test_only_what_an_edit_has_left_is_gone_on_with(whole, tmp_path):
    for name in ("config.yaml", "unfinished"):
        (tmp_path / name).mkdir()
        with pytest.raises(UserError, match="is there already and not empty: name another directory"):
            main([str(whole), *PROMPTS, "--output", str(tmp_path)])
    (tmp_path / "config.yaml").rmdir()
    with locked(tmp_path), pytest.raises(UserError, match="is in use by another run"):
        main([str(whole), *PROMPTS, "--output", str(tmp_path)])


def test_what_an_edit_did_not_make_stays(whole, tmp_path, monkeypatch):
    monkeypatch.setattr("vrwkv_jax.commands.edit.make_edits", None)
    drafts, empty = tmp_path / "drafts", tmp_path / "empty"
    (drafts / "unfinished").mkdir(parents=True)
    (drafts / "unfinished" / "chapter-7.txt").write_text("mine")
    empty.mkdir()
    with pytest.raises(UserError, match="is there already and not empty"):
        main([str(whole), *PROMPTS, "--output", str(drafts)])
    with pytest.raises(TypeError):
        main([str(whole), *PROMPTS, "--output", str(empty)])
    assert (drafts / "unfinished" / "chapter-7.txt").read_text() == "mine" and empty.is_dir()
