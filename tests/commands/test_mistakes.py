"""What a user's mistake ends in: one sentence, status 2, and nothing written."""

import re
import subprocess
import sys

import pytest

from tests.commands.tiny import TINY
from vrwkv_jax import Editor
from vrwkv_jax.commands.cli import run_cli
from vrwkv_jax.commands.edit import main as edit_main
from vrwkv_jax.commands.tune import main as tune_main
from vrwkv_jax.models.video_config import VideoConfig
from vrwkv_jax.system.errors import UserError


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


def test_a_run_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match=r"nowhere is not there; expected the directory of a run"):
        edit_main([str(tmp_path / "nowhere"), "--prompt", "x"])


def test_a_run_that_did_not_finish_cannot_be_edited(run_directory, tmp_path):
    (tmp_path / "config.yaml").write_bytes((run_directory / "config.yaml").read_bytes())
    with pytest.raises(UserError, match=r"did not finish: it has no tuned, trajectory.npy, log.jsonl, metrics.json"):
        edit_main([str(tmp_path), "--prompt", "x"])


@pytest.fixture
def mistakes(tmp_path, checkpoint, model, video) -> dict[str, tuple[list[str], str]]:
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
    edit = [*model, "--video", str(video), *prompt, "--edit-prompt", "a ball"]
    return {
        "missing video": (["--video", "nowhere.mp4", *prompt], r"nowhere\.mp4"),
        "text for a video": (["--video", str(text), *prompt], r"text\.mp4"),
        "too few frames": (["--video", str(video), *prompt, "--frames", "5", "--stride", "3"], r"8 frames"),
        "no frames": (["--frames", "0"], r"--frames 0 is not at least 1"),
        "width": (["--width", "500"], r"--width 500 is not a multiple of 8: use 496 or 504"),
        "no prompt": (["--video", str(video)], r"--prompt is missing"),
        "missing model": (["--model", "nowhere/at/all"], r"no checkpoint nowhere/at/all"),
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
        assert re.fullmatch(
            rf"(loading [^\n]*\n)?([^\n]* is edited at [^\n]*\n)?error: [^\n]*{message}[^\n]*\n", stderr
        ), (name, stderr)
        assert not output.exists(), name
    assert sorted(tmp_path.rglob("*")) == before


def test_a_long_prompt_is_cut_with_a_warning(checkpoint):
    editor = Editor.from_pretrained(checkpoint, video=VideoConfig(mixer="none"))
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
