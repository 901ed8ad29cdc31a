"""The commands, from flags to files: a whole run, editing again, and what a user's mistake ends in."""

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from tests.small import clip
from vrwkv_jax import Editor, load_run
from vrwkv_jax.commands import edit
from vrwkv_jax.commands.cli import run_cli
from vrwkv_jax.commands.edit import main as edit_main
from vrwkv_jax.commands.tune import main as tune_main
from vrwkv_jax.config import TuneConfig, save_yaml
from vrwkv_jax.media.video import write_video
from vrwkv_jax.runs import own
from vrwkv_jax.runs.claim import claimed, free_directory, put_in_place
from vrwkv_jax.runs.directory import RUN
from vrwkv_jax.system.errors import UserError

pytestmark = pytest.mark.usefixtures("quick_compilation")

TINY = ["--frames", "3", "--width", "24", "--height", "16", "--steps", "2", "--num-inference-steps", "2"]
PROMPTS = ["--prompt", "a red disc", "--edit-prompt", "a blue disc", "--edit-prompt", "Ein grüner Ball / on sand?"]


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("videos") / "disc.mp4"
    write_video(path, clip(8, 48, 32), fps=10)
    return path


@pytest.fixture(scope="module")
def run_directory(tmp_path_factory, video, checkpoint) -> Path:
    directory = tmp_path_factory.mktemp("runs") / "disc"
    source = ["--model", str(checkpoint), "--video", str(video), "--stride", "2", "--start", "1"]
    tune_main([*TINY, *PROMPTS, *source, "--output", str(directory), "--train", "all"])
    return directory


