"""What is filled in on the page gives the command that somebody would type."""

from pathlib import Path

import pytest

from vrwkv_jax import built_in
from vrwkv_jax.config import TuneConfig, parse_edit_command, parse_tune_config
from vrwkv_jax.config.flags import defaults
from vrwkv_jax.studio.forms import EditAgain, NewRun, checked_model, edit_words, lines_of, stride_of, tune_words
from vrwkv_jax.studio.uploads import UploadedClip
from vrwkv_jax.system.errors import UserError

CLIP = UploadedClip(Path("runs/uploads/jeep-run-12345678.mp4"), frames=100, fps=25.0, width=640, height=360)


def test_what_is_left_as_it_is_gives_the_defaults():
    config = NewRun().config()
    assert config == parse_tune_config(["--prompt", built_in.PROMPT, "--edit-prompt", built_in.EDIT_PROMPTS[0]])


def test_the_command_line_gives_the_same_configuration():
    form = NewRun(
        clip=CLIP,
        model="a/model",
        prompt=" a jeep ",
        edit_prompts="a red jeep\n\n a jeep in snow \na red jeep",
        negative_prompt="blurry",
        preset="fast",
        begin=1.0,
        end=3.0,
        frames=5.0,
        width=256.0,
        steps=7,
        seed=4,
        mixer="fluencyve",
        sample_every=3,
    )
    config = form.config("runs/jeep")
    assert parse_tune_config(tune_words(config)[1:]) == config
    assert (config.prompt, config.edit_prompts) == ("a jeep", ("a red jeep", "a jeep in snow"))
    assert (config.clip.start, config.clip.stride, config.clip.frames) == (25, 12, 5)
    assert config.editing == defaults("a/model", None, "fast").editing
    assert form.stem() == "jeep-run"


@pytest.mark.parametrize(
    ("form", "complaint"),
    [
        (NewRun(steps=-1, seed=-4), "tuning steps -1 is not at least 0; seed -4 is not between 0 and 4294967295"),
        (NewRun(width=33), "width 33 is not a multiple of 8: use 32 or 40"),
        (NewRun(frames=2.5), "2.5 is not a whole number"),
        (NewRun(frames=float("nan")), "nan is not a whole number"),
        (NewRun(preset="best"), "best is not a preset: choose quality, balanced, fast"),
        (NewRun(clip=CLIP, edit_prompts="x"), "the prompt is missing"),
        (NewRun(clip=CLIP, prompt="x"), "the edit prompts are missing"),
        (
            NewRun(clip=CLIP, begin=1, end=1.2),
            "from 1.00 s to 1.20 s there are 5 frames, and 8 frames with stride 1 need 8",
        ),
        (NewRun(clip=CLIP, stride=30), "8 frames with stride 30 need 211"),
    ],
)
def test_mistakes_are_sentences(form, complaint):
    with pytest.raises(UserError) as error:
        form.config()
    assert complaint in str(error.value)


@pytest.mark.parametrize("frames", [1, 2, 7, 50])
@pytest.mark.parametrize(("begin", "end"), [(0, 50), (3, 90)])
def test_frames_are_spread_over_the_trim(begin, end, frames):
    stride = stride_of(begin, end, frames)
    last = begin + (frames - 1) * stride
    assert last < end and (frames == 1 or last + frames - 1 >= end)  # a larger stride would lead beyond it


def test_another_edit():
    run = TuneConfig(prompt="a jeep", edit_prompts=("a red jeep",), seed=9)
    form = EditAgain(
        "snow", seed=3, eta=0.5, guidance_scale=2, controls={"features": 0.25, "blend": ("jeep",), "mask": None}
    )
    command = form.command("runs/jeep", run, "runs/jeep/edits-2")
    assert parse_edit_command(edit_words(command, run)[1:], lambda _: run) == command
    assert (command.prompts, command.seed, command.output) == (("snow",), 3, "runs/jeep/edits-2")
    assert (command.controls.features, command.controls.cross_attention) == (0.25, run.controls.cross_attention)
    with pytest.raises(UserError, match="the edit prompts are missing"):
        EditAgain(" \n").command("runs/jeep", run)
    with pytest.raises(UserError, match="features 2 is not between 0 and 1"):
        EditAgain("snow", controls={"features": 2}).command("runs/jeep", run)


def test_models(tmp_path):
    path = tmp_path / "model"
    path.mkdir()
    assert checked_model("", [], any_path=False) is None
    assert checked_model("owner/name", [], any_path=False) == "owner/name"
    assert checked_model(str(path), [], any_path=True) == str(path)
    assert checked_model(str(path), [str(path)], any_path=False) == str(path)
    for named in (str(path), "../x", "/etc/passwd", "tests/studio"):  # on a page that others see
        with pytest.raises(UserError, match="is not in the list"):
            checked_model(named, [], any_path=False)
    with pytest.raises(UserError, match="is not there"):
        checked_model("no/where/at/all", [], any_path=True)


def test_lines_of():
    assert lines_of(" a\n\nb \r\na") == ("a", "b")
