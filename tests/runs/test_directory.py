"""A run's directory knows its files, whoever asks."""

from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from vrwkv_jax.media.formats import Format, write_clip
from vrwkv_jax.runs import own
from vrwkv_jax.runs.directory import EDITED, RUN, EditsDirectory, RunDirectory


def test_every_file_that_it_names_is_its_own(tmp_path):
    """What has a property is known as what a run wrote: it is replaced with the run, and nothing is strange."""
    run, again = RunDirectory(tmp_path), RunDirectory(tmp_path).edits_again(2)
    clips = [edit for edits in (run.edits, again) for edit in edits.edits(["a red jeep", "雪"]).values()]
    files = [run.config, run.log, run.metrics, run.source, run.sample(20, ".mp4"), run.results / f"{'0' * 32}.npz"]
    files += [*clips, *map(again.mask, clips), run.edits.side_by_side, again.contact_sheet, again.lock]
    for file in [*files, run.events.with_name(f"{run.events.name}.out.tfevents.1"), tmp_path / ".lock"]:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    assert own.strange(tmp_path, RUN) == [] and own.strange(again.path, EDITED) == []
    assert [clip.name for clip in clips[:2]] == ["edit-1-a-red-jeep.mp4", "edit-2.mp4"]
    own.remove(tmp_path, RUN)
    assert not tmp_path.exists()


@pytest.mark.parametrize("format", get_args(Format))
def test_clips_of_every_format_are_its_own(tmp_path, format):
    edits = EditsDirectory(tmp_path / "edits-2", format)
    edits.path.mkdir()
    clips = [*edits.edits(["a red jeep", "雪"]).values(), edits.side_by_side]
    for clip in clips:
        write_clip(clip, np.zeros((2, 16, 16, 3), np.uint8), 8, format)
    for clip in clips[:2]:
        edits.mask(clip).touch()
    suffix = "" if format == "png" else f".{format}"
    assert [clip.name for clip in clips] == [
        f"{name}{suffix}" for name in ("edit-1-a-red-jeep", "edit-2", "side_by_side")
    ]
    assert [edits.mask(clip).name for clip in clips[:2]] == ["mask-1-a-red-jeep.mp4", "mask-2.mp4"]
    killed = edits.path / f".{'0' * 32}.part"
    killed.mkdir()
    (killed / "00000.png").touch()
    assert own.strange(tmp_path, RUN) == [] and own.strange(edits.path, EDITED) == []
    own.remove(tmp_path, RUN)
    assert not tmp_path.exists()


def test_edits_that_were_interrupted_are_nobody_else_s(tmp_path):
    edits = EditsDirectory(tmp_path)
    assert not edits.is_taken() and not edits.is_unfinished()
    edits.side_by_side.touch()
    assert edits.is_taken()
    edits.unfinished.mkdir()
    assert not edits.is_taken() and not edits.is_unfinished()
    (edits.unfinished / "thesis.txt").touch()
    assert edits.is_taken()


def test_a_name_that_is_all_ending_replaces_nothing(tmp_path):
    assert RunDirectory(tmp_path / ".new").replaced is None
    assert RunDirectory(Path("runs/jeep")).replacement == RunDirectory(Path("runs/jeep.new"))