def decode(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def test_a_run_holds_what_the_readme_says(run_directory):
    edits = {path.name for path in (run_directory / "edits").iterdir()}
    names = {"edit-1-a-blue-disc.mp4", "edit-2-ein-gr-ner-ball-on-sand.mp4", "side_by_side.mp4", "contact_sheet.png"}
    assert edits == names
    files = {path.name for path in run_directory.iterdir()}
    expected = {"config.yaml", "tuned", "trajectory.npy", "edits", "source.mp4", "reconstruction.mp4", "loss.png"}
    assert files == expected | {"log.jsonl", "metrics.json", "tensorboard", ".vrwkv-jax"}
    assert own.strange(run_directory, RUN) == []
    for path in run_directory.rglob("*.mp4"):
        frames = decode(path)
        assert len(frames) == 3 and np.ptp(frames[0]) > 20, path
    for name, least in {"loss.png": 300, "edits/contact_sheet.png": 3 * 24}.items():
        with Image.open(run_directory / name) as picture:
            assert picture.size[0] > least
    with av.open(str(run_directory / "source.mp4")) as container:
        assert float(container.streams.video[0].average_rate) == 5  # every second frame of 10 a second


def test_metrics_and_log(run_directory):
    metrics = json.loads((run_directory / "metrics.json").read_text())
    assert 0 < metrics["reconstruction_psnr_db"] <= metrics["autoencoder_psnr_db"] + 1
    assert metrics["tuned_parameters"] == metrics["all_parameters"] > 1_000_000
    assert {"load", "tuning", "inversion and reconstruction", "edits"} <= metrics["seconds"].keys()
    assert metrics["versions"]["jax"] and metrics["device"]
    log = [json.loads(line) for line in (run_directory / "log.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in log] == [1, 2]
    names = "loss grad_norm param_norm update_norm learning_rate gains_learning_rate seconds memory_bytes"
    assert all(entry[name] > 0 for entry in log for name in names.split())
    assert metrics["provenance"]["clip_sha256"] and len(metrics["provenance"]["weights_sha256"]) == 3


def test_a_finished_run_comes_back(run_directory):
    run = load_run(run_directory)
    assert run.config.prompt == "a red disc" and run.config.clip.frames == 3
    assert run.inversion.latents.shape == (1, 3, 4, 6, 4) and run.inversion.num_inference_steps == 2
    editor = run.editor()
    for path, leaf in run.params.items():
        np.testing.assert_array_equal(editor.unet.params[path], leaf)


def test_editing_again_gives_the_same_edit_and_leaves_the_run_alone(run_directory):
    before = {path: path.read_bytes() for path in run_directory.rglob("*") if path.is_file()}
    edit_main([str(run_directory), "--prompt", "a blue disc"])
    assert {path: path.read_bytes() for path in before} == before
    again = run_directory / "edits-2" / "edit-1-a-blue-disc.mp4"
    assert again.read_bytes() == (run_directory / "edits" / again.name).read_bytes()


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


def test_bi_wkv_that_cannot_run_here_is_said_before_anything_is_loaded(run_directory, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(Editor, "from_pretrained", None)
    for command in (
        lambda: tune_main([*TINY, "--bi-wkv", "mosaic", "--output", str(tmp_path / "run")]),
        lambda: edit_main([str(run_directory), "--prompt", "a", "--bi-wkv", "mosaic", "--output", str(tmp_path / "e")]),
    ):
        assert run_cli(command) == 2
        said = capsys.readouterr().err
        assert said.startswith("error: --bi-wkv mosaic: ") and "NVIDIA GPU" in said and said.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_editing_with_other_settings(run_directory, tmp_path):
    output = tmp_path / "elsewhere"
    flags = ["--guidance-scale", "9", "--num-inference-steps", "3", "--output", str(output)]
    edit_main([str(run_directory), "--prompt", "a blue disc", *flags])
    edit = output / "edit-1-a-blue-disc.mp4"
    assert edit.read_bytes() != (run_directory / "edits" / edit.name).read_bytes()
    assert (output / "side_by_side.mp4").is_file()


def test_edits_that_are_made_at_once_go_to_different_places(run_directory, monkeypatch):
    """The second starts, and ends, while the first is at work; what has failed leaves nothing."""
    before = {path.name for path in run_directory.iterdir()}
    make_edits, begun = edit.make_edits, []

    def make(*args):
        begun.append(None)
        if len(begun) == 1:
            edit_main([str(run_directory), "--prompt", "the second"])
        if len(begun) == 3:
            raise KeyboardInterrupt
        return make_edits(*args)

    monkeypatch.setattr(edit, "make_edits", make)
    edit_main([str(run_directory), "--prompt", "the first"])
    with pytest.raises(KeyboardInterrupt):
        edit_main([str(run_directory), "--prompt", "the third"])
    first, second = sorted(path for path in run_directory.iterdir() if path.name not in before)
    assert (first / "edit-1-the-first.mp4").is_file() and (second / "edit-1-the-second.mp4").is_file()
    assert len(list(first.iterdir())) == len(list(second.iterdir())) == 3


def test_an_output_that_is_taken_is_kept(run_directory, tmp_path):
    with pytest.raises(UserError, match=r"is not empty: name another directory, or .* --overwrite"):
        tune_main([*TINY, "--output", str(run_directory)])
    with pytest.raises(UserError, match="already and not empty"):
        edit_main([str(run_directory), "--prompt", "x", "--output", str(run_directory)])


@pytest.fixture
def interrupted_tuning(monkeypatch):
    """Tuning that ends after one step, as by Ctrl-C."""

    def tune(editor, clip, prompt, config, *, start, callback, keep, say):
        callback(step=1, loss=0.5, grad_norm=0.25, seconds=2.0)
        raise KeyboardInterrupt

    monkeypatch.setattr("vrwkv_jax.runs.resumable.tune", tune)


def test_an_interrupted_run_keeps_its_log_and_can_be_replaced(interrupted_tuning, tmp_path):
    output = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        tune_main([*TINY, "--output", str(output)])
    assert (output / "config.yaml").is_file()
    entry = json.loads((output / "log.jsonl").read_text())
    assert entry["step"] == 1 and entry["loss"] == 0.5 and entry["memory_bytes"] > 1e6
    with pytest.raises(UserError, match=r"an unfinished run, stopped before .* --resume, .* replace .* --overwrite"):
        tune_main([*TINY, "--output", str(output)])
    with pytest.raises(KeyboardInterrupt):
        tune_main([*TINY, "--output", str(output), "--overwrite"])


def test_a_new_run_offers_to_go_on_with_an_unfinished_one(interrupted_tuning, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("small-clip", "small-clip-2"):
        capsys.readouterr()
        with pytest.raises(KeyboardInterrupt):
            tune_main(TINY)
        assert Path("runs", name, "config.yaml").is_file()
    offer = "runs/small-clip holds an unfinished run, .*: to go on with it, use --output runs/small-clip --resume"
    assert re.match(offer, capsys.readouterr().err)


def test_a_run_stays_whole_until_its_replacement_is(interrupted_tuning, run_directory):
    before = {path: path.read_bytes() for path in run_directory.rglob("*") if path.is_file()}
    for _ in range(2):  # the second time, what the first left is in the way
        with pytest.raises(KeyboardInterrupt):
            tune_main([*TINY, "--output", str(run_directory), "--overwrite"])
    assert {path: path.read_bytes() for path in run_directory.rglob("*") if path.is_file()} == before


def test_a_replacement_takes_the_place(tmp_path):
    config = TuneConfig(output=str(tmp_path / "run"), overwrite=True)
    for prompt in ("first", "second"):
        directory = free_directory(config)
        with claimed(directory, config) as working:
            save_yaml(dataclasses.replace(config, prompt=prompt), working.config)
            put_in_place(working, directory)
        assert [path.name for path in tmp_path.iterdir()] == ["run"]
        assert f"prompt: {prompt}" in directory.config.read_text()


@pytest.mark.parametrize("command", ["tune", "edit"])
def test_an_output_that_cannot_be_made_is_refused_before_the_work(command, run_directory, tmp_path, monkeypatch):
    monkeypatch.setattr(Editor, "from_pretrained", None)
    (tmp_path / "file").write_text("")
    flags = ["--output", str(tmp_path / "file" / "run")]
    with pytest.raises(UserError, match=r"can't be made: .*file is a file"):
        tune_main([*TINY, *flags]) if command == "tune" else edit_main([str(run_directory), "--prompt", "x", *flags])


def test_a_run_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match=r"nowhere is not there; expected the directory of a run"):
        edit_main([str(tmp_path / "nowhere"), "--prompt", "x"])


def test_a_run_that_did_not_finish_cannot_be_edited(run_directory, tmp_path):
    (tmp_path / "config.yaml").write_bytes((run_directory / "config.yaml").read_bytes())
    with pytest.raises(UserError, match=r"did not finish: it has no tuned, trajectory.npy, log.jsonl, metrics.json"):
        edit_main([str(tmp_path), "--prompt", "x"])


@pytest.fixture
def mistakes(tmp_path, checkpoint, video) -> dict[str, tuple[list[str], str]]:
    """Name -> flags and the error they end in."""
    text = tmp_path / "text.mp4"
    text.write_text("this is no video")
    truncated = tmp_path / "truncated"
    for path in checkpoint.rglob("*"):
        copy = truncated / path.relative_to(checkpoint)
        copy.parent.mkdir(parents=True, exist_ok=True)
        if path.is_file():
            copy.write_bytes(path.read_bytes())
    weights = truncated / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:10_000])
    prompt = ["--prompt", "a disc"]
    edit = ["--model", str(checkpoint), "--video", str(video), *prompt, "--edit-prompt", "a ball"]
    return {
        "missing video": (["--video", "nowhere.mp4", *prompt], r"nowhere\.mp4"),
        "text for a video": (["--video", str(text), *prompt], r"text\.mp4"),
        "too few frames": (["--video", str(video), *prompt, "--frames", "5", "--stride", "3"], r"8 frames"),
        "no frames": (["--frames", "0"], r"--frames 0 is not at least 1"),
        "width": (["--width", "500"], r"--width 500 is not a multiple of 8: use 496 or 504"),
        "no prompt": (["--video", str(video)], r"--prompt is missing"),
        "missing model": (["--model", "nowhere/at/all"], r"no checkpoint directory nowhere/at/all"),
        "no checkpoint": (["--model", str(tmp_path)], r"no Stable Diffusion checkpoint: it has no unet"),
        "model is a file": (["--model", str(text)], r"is a file; expected a checkpoint directory"),
        "truncated weights": (["--model", str(truncated)], r"unet/diffusion_pytorch_model\.safetensors"),
        "missing configuration": (["--config", "nowhere.yaml"], r"nowhere\.yaml does not exist"),
        "word to reweight": ([*edit, "--reweight", "cat=2"], r"--reweight 'cat=2' names a word of no prompt"),
        "layers": ([*edit, "--features", "0.5", "--feature-layers", "up"], r"--feature-layers 'up' is no place"),
        "missing mask": ([*edit, "--mask", "nowhere.png"], r"nowhere\.png"),
    }


def test_a_mistake_is_one_sentence_status_2_and_nothing_written(mistakes, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    for name, (flags, message) in mistakes.items():
        output = tmp_path / "output"
        small = TINY if "--frames" not in flags and "--width" not in flags else []
        status = run_cli(lambda flags=(*small, *flags, "--output", str(output)): tune_main(flags))
        stderr = capsys.readouterr().err
        assert status == 2, (name, stderr)
        assert re.fullmatch(rf"(loading [^\n]*\n)?error: [^\n]*{message}[^\n]*\n", stderr), (name, stderr)
        assert not output.exists(), name
    assert sorted(tmp_path.rglob("*")) == before


def test_a_long_prompt_is_cut_with_a_warning(checkpoint):
    from vrwkv_jax import Editor

    editor = Editor.from_pretrained(checkpoint)
    with pytest.warns(UserWarning, match=r"the prompt has \d+ tokens, 38 fit; cut off: '.*word"):
        editor.encode_prompts([" ".join(["word"] * 500)])


@pytest.mark.parametrize("module", ["train.tune", "vrwkv_jax.edit"])
def test_status_of_the_process(module, tmp_path):
    """The same from outside: status 2, one line on stderr, no traceback."""
    flags = ["--video", "nowhere.mp4", "--prompt", "x"] if module == "train.tune" else ["nowhere", "--prompt", "x"]
    done = subprocess.run([sys.executable, "-m", module, *flags], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    lines = [line for line in done.stderr.splitlines() if not line.startswith("loading ")]
    assert len(lines) == 1 and lines[0].startswith("error: ") and "nowhere" in lines[0]
    assert not list(tmp_path.iterdir())


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
    edit_main([str(run_directory), "--prompt", "a blue disc", "--mask", str(path), "--output", str(tmp_path / "out")])
    white = np.float32(decode(tmp_path / "out" / "mask-1-a-blue-disc.mp4"))
    assert white[:, :, 12:].min() > 200 and white[:, :, :10].max() < 50
    masked = np.float32(decode(tmp_path / "out" / "edit-1-a-blue-disc.mp4"))
    free = np.float32(decode(run_directory / "edits" / "edit-1-a-blue-disc.mp4"))
    source = np.float32(decode(run_directory / "source.mp4"))
    left, right = (slice(None), slice(None), slice(0, 8)), (slice(None), slice(None), slice(16, None))
    assert np.abs(masked[right] - source[right]).mean() > 10
    assert np.abs(masked[left] - source[left]).mean() < 0.5 * np.abs(free[left] - source[left]).mean()
    with pytest.raises(UserError, match=r"nowhere\.png"):
        edit_main([str(run_directory), "--prompt", "x", "--mask", str(tmp_path / "nowhere.png")])


def test_a_mistake_in_controls_is_found_before_another_inversion(run_directory, tmp_path, monkeypatch):
    monkeypatch.setattr("vrwkv_jax.commands.edit.invert_and_reconstruct", None)
    flags = ["--num-inference-steps", "3", "--reweight", "cat=2", "--output", str(tmp_path / "edits")]
    with pytest.raises(UserError, match="--reweight 'cat=2' names a word of no prompt"):
        edit_main([str(run_directory), "--prompt", "a blue disc", *flags])
    assert not list(tmp_path.iterdir())
