"""The runs in a directory, whoever made them."""

import json

import numpy as np
import pytest
from PIL import Image

from tests.small import clip
from vrwkv_jax.config import ClipConfig, TuneConfig, save_yaml
from vrwkv_jax.media.formats import write_clip
from vrwkv_jax.media.video import read_video, write_video
from vrwkv_jax.runs import own
from vrwkv_jax.runs.directory import ClipsDirectory
from vrwkv_jax.runs.lock import locked
from vrwkv_jax.studio.curve import loss_curve
from vrwkv_jax.studio.exports import FORMS, exported
from vrwkv_jax.studio.gallery import free_edits, free_name, loss_of, stored_run, stored_runs
from vrwkv_jax.studio.shown import caption, run_html
from vrwkv_jax.studio.thumbnails import thumbnail
from vrwkv_jax.system.errors import UserError

PROMPTS = ("a <b>blue</b> star", "night")
CONFIG = TuneConfig(prompt="a star", edit_prompts=PROMPTS, clip=ClipConfig(frames=3, width=24, height=16))


@pytest.fixture
def begun(places):
    """A run that has just begun."""
    path = places.runs / "star"
    path.mkdir()
    own.mark(path, own.TUNING)
    save_yaml(CONFIG, path / "config.yaml")
    return path


@pytest.fixture
def finished(begun):
    """The same when it is done, with edits that were made again, as GIF."""
    (begun / "metrics.json").write_text(json.dumps({"reconstruction_psnr_db": 30.04}))
    write_video(begun / "source.mp4", clip())
    for name in ("edits", "edits-2", "edits-10"):
        (begun / name).mkdir()
    for path in ClipsDirectory(begun / "edits").edits(PROMPTS).values():
        write_video(path, clip())
    write_clip(begun / "edits-10/edit-1-a-red-star.gif", clip(), 8, "gif")
    write_video(begun / "edits-2/edit-1.mp4", clip())
    return begun


def test_a_run_from_beginning_to_end(places, finished):
    run = stored_run(places, "star")
    assert run.is_finished and caption(run) == "star"
    assert [(edit.prompt, edit.clip.parent.name) for edit in run.edits()] == [
        ("a <b>blue</b> star", "edits"),
        ("night", "edits"),
        ("edit-1", "edits-2"),
        ("a red star", "edits-10"),
    ]
    assert free_edits(run) == finished / "edits-3"
    assert "30.0 dB" in run_html(run)


def test_an_unfinished_run(places, begun):
    (begun / "log.jsonl").write_text('{"step": 1, "loss": 0.5}\n{"step": 2, "loss": 0.25}\n{"step": 3, "lo')
    run = stored_run(places, "star")
    assert not run.is_finished and run.edits() == [] and caption(run) == "star · unfinished"
    assert loss_of(run.directory) == [(1, 0.5), (2, 0.25)]
    with locked(begun):
        assert caption(run) == "star · at work" and "at work" in run_html(run)


def test_what_is_no_run_is_left_out(places, begun, tmp_path):
    (places.runs / "notes").mkdir()
    (places.runs / "file").touch()
    (places.runs / "link").symlink_to(begun)
    assert [run.name for run in stored_runs(places)] == ["star"]
    (begun / "config.yaml").write_text("clip: [")
    assert stored_runs(places) == []


@pytest.mark.parametrize("name", ["../star", "star/../star", "/etc", ".", "", None, ".studio", "uploads"])
def test_names_are_looked_up_and_not_joined(places, begun, name):
    with pytest.raises(UserError, match="there is no run"):
        stored_run(places, name)


def test_free_names(places, begun):
    assert free_name(places, "Star").name == "star-2"
    (places.runs / "star-2.new").mkdir()  # of a run that is to replace it
    assert free_name(places, "star").name == "star-3"
    assert free_name(places, "../é").name == "run"


def test_what_people_wrote_is_escaped(places, begun):
    save_yaml(TuneConfig(prompt="<script>alert(1)</script>"), begun / "config.yaml")
    html = run_html(stored_run(places, "star"))
    assert "<script" not in html and "&lt;script&gt;" in html


@pytest.mark.parametrize("form", FORMS)
def test_exports(places, finished, form, tmp_path):
    """Whatever the form, the frames are those of the clip: to GIF's colours, and exactly to lossless ones."""
    edit = stored_run(places, "star").edits()[0]
    file = exported(edit.clip, (24, 16), form, places.cache)
    assert exported(edit.clip, (24, 16), form, places.cache) == file  # and not made again
    frames = read_video(edit.clip, frames=3, width=24, height=16)
    if form == "PNG frames":
        import zipfile

        zipfile.ZipFile(file).extractall(tmp_path / "out")
        [file] = (tmp_path / "out").iterdir()
    found = read_video(file, frames=3, width=24, height=16).astype(int)
    off = np.abs(found - frames).mean()
    assert off == 0 if form != "GIF" else off < 8


def test_a_form_that_is_not_there(places, finished):
    edit = stored_run(places, "star").edits()[0]
    with pytest.raises(UserError, match="choose mp4, GIF"):
        exported(edit.clip, (24, 16), "../x", places.cache)


def test_thumbnails(places, finished):
    with Image.open(thumbnail(stored_run(places, "star"), places.cache)) as picture:
        assert picture.size == (320, 160)


def test_a_run_with_nothing_to_see(places, begun):
    with Image.open(thumbnail(stored_run(places, "star"), places.cache)) as picture:
        assert picture.size == (320, 160)


def test_loss_curve():
    assert loss_curve([], 10) == "" and loss_curve([(1, float("nan"))], 10) == ""
    drawn = loss_curve([(1, 0.5), (2, 0.25)], 10)
    raw = drawn.split('class="raw" points="')[1].split('"')[0].split()
    (x1, y1), (x2, y2) = (map(float, point.split(",")) for point in raw)
    assert x2 - x1 == pytest.approx((420 - 44 - 8) / 10, abs=0.1)  # a tenth of the axis
    assert y1 == pytest.approx(10) and y2 == pytest.approx((10 + 150 - 22) / 2)  # the top, and half way down
    assert "loss 0.333 after 2 steps" in drawn  # (0.5 / 2 + 0.25) / (1 / 2 + 1)
