"""Clips and pictures as HTML for notebooks: what is in it can be decoded again."""

from base64 import b64decode
from dataclasses import replace
from html.parser import HTMLParser
from io import BytesIO

import av
import numpy as np
from PIL import Image

from tests.small import clip
from vrwkv_jax.config import TuneConfig
from vrwkv_jax.editing.edit import Edit
from vrwkv_jax.media import inline
from vrwkv_jax.media.formats import write_clip
from vrwkv_jax.media.inline import losses_html, show, show_pictures, video_html
from vrwkv_jax.media.video import write_video
from vrwkv_jax.runs.directory import RunDirectory
from vrwkv_jax.runs.run import FinishedRun
from vrwkv_jax.tuning.run import Run


class Tags(HTMLParser):
    def __init__(self, html):
        super().__init__()
        self.found, self.text = [], ""
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text += data


def embedded(html, tag):
    """The bytes in the first such tag."""
    source = next(attributes["src"] for name, attributes in Tags(html).found if name == tag)
    kind, data = source.split(";base64,")
    assert kind == {"video": "data:video/mp4", "img": "data:image/png"}[tag]
    return BytesIO(b64decode(data, validate=True))


def decoded(html):
    with av.open(embedded(html, "video")) as file:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]), file.streams[
            0
        ].average_rate


def test_a_clip():
    frames, fps = decoded(show(clip(5), fps=12)._repr_html_())
    assert frames.shape == (5, 16, 24, 3) and fps == 12
    assert np.abs(frames.astype(int) - clip(5)).mean() < 5  # compressed


def test_clips_side_by_side():
    frames, _ = decoded(show({"source": clip(3), "an <edit>": clip(3)}).html)
    assert frames.shape[0] == 3 and frames.shape[2] > 2 * 256  # both enlarged


def test_pictures():
    picture = Image.open(embedded(show_pictures({"one": clip()[0], "two": clip()[1]}).html, "img"))
    assert picture.height > 2 * 16


def test_a_large_file_is_named_in_its_place(tmp_path, monkeypatch):
    path = tmp_path / "<b>.mp4"
    write_video(path, clip())
    assert decoded(video_html(path))[0].shape[0] == 3
    monkeypatch.setattr(inline, "LARGEST", path.stat().st_size - 1)
    assert Tags(video_html(path)).found == [("p", {})] and Tags(video_html(path)).text == str(path)


def test_what_the_library_gives_shows_itself(tmp_path):
    frames, _ = decoded(Edit(clip(4))._repr_html_())
    assert frames.shape == (4, 16, 24, 3)
    run = Run(TuneConfig(prompt="a <jeep>"), {}, [{"step": 1, "loss": 0.5}, {"step": 2, "loss": 0.25}])
    assert Image.open(embedded(run._repr_html_(), "img")).size == (960, 540)
    assert losses_html([], []) == "<p>no steps of tuning</p>"

    directory = RunDirectory(tmp_path)
    finished = FinishedRun(run.config, {}, run.log, directory, None, {})
    html = finished._repr_html_()
    assert "a &lt;jeep&gt;" in html and "<jeep>" not in html
    assert [tag for tag, _ in Tags(html).found] == ["p", "img"]  # edits are not there
    directory.edits.path.mkdir()
    write_video(directory.edits.side_by_side, clip(5))
    assert decoded(finished._repr_html_())[0].shape[0] == 5

    as_gif = replace(run.config, editing=replace(run.config.editing, format="gif"))
    write_clip(directory.edits_in("gif").side_by_side, clip(5), 8, "gif")
    html = FinishedRun(as_gif, {}, run.log, directory, None, {})._repr_html_()
    assert [tag for tag, _ in Tags(html).found] == ["p", "img", "img"] and "data:image/gif;base64," in html
