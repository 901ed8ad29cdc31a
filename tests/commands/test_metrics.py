"""``vrwkv metrics`` on a run, and on two clips."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.checkpoint.vision_models import PROJECTED, save_clip, save_dino
from tests.commands.tiny import decode
from tests.evaluation.clips import frozen, moving, write
from vrwkv_jax.commands.metrics import main
from vrwkv_jax.evaluation import measure as measuring
from vrwkv_jax.evaluation.figures import TITLES
from vrwkv_jax.media.video import write_video
from vrwkv_jax.runs import own
from vrwkv_jax.runs.directory import RUN
from vrwkv_jax.system.errors import UserError


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> list[str]:
    """Flags that name tiny models."""
    root = tmp_path_factory.mktemp("weights")
    save_clip(root / "clip")
    save_dino(root / "dino")
    torch.save({"weight": torch.ones(1, PROJECTED), "bias": torch.ones(1)}, root / "head.pth")
    named = {"--clip": root / "clip", "--dino": root / "dino", "--aesthetic": root / "head.pth"}
    return [word for flag, path in named.items() for word in (flag, str(path))]


@pytest.fixture
def clips(tmp_path) -> tuple[str, str]:
    source, edit = tmp_path / "source.mov", tmp_path / "edit.mov"
    return str(write(source, moving(5))), str(write(edit, frozen(moving(5))))


def test_a_run(own_run, weights, capsys):
    edits = sorted((own_run / "edits").glob("edit-*.mp4"))
    width, height = 24, 16
    free = np.zeros((3, height, width, 3), np.uint8)
    free[:, :, :12] = 255
    write_video(own_run / "edits" / edits[1].name.replace("edit", "mask", 1), free, 8)  # as a run with --mask has it
    main([str(own_run), *weights])
    out = capsys.readouterr().out
    written = json.loads((own_run / "clip_metrics.json").read_text())
    assert out.endswith(f"\nwrote {own_run / 'clip_metrics.json'}\n")
    assert (written["frames"], written["width"], written["height"]) == (3, 24, 16)
    assert written["source"] == str(own_run / "source.mp4") and written["source_prompt"] == "a red disc"
    assert [edit["prompt"] for edit in written["edits"]] == ["a blue disc", "Ein grüner Ball / on sand?"]
    assert [edit["edit"] for edit in written["edits"]] == list(map(str, edits))
    first, second = written["edits"]
    assert set(first["skipped"]) - {"warp_error"} == {"kept_psnr", "kept_ssim"} and first["mask"] is None
    assert not set(second["skipped"]) - {"warp_error"} and second["mask"].endswith("mask-2-ein-gr-ner-ball-on-sand.mp4")
    source, edit = (np.stack(decode(path)).astype(float) for path in (own_run / "source.mp4", edits[1]))
    error = np.mean((edit - source)[:, :, 12:] ** 2)
    assert second["figures"]["kept_psnr"]["edit"] == pytest.approx(10 * np.log10(255**2 / error), abs=0.5)  # decoders
    assert {"python", "jax", "opencv-python-headless", "av"} <= set(written["versions"]) and written["date"]
    assert first["figures"]["flicker"]["difference"] == pytest.approx(
        first["figures"]["flicker"]["edit"] - first["figures"]["flicker"]["source"]
    )
    for edit in written["edits"]:
        assert f"edit {edit['edit']}: {edit['prompt']}" in out
        assert edit["figures"].keys() | edit["skipped"].keys() == TITLES.keys()
    assert not own.strange(own_run, RUN)  # the file is one of a run, which --overwrite may replace

    main([str(own_run), str(edits[0]), "--prompt", "a blue disc"])
    assert "wrote" not in capsys.readouterr().out


def test_two_clips(clips, capsys, tmp_path):
    target = tmp_path / "figures.json"
    mask = tmp_path / "keep.png"
    Image.new("L", (60, 45), 255).save(mask)
    main([*clips, "--prompt", "a jeep", "--keep", str(mask), "--json", str(target)])
    out = capsys.readouterr().out.splitlines()
    assert out[0] == f"source {clips[0]}: 5 frames of 60x45, " + (
        "no cuts" if measuring.opencv() else "cuts not looked for"
    )
    assert out[2:4] == [f"edit {clips[1]}: a jeep", f"{'':45} {'edit':>9} {'source':>9} {'difference':>10}"]
    figures = json.loads(target.read_text())["edits"][0]["figures"]
    flicker = figures["flicker"]["source"]
    assert f"{'flicker (of 255)':45} {0:9.4f} {flicker:9.4f} {-flicker:+10.4f}" in out
    assert figures["difference_correlation"] == {"edit": 0.0}
    assert figures["kept_psnr"]["edit"] < 30
    assert "CLIP text alignment: skipped, name the weights of CLIP with --clip" in out


def test_the_table_is_as_wide_as_its_titles():
    assert max(map(len, TITLES.values())) == 45


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["{source}"], "EDIT is missing: give the edited clip behind its source {source}, or the directory of a run"),
        (["{folder}"], "{folder} is a folder and no run that python -m train.tune wrote: give a run, or a clip"),
        (["none", "{edit}"], "none is not there: check the name of the video file"),
        (["{source}", "{edit}", "--json", "{folder}/no/x.json"], "there is no folder {folder}/no: create it"),
        (["{source}", "{edit}", "--aesthetic", "{source}"], "{source} can't be read as weights"),
        (["{source}", "{edit}", "--clip", "{folder}"], "{folder}/config.json is missing"),
        (["{source}", "{edit}", "--keep", "none.png"], "mask none.png is not there"),
        (["{source}", "{edit}", "--dino", "none"], "there is no directory none; expected a DINO model in the layout"),
    ],
)
def test_mistakes(clips, tmp_path, argv, message):
    named = {"source": clips[0], "edit": clips[1], "folder": str(tmp_path)}
    with pytest.raises(UserError) as error:
        main([word.format(**named) for word in argv])
    assert message.format(**named) in str(error.value) and "\n" not in str(error.value)


def test_mistakes_with_runs(own_run):
    with pytest.raises(UserError, match=re.escape(f"--prompt is known of the edits of {own_run}: leave it out")):
        main([str(own_run), "--prompt", "x"])
    (own_run / "metrics.json").unlink()
    with pytest.raises(UserError, match=r"did not finish: resume it with --output .* --resume first"):
        main([str(own_run)])


def test_the_head_needs_clip(clips, weights):
    with pytest.raises(UserError, match="--aesthetic scores the image features of CLIP: name its weights with --clip"):
        main([*clips, *weights[-2:]])


def test_a_run_without_edits(own_run):
    config = own_run / "config.yaml"
    config.write_text(re.sub(r"(?m)^edit_prompts:\n(^[- ].*\n)+", "edit_prompts: []\n", config.read_text()))
    with pytest.raises(UserError, match="has no edits: name an edited clip behind it"):
        main([str(own_run)])


def test_as_a_module(clips):
    done = subprocess.run(
        [sys.executable, "-m", "vrwkv_jax.metrics", *clips],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr
    assert "flicker, edit / source" in done.stdout
