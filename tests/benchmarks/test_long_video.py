"""The benchmark of long video: films as clips, methods as settings, and what is printed of the rows."""

import numpy as np
import pytest

from benchmarks.long_video.__main__ import table
from benchmarks.long_video.methods import KEYFRAMES, METHODS, STREAMED, configured, measure, true_edits
from vrwkv_jax.config import parse_tune_config
from vrwkv_jax.runs.long.clip import FilmClip
from vrwkv_jax.world.film import random_film


def film(frames: int = 11):
    return random_film(np.random.default_rng(2), frames, shot_frames=(3, 5))


def test_a_film_is_a_clip():
    clip, pictures = FilmClip(film(), 64, 64), np.stack([picture for picture, _ in film().pictures(64)])
    np.testing.assert_array_equal(np.concatenate(list(clip.chunks(4))), pictures)
    np.testing.assert_array_equal(np.concatenate(list(clip.chunks(4, 2))), pictures[8:])


def test_each_edit_changes_one_word():
    edits = true_edits(film(), np.random.default_rng(0))
    before = film().caption.split()
    assert list(edits) == ["colour", "shape", "background"]
    for kind in ("colour", "shape"):
        after = edits[kind].caption.replace("an orange", "a orange").split()
        assert sum(a != b for a, b in zip(before, after, strict=True)) in (1, 2)  # with the article
    assert edits["background"].caption.split()[:3] == before[:3]


@pytest.mark.parametrize("method", METHODS)
def test_methods_are_settings(method):
    config = configured(method, parse_tune_config(["--long", "stream", "--tuned-frames", "9"]))
    assert config.video_model.mixer == ("vrwkv" if method in STREAMED else "none")
    assert config.long_video.long == ("adaflow" if method in KEYFRAMES else "stream")
    assert config.video_model.vrwkv.decay_frames == 9
    assert (config.tuning.steps > 0) == (method in STREAMED)
    assert config.video_model.vrwkv.causal == (method == "causal")


def test_the_table_has_means():
    scores = {"colour": {"psnr": 20.0, "drift": None}, "shape": {"psnr": 24.0, "drift": None}}
    row = {"method": "adaflow", "frames": 240, "scores": scores, "peak_bytes": 2e9}
    row |= {"seconds_per_frame": {"inversion": 0.5, "edits": 0.25}}
    row |= {"keyframes": 4, "cuts": 2, "precision": 1 / 3, "recall": None}
    lines = table([row, row | {"method": "image", "peak_bytes": 1e9}]).splitlines()
    assert lines[1].split() == ["adaflow", "240", "22.000", "-", "0.750", "2.00"]
    assert "4 clips, 2 cuts: 33% of the clips begin at one, - found" in lines[3]


@pytest.mark.long
def test_a_small_film_by_one_method():
    flags = ["--num-inference-steps", "2", "--inversion-iterations", "1", "--chunk-frames", "4"]
    row = measure("image", 0, 9, (3, 5), parse_tune_config(["--long", "stream", *flags]))
    assert set(row["scores"]) == {"colour", "shape", "background"} and row["peak_bytes"] > 1e8
    assert all(0 <= scores["in_place"] <= 1 for scores in row["scores"].values())
    assert all(np.isfinite(scores["warp_error"]) for scores in row["scores"].values())
