"""The examples run from end to end, on a model that is as small as can be."""

import importlib.util
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from tests.small import clip
from vrwkv_jax.config import ControlConfig, TuneConfig, TuningConfig
from vrwkv_jax.media.video import read_video, write_video

EXAMPLES = Path(__file__).parents[1] / "examples"
WORDS = ControlConfig(cross_attention=0.6, replace_words=True)
FEATURES = replace(WORDS, features=0.6, feature_layers=("up_blocks/0",))


@pytest.fixture
def example(tmp_path, monkeypatch, tiny_checkpoint):
    """An example by its name, with other constants, in an empty directory."""

    def example(name: str, **constants) -> ModuleType:
        spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        for constant, value in constants.items():
            assert hasattr(module, constant), constant
            setattr(module, constant, value)
        return module

    monkeypatch.chdir(tmp_path)
    return example


def assert_clip(path: Path, frames: int, size: int) -> None:
    assert read_video(path, frames=frames, width=size, height=size).std() > 0


def test_each_is_tried_and_fits_a_screen():
    tried = {name.removeprefix("test_") for name in globals() if name.startswith("test_")}
    for path in EXAMPLES.iterdir():
        if path.suffix == ".py":
            assert path.stem in tried and len(path.read_text().splitlines()) <= 50, path


@pytest.mark.parametrize(
    "brought", [pytest.param(False, id="built-in", marks=pytest.mark.long), pytest.param(True, id="file")]
)
def test_edit_a_clip(example, tiny_checkpoint, brought, capsys):
    if brought:
        write_video("clip.mp4", clip(4, 32, 32), fps=10)
    example(
        "edit_a_clip",
        MODEL=tiny_checkpoint,
        VIDEO="clip.mp4" if brought else None,
        FRAMES=2,
        SIZE=16,
        CONFIG=TuneConfig(tuning=TuningConfig(steps=2)),
        CONTROLS=WORDS,
        INFERENCE_STEPS=2,
    ).main()
    output = Path("runs/example-clip")
    assert_clip(output / "edited.mp4", 2, 16)
    assert (output / "contact_sheet.png").is_file()
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()[:2]] == ["step 1", "step 2"]


@pytest.mark.long
def test_edit_again(example, tiny_checkpoint, capsys):
    flags = ["--model", str(tiny_checkpoint), "--prompt", "a red disc", "--frames", "2", "--width", "16"]
    flags += ["--height", "16", "--steps", "1", "--num-inference-steps", "2", "--placement", "mid", "--features", "0"]
    module = example("edit_again", SMALL_RUN=flags)
    for _ in range(2):  # the second finds the run of the first
        module.main()
        assert "step 2 of 2, noise level " in capsys.readouterr().out
        assert_clip(Path("runs/example-run-again.mp4"), 2, 16)


def test_controls(example, tiny_checkpoint):
    example("controls", MODEL=tiny_checkpoint, FRAMES=2, SIZE=16, INFERENCE_STEPS=2, CONTROLS=FEATURES).main()
    assert Path("runs/example-controls/side_by_side.mp4").is_file()
