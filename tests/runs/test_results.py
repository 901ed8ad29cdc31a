"""What is looked at before the long work: a mask says what was understood, and what allows nothing is refused."""

import re
import warnings
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from tests.runs.runs import Told
from vrwkv_jax import Editor
from vrwkv_jax.config import ClipConfig, ControlConfig, EditConfig, TuneConfig, VideoConfig
from vrwkv_jax.editing.edit import Edit
from vrwkv_jax.editing.inversion import Inversion
from vrwkv_jax.media.video import write_video
from vrwkv_jax.runs import results
from vrwkv_jax.runs.results import check_edits, make_edits
from vrwkv_jax.system.errors import UserError


@pytest.fixture(scope="module")
def editor(tiny_checkpoint):
    return Editor.from_pretrained(tiny_checkpoint, video=VideoConfig(mixer="none"))


def settings(mask, video=None, **clip):
    clip = ClipConfig(**{"frames": 4, "stride": 1, "width": 16, "height": 16, "video": video} | clip)
    return TuneConfig(prompt="x", edit_prompts=("y",), clip=clip, controls=ControlConfig(mask=str(mask)))


def save(path, levels):
    Image.fromarray(np.asarray(levels, np.uint8)).save(path)
    return path


def test_what_was_understood_is_told(editor, tmp_path):
    mask, told = np.zeros((16, 16)), list[str]()
    mask[:4] = 255
    path = save(tmp_path / "mask.png", mask)
    places = check_edits(editor, settings(path), told.append)
    assert places[:, :4].all() and not places[:, 4:].any()
    assert told == [f"mask {path}: what is brighter than half may change, 25.0% of the clip"]


def test_frames_in_which_nothing_may_change_are_told(editor, tmp_path):
    frames, told = np.zeros((4, 16, 16, 3), np.uint8), list[str]()
    frames[2:] = 255
    write_video(tmp_path / "mask.mp4", frames)
    check_edits(editor, settings(tmp_path / "mask.mp4"), told.append)
    assert told[0].endswith("may change, 50.0% of the clip; in 2 of its 4 frames nothing")


@pytest.mark.parametrize("level", [0, 255])
def test_a_mask_that_selects_nothing_or_everything(editor, tmp_path, level):
    path = save(tmp_path / "mask.png", np.full((16, 16), level))
    if level:
        with pytest.warns(UserWarning, match=r"mask\.png lets everything change: what is brighter .*, and that is all"):
            assert check_edits(editor, settings(path)).all()
    else:
        with pytest.raises(UserError, match=r"mask\.png lets nothing change: what is brighter .*, and there is none"):
            check_edits(editor, settings(path))


@pytest.mark.parametrize(
    ("shape", "clip", "misfit"),
    [
        ((18, 32), {}, False),  # of the source
        ((16, 16), {}, False),  # of the clip
        ((24, 32), {}, True),
        ((24, 32), {"fit": "stretch"}, False),  # then both are stretched, whatever their proportions
    ],
)
def test_a_mask_of_other_proportions(editor, tmp_path, shape, clip, misfit):
    write_video(tmp_path / "source.mp4", np.zeros((4, 36, 64, 3), np.uint8))
    mask = np.zeros(shape)
    mask[:, : shape[1] // 2] = 255
    config = settings(save(tmp_path / "mask.png", mask), str(tmp_path / "source.mp4"), **clip)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        check_edits(editor, config)
    sentences = [str(warning.message) for warning in told]
    assert len(sentences) == misfit
    assert not misfit or "mask.png has the proportions 1.33:1, the clip 1.78:1: its middle is used" in sentences[0]


@pytest.mark.parametrize(
    ("frames", "misfit"), [(20, False), (19, False), (10, True), (40, True), (4, False), (1, False)]
)
@pytest.mark.parametrize("suffix", ["mp4", "gif"])
def test_a_mask_of_another_number_of_frames(editor, tmp_path, suffix, frames, misfit):
    """Such as of half the frame rate: its frames are those of other moments."""
    write_video(tmp_path / "source.mp4", np.zeros((20, 16, 16, 3), np.uint8))
    mask = np.zeros((frames, 16, 16, 3), np.uint8)
    for index, frame in enumerate(mask):
        frame[:, : 4 + 4 * (index % 2)] = 255
    if suffix == "mp4":
        write_video(tmp_path / "mask.mp4", mask)
    else:
        first, *others = map(Image.fromarray, mask)
        first.save(tmp_path / "mask.gif", save_all=True, append_images=others)
    config = settings(tmp_path / f"mask.{suffix}", str(tmp_path / "source.mp4"))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        check_edits(editor, config)
    said = f"has {frames} frames, the clip 20: each is taken .*; make as many, or 4, one for each"
    assert [bool(re.search(said, str(warning.message))) for warning in told] == [True] * misfit


def test_the_bar_of_an_edit_counts_the_steps_that_are_sampled(editor, monkeypatch):
    told = Told()
    monkeypatch.setattr(results, "edit_once", lambda *_: Edit(np.zeros((1, 16, 16, 3), np.uint8)))
    inversion = Inversion(np.zeros((11, 1, 2, 2, 4), np.float32), "x", 10)
    clip = ClipConfig(frames=1, stride=1, width=16, height=16)
    config = TuneConfig(prompt="x", edit_prompts=("y",), clip=clip, controls=ControlConfig())
    config = replace(config, editing=EditConfig(strength=0.4))
    make_edits(editor, inversion, config, reporter=told)
    assert told.stages == [("edit 1", 4, 0)]
