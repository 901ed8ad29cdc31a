"""The pictures of docs/controls.md: each has its flags, and the page shows them all."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.control_pictures import PICTURES, parse, save
from tests.small import clip
from vrwkv_jax import built_in
from vrwkv_jax.config import parse_edit_command
from vrwkv_jax.config.schema import SMALL

PAGE = Path(__file__).parents[2] / "docs/controls.md"


def test_the_page_shows_each():
    assert sorted(re.findall(r"\(controls/([a-z-]+)\.webp\)", PAGE.read_text())) == sorted(PICTURES)
    assert sorted(path.stem for path in PAGE.with_suffix("").glob("*.webp")) == sorted(PICTURES)
    assert parse(["run"]).only == list(PICTURES)


def test_flags_are_those_of_the_command():
    """And each edit differs from the one that it stands beside."""
    config = replace(SMALL, prompt=built_in.PROMPT)
    for name, picture in PICTURES.items():
        edits = [
            parse_edit_command(["run", "--prompt", picture.prompt, *flags.split()], lambda directory: config)
            for flags in (picture.flags, picture.beside)
        ]
        assert edits[0].applied_to(config) != edits[1].applied_to(config), name


def test_panels_lie_beside_each_other(tmp_path):
    frames = clip(5)
    save(tmp_path / "one.webp", [frames, 255 - frames])
    with Image.open(tmp_path / "one.webp") as picture:
        assert picture.n_frames == 5 and picture.size == (2 * 24 + 4, 16)
        picture.seek(3)
        shown = np.asarray(picture.convert("RGB")).astype(int)
    assert np.abs(shown[:, :24] - frames[3]).mean() < 12  # compressed
    assert np.abs(shown[:, 28:] - (255 - frames[3])).mean() < 12
