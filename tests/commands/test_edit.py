"""``vrwkv edit``: the clip of a run, edited again."""

import json

import numpy as np
import pytest
from PIL import Image

from tests.commands.tiny import decode
from vrwkv_jax import load_run
from vrwkv_jax.commands import edit
from vrwkv_jax.commands.edit import main as edit_main
from vrwkv_jax.media.video import write_video
from vrwkv_jax.system.errors import UserError


def test_editing_again_gives_the_same_edit_and_leaves_the_run_alone(own_run):
    before = {path: path.read_bytes() for path in own_run.rglob("*") if path.is_file()}
    edit_main([str(own_run), "--prompt", "a blue disc"])
    assert {path: path.read_bytes() for path in before} == before
    again = own_run / "edits-2" / "edit-1-a-blue-disc.mp4"
    assert again.read_bytes() == (own_run / "edits" / again.name).read_bytes()


def test_bi_wkv_by_another_implementation(run_directory, tmp_path, capsys):
    """The run says what has made it, and what it has tuned serves another."""
    metrics = json.loads((run_directory / "metrics.json").read_text())
    assert (metrics["bi_wkv"], metrics["dtype"], metrics["remat"]) == ("scan", "float32", False)
    kept = load_run(run_directory).config
    assert (kept.bi_wkv, kept.tuning.dtype, kept.tuning.remat) == ("auto", "float32", False)
    edit_main([str(run_directory), "--prompt", "a blue disc", "--bi-wkv", "reference", "--output", str(tmp_path / "e")])
    assert "Bi-WKV by reference" in capsys.readouterr().err
    name = "edit-1-a-blue-disc.mp4"
    frames = [np.array(decode(directory / name), float) for directory in (tmp_path / "e", run_directory / "edits")]
    assert np.abs(frames[0] - frames[1]).mean() < 1


def test_another_format(run_directory, tmp_path):
    """Of the same edit."""
    output = tmp_path / "elsewhere"
    edit_main([str(run_directory), "--prompt", "a blue disc", "--format", "png", "--output", str(output)])
    assert {path.name for path in output.iterdir()} >= {"edit-1-a-blue-disc", "side_by_side", "contact_sheet.png"}
    assert not list(output.glob("*.mp4"))
    png = [np.array(Image.open(path)) for path in sorted((output / "edit-1-a-blue-disc").iterdir())]
    write_video(tmp_path / "same.mp4", np.stack(png), 5)
    assert (tmp_path / "same.mp4").read_bytes() == (run_directory / "edits" / "edit-1-a-blue-disc.mp4").read_bytes()


def test_editing_with_other_settings(run_directory, tmp_path):
    output = tmp_path / "elsewhere"
    flags = ["--guidance-scale", "9", "--num-inference-steps", "3", "--output", str(output)]
    edit_main([str(run_directory), "--prompt", "a blue disc", *flags])
    edit = output / "edit-1-a-blue-disc.mp4"
    assert edit.read_bytes() != (run_directory / "edits" / edit.name).read_bytes()
    assert (output / "side_by_side.mp4").is_file()


def test_edits_that_are_made_at_once_go_to_different_places(own_run, monkeypatch):
    """The second starts, and ends, while the first is at work; what has failed leaves nothing."""
    before = {path.name for path in own_run.iterdir()}
    make_edits, begun = edit.make_edits, []

    def make(*args):
        begun.append(None)
        if len(begun) == 1:
            edit_main([str(own_run), "--prompt", "the second"])
        if len(begun) == 3:
            raise KeyboardInterrupt
        return make_edits(*args)

    monkeypatch.setattr(edit, "make_edits", make)
    edit_main([str(own_run), "--prompt", "the first"])
    with pytest.raises(KeyboardInterrupt):
        edit_main([str(own_run), "--prompt", "the third"])
    first, second = sorted(path for path in own_run.iterdir() if path.name not in before)
    assert (first / "edit-1-the-first.mp4").is_file() and (second / "edit-1-the-second.mp4").is_file()
    assert len(list(first.iterdir())) == len(list(second.iterdir())) == 5


@pytest.mark.parametrize("kind", ["picture", "clip"])
def test_a_mask_of_the_user_s_restrains_the_edit(kind, run_directory, tmp_path):
    """Bright on the right half: there the clip changes, the left is what the VAE gives back."""
    bright = np.zeros((8, 32, 48, 3), np.uint8)
    bright[:, :, 24:] = 255
    path = tmp_path / ("mask.png" if kind == "picture" else "mask.mp4")
    if kind == "picture":
        Image.fromarray(bright[0]).save(path)
    else:
        write_video(path, bright, fps=10)
    strong = ["--guidance-scale", "200", "--output", str(tmp_path / "out")]
    edit_main([str(run_directory), "--prompt", "a blue disc", "--mask", str(path), *strong])
    white = np.float32(decode(tmp_path / "out" / "mask-1-a-blue-disc.mp4"))
    assert white[:, :, 12:].min() > 200 and white[:, :, :10].max() < 50
    masked = np.float32(decode(tmp_path / "out" / "edit-1-a-blue-disc.mp4"))
    source = np.float32(decode(run_directory / "source.mp4"))
    left, right = (slice(None), slice(None), slice(0, 8)), (slice(None), slice(None), slice(16, None))
    changed = np.abs(masked - source)
    assert changed[right].mean() > 10 and changed[left].mean() < 0.5 * changed[right].mean()
    with pytest.raises(UserError, match=r"nowhere\.png"):
        edit_main([str(run_directory), "--prompt", "x", "--mask", str(tmp_path / "nowhere.png")])


def test_a_mistake_in_controls_is_found_before_another_inversion(run_directory, tmp_path, monkeypatch):
    monkeypatch.setattr("vrwkv_jax.commands.edit.invert_and_reconstruct", None)
    flags = ["--num-inference-steps", "3", "--reweight", "cat=2", "--output", str(tmp_path / "edits")]
    with pytest.raises(UserError, match="--reweight 'cat=2' names a word of no prompt"):
        edit_main([str(run_directory), "--prompt", "a blue disc", *flags])
    assert not list(tmp_path.iterdir())
