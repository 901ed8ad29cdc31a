"""``vrwkv mask``: where words are, as a clip that ``--mask`` reads."""

import dataclasses
import re

import numpy as np
import pytest

from tests.commands.tiny import decode
from vrwkv_jax import load_run
from vrwkv_jax.commands import mask
from vrwkv_jax.commands.cli import run_cli
from vrwkv_jax.commands.edit import main as edit_main
from vrwkv_jax.commands.mask import main as mask_main
from vrwkv_jax.media.mask import read_mask
from vrwkv_jax.media.overlay import TINT, overlay
from vrwkv_jax.system.errors import UserError


def test_the_mask_is_written_and_read_again(run_directory, tmp_path, capsys):
    before = {path: path.stat().st_mtime_ns for path in run_directory.rglob("*")}
    output = tmp_path / "new" / "red.mp4"
    mask_main([str(run_directory), "--words", "red", "disc", "--threshold", "0.4", "--output", str(output)])
    assert {path: path.stat().st_mtime_ns for path in run_directory.rglob("*")} == before
    said = capsys.readouterr()
    assert said.out == f"\nwrote {output}\n      {output.with_name('red_over_source.mp4')}\n"
    assert "attention" in said.err and re.search(r"'red' 'disc': \d+\.\d% of the clip", said.err)
    finished = load_run(run_directory)
    expected = finished.editor().word_mask(
        finished.inversion, ["red", "disc"], 0.4, source_prompt=finished.config.prompt
    )
    found = read_mask(output, frames=3, width=24, height=16).places
    np.testing.assert_array_equal(found, expected)
    source, shown = (
        np.array(decode(path), float)
        for path in (run_directory / "source.mp4", output.with_name("red_over_source.mp4"))
    )
    changed = np.abs(source - shown).mean(-1)
    assert changed[expected].mean() > 3 * changed[~expected].mean()  # which the codec changes, too, at the borders
    edit_main([str(run_directory), "--prompt", "a blue disc", "--mask", str(output), "--output", str(tmp_path / "e")])
    assert "mask" in capsys.readouterr().err


def test_overlay_tints_what_is_chosen_alone():
    frames = np.random.default_rng(1).integers(0, 256, (3, 5, 7, 3), np.uint8)
    mask = np.random.default_rng(2).random((3, 5, 7)) < 0.4
    found = overlay(frames, mask)
    np.testing.assert_array_equal(found[~mask], frames[~mask])
    assert np.abs(found[mask] - (frames[mask].astype(float) + TINT) / 2).max() <= 0.5


def test_mistakes_leave_nothing(run_directory, tmp_path, capsys):
    taken = tmp_path / "taken_over_source.mp4"
    taken.touch()
    words, output = ["--words", "red"], ["--output", str(tmp_path / "m.mp4")]
    for argv, said in (
        (
            [str(run_directory), "--words", "blue", *output],
            "'blue' is not in the clip's prompt 'a red disc': choose of its words a, red, disc",
        ),
        (
            [str(run_directory), *words, "--output", str(tmp_path / "taken.mp4")],
            f"--output: {taken} is there already: name another file",
        ),
        ([str(run_directory), *words, "--output", str(tmp_path / "m.png")], "is no name of an mp4: end it in .mp4"),
        ([str(run_directory), *words, *output, "--threshold", "2"], "--threshold 2.0 is not between 0 and 1"),
        ([str(run_directory), "--words", *output], "--words () names no word"),
        ([str(tmp_path), *words, *output], "is no run: it has no config.yaml"),
        ([str(run_directory), *words, *output, "--model", str(tmp_path / "no")], "there is no checkpoint"),
    ):
        assert run_cli(lambda argv=argv: mask_main(argv)) == 2
        err = capsys.readouterr().err
        assert said in err and err.strip().splitlines()[-1].startswith("error: "), err
        assert [path.name for path in tmp_path.iterdir()] == [taken.name]


def test_a_run_of_a_long_clip_has_none(run_directory, tmp_path, monkeypatch):
    finished = dataclasses.replace(load_run(run_directory), whole_inversion=None)
    monkeypatch.setattr(mask, "load_run", lambda directory: finished)
    with pytest.raises(UserError, match="is of a long clip"):
        mask_main(["run", "--words", "red", "--output", str(tmp_path / "m.mp4")])
