"""What flags may say, and what is said of their mistakes."""

import dataclasses
import os
import re
import shlex
import threading

import pytest

from tests.config.settings import SECTIONS, UNUSUAL
from vrwkv_jax.config import (
    ClipConfig,
    EditCommand,
    EditConfig,
    TuneConfig,
    VideoConfig,
    load_yaml,
    parse_edit_command,
    parse_tune_config,
    save_yaml,
)
from vrwkv_jax.config.editing import PRESETS
from vrwkv_jax.config.schema import SMALL, WORDS_AND_FEATURES, with_preset
from vrwkv_jax.models.mixers.vrwkv import VRWKVConfig
from vrwkv_jax.system.checks import FieldErrors
from vrwkv_jax.system.errors import UserError


def balanced(config: TuneConfig) -> TuneConfig:
    return with_preset(config, "balanced", is_small=config.model is None, is_long=config.long_video.long is not None)


def test_the_defaults_depend_on_whether_a_model_is_named(write):
    assert parse_tune_config([]) == balanced(SMALL)
    assert parse_tune_config(["--model", "sd"]) == balanced(TuneConfig(model="sd"))
    named, nameless = write("model: sd\nclip: {frames: 3}"), "clip: {frames: 3}"
    assert parse_tune_config(["--config", str(named)]) == balanced(TuneConfig(model="sd", clip=ClipConfig(frames=3)))
    expected = dataclasses.replace(balanced(SMALL), clip=dataclasses.replace(SMALL.clip, frames=3))
    assert parse_tune_config(["--config", str(write(nameless))]) == expected


def test_a_resumed_run_is_the_default():
    """Whatever a flag does not say is as in the run; without --resume nobody asks for it."""
    run = TuneConfig(model="sd", prompt="a man", edit_prompts=("a fox",), seed=5, resume=True)
    asked = []

    def unfinished(output: str) -> TuneConfig:
        asked.append(output)
        return run

    flags = ["--resume", "--output=runs/ski", "--steps", "7"]
    config = parse_tune_config(flags, unfinished)
    assert asked == ["runs/ski"]
    tuning = dataclasses.replace(run.tuning, steps=7)
    assert config == dataclasses.replace(run, output="runs/ski", tuning=tuning)
    assert parse_tune_config(["--output", "runs/ski"], unfinished) == balanced(
        dataclasses.replace(SMALL, output="runs/ski")
    )
    assert asked == ["runs/ski"]


def test_a_preset_stands_for_the_flags_that_it_is_made_of(write):
    """They come before other flags, and in the place of what a file or a run says."""

    def steps(argv, **options):
        editing = parse_tune_config(argv, **options).editing
        return editing.num_inference_steps, editing.guidance_interval[1] < 1, editing.guidance_scale

    costs = {name: steps(["--preset", name]) for name in PRESETS}
    assert costs["quality"] == (20, True, 3.0)
    assert costs["fast"][0] < costs["balanced"][0] <= 20 and costs["balanced"] == steps([])
    assert {name: steps(["--model", "sd", "--preset", name])[0] for name in PRESETS} == {
        name: round(2.5 * usual) for name, (usual, *_) in costs.items()
    }
    assert steps(["--preset", "fast", "--num-inference-steps", "9"])[0] == 9
    path = write("model: sd\nediting: {num_inference_steps: 7, guidance_scale: 2}")
    assert steps(["--config", str(path)])[0] == 7
    assert steps(["--config", str(path), "--preset", "quality"]) == (50, True, 2.0)
    run = dataclasses.replace(
        SMALL, editing=dataclasses.replace(SMALL.editing, num_inference_steps=3, guidance_scale=5.0)
    )
    resumed = ["--resume", "--output=runs/ski"]
    assert steps(resumed, unfinished=lambda output: run) == (3, False, 5.0)
    assert steps([*resumed, "--preset", "quality"], unfinished=lambda output: run) == (20, True, 5.0)
    again = {name: parse_edit_command(["runs/ski", "--preset", name], lambda output: run).editing for name in PRESETS}
    assert {name: editing.num_inference_steps for name, editing in again.items()} == {
        name: usual for name, (usual, *_) in costs.items()
    }
    assert parse_edit_command(["runs/ski"], lambda output: run).editing == run.editing


def test_a_preset_of_a_long_clip_allows_what_it_can():
    for name in PRESETS:
        editing = parse_tune_config(["--long", "stream", "--preset", name]).editing
        assert (editing.inversion_tolerance, editing.cache_interval) == (0.0, 1)
        assert editing.num_inference_steps == parse_tune_config(["--preset", name]).editing.num_inference_steps


def test_flags_override_the_file_which_overrides_the_defaults(write):
    path = write(
        "model: sd\nprompt: a man\nedit_prompts: [a fox, a cat]\noverwrite: true\n"
        "clip: {frames: 5, width: 64}\ntuning: {remat: true, steps: 9}"
    )
    file = balanced(load_yaml(TuneConfig, path))
    assert parse_tune_config(["--config", str(path)]) == file
    flags = ["--width", "72", "--no-remat", "--lr", "1e-3", "--placement", "mid", "transformer", "--decay_norm", "9"]
    config = parse_tune_config([*flags, f"--config={path}", "--edit-prompt", "an owl"])
    assert config == dataclasses.replace(
        file,
        edit_prompts=("an owl",),
        clip=dataclasses.replace(file.clip, width=72),
        tuning=dataclasses.replace(file.tuning, remat=False, learning_rate=1e-3),
        video_model=VideoConfig(placement=("mid", "transformer"), vrwkv=VRWKVConfig(decay_norm=9)),
    )


def test_settings_that_have_moved_are_read_with_a_word_of_where_they_are_now(write):
    path = write("video_model: {token_order: joint, placement: [mid]}")
    with pytest.warns(UserWarning) as said:
        config = parse_tune_config(["--config", str(path)])
    assert [str(warning.message) for warning in said] == [
        f"{path}: `video_model.token_order` is now `video_model.vrwkv.token_order`: write it there"
    ]
    assert config.video_model == VideoConfig(placement=("mid",), vrwkv=VRWKVConfig(token_order="joint"))


def test_a_flag_by_its_name_in_an_earlier_version_says_its_name_now():
    for flags in (["--mixers", "0.5"], ["--mixers=0.5"]):
        with pytest.warns(UserWarning) as said:
            command = parse_edit_command(["runs/ski", *flags], lambda run: TuneConfig())
        assert [str(warning.message) for warning in said] == ["--mixers is now --mixer-keys: write that"]
        assert command.controls.mixer_keys == 0.5


def test_the_file_may_be_a_pipe_of_the_shell(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_text, args=("model: sd\nseed: 3",))
    writer.start()
    assert parse_tune_config(["--config", str(tmp_path / "pipe")]) == balanced(TuneConfig(model="sd", seed=3))
    writer.join()


@pytest.mark.parametrize("before", [True, False, "auto"])
@pytest.mark.parametrize(
    ("flags", "remat"),
    [
        ("--remat", True),
        ("--remat --steps 3", True),
        ("--no-remat", False),
        ("--no-remat --steps 3", False),
        ("--remat auto", "auto"),
        ("--remat true", True),
        ("--remat=false", False),
    ],
)
def test_remat_with_and_without_a_value(flags, remat, before, write):
    path = write(f"model: sd\ntuning: {{remat: {str(before).lower()}}}")
    assert load_yaml(TuneConfig, path).tuning.remat == before
    assert parse_tune_config(["--config", str(path), *flags.split()]).tuning.remat == remat
    assert parse_tune_config(["--config", str(path)]).tuning.remat == before


def test_frames_are_counted_or_chosen_by_times(tmp_path):
    config = parse_tune_config(["--video", "a.mp4", "--start", "1.5s", "--stride", "3", "--frames", "all"])
    assert (config.clip.start, config.clip.stride, config.clip.frames) == ("1.5s", 3, "all")
    save_yaml(config, tmp_path / "a.yaml")
    assert load_yaml(TuneConfig, tmp_path / "a.yaml") == config
    assert parse_tune_config(["--config", str(tmp_path / "a.yaml"), "--start", "7"]).clip.start == 7
    with pytest.raises(UserError) as caught:
        parse_tune_config(["--start", "1.5", "--stride", "0s", "--frames", "-3"])
    assert sorted(str(caught.value).split("; ")) == [
        "--frames -3 is not at least 1",
        "--start '1.5' is neither a number of frames nor a time: write 12 or 1.5s",
        "--stride '0s' is not above 0s",
    ]


def test_flags_repeat_and_have_aliases():
    config = parse_tune_config(["--edit-prompt", "a", "--learning-rate", "2", "--edit-prompt", "b c"])
    assert (config.edit_prompts, config.tuning.learning_rate) == (("a", "b c"), 2.0)


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--widht", "8"], ["--widht", "--width INT"]),
        (["--edit-promt", "a"], ["--edit-promt", "--edit-prompt TEXT"]),
        (["--width", "wide"], ["--width", "'wide'"]),
        (["--fit", "cropp"], ["--fit", "'cropp'", "'crop',", "'stretch'"]),
        (["--placement", "mid", "bottom"], ["--placement", "'bottom'", "'skip'", "'mid'"]),
        (["--decay-norm", "lenght"], ["--decay-norm", "'lenght'", "{length,none}|INT"]),
        (["--remat", "maybe"], ["--remat", "maybe", "auto", "true", "false"]),
        (["--config"], ["Missing value", "'--config'"]),
        (["fox"], ["fox"]),
    ],
)
def test_flag_that_cannot_be_read(argv, said, capsys):
    with pytest.raises(SystemExit) as caught:
        parse_tune_config(argv)
    assert caught.value.code == 2
    message = capsys.readouterr().err
    assert all(part in message for part in said), message


def test_every_flag_that_is_not_allowed_is_named():
    """Across the sections, each by the name it was given by."""
    argv = ["--width", "500", "--steps", "-1", "--lr", "nan", "--seed", "-1", "--placement", "skip", "skip"]
    with pytest.raises(UserError) as caught:
        parse_tune_config([*argv, "--edit-prompt", " "])
    assert sorted(str(caught.value).split("; ")) == [
        "--edit-prompt (' ',) is wrong: ' ' is empty",
        "--lr nan is not a finite number",
        "--placement ('skip', 'skip') names 'skip' twice: once is enough",
        "--seed -1 is not between 0 and 4294967295",
        "--steps -1 is not at least 0",
        "--width 500 is not a multiple of 8: use 496 or 504",
    ]
    with pytest.raises(FieldErrors):  # the checks are back
        ClipConfig(width=500)


def test_help_has_sections_defaults_and_a_line_for_every_field(capsys, write):
    with pytest.raises(SystemExit) as caught:
        parse_tune_config(["--help"])
    assert caught.value.code == 0
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for part in ("python -m train.tune", "--config FILE", "clip options", "tuning options", "editing options"):
        assert part in text
    for cls in (TuneConfig, *SECTIONS.values()):
        for field in dataclasses.fields(cls):
            flag = {"edit_prompts": "edit-prompt"}.get(field.name, field.name.replace("_", "-"))
            assert dataclasses.is_dataclass(field.type) or f"--{flag}" in text
    assert text.count("(default: ") + text.count("(not set)") == len(names_with_default())
    assert "None" not in text
    assert "The mixer fluencyve, a reading of its paper: no code is published." in text
    with pytest.raises(SystemExit):
        parse_tune_config(["--config", str(write("clip: {frames: 77}")), "--help"])
    assert "(default: 77)" in capsys.readouterr().out


def names_with_default() -> list[str]:
    """Flags whose help ends in a default: those beside the settings, and every setting, but for repeatable ones."""
    fields = [field for cls in (TuneConfig, *SECTIONS.values()) for field in dataclasses.fields(cls)]
    names = [field.name for field in fields if not dataclasses.is_dataclass(field.type)]
    return ["config", "batch", "preset", *(name for name in names if name not in ("edit_prompts", "lora", "embedding"))]


def test_the_home_directory_is_where_it_stands_for(write, tmp_path, monkeypatch):
    """Shells leave "~" as it is in --output=~/x, and in a file."""
    monkeypatch.setenv("HOME", str(tmp_path))
    write("model: ~/sd\noutput: ~/runs/a\nclip: {video: ~/clip.mp4}\ncontrols: {mask: ~/mask.png}").rename(
        tmp_path / "a"
    )
    config = parse_tune_config(["--config=~/a"])
    found = (config.model, config.output, config.clip.video, config.controls.mask)
    assert found == tuple(f"{tmp_path}/{name}" for name in ("sd", "runs/a", "clip.mp4", "mask.png"))
    asked = []
    flags = ["~/run", "--model=~/sd", "--output=~/edits", "--mask=~/mask.png"]
    command = parse_edit_command(flags, lambda run: asked.append(run) or TuneConfig())
    found = (command.run, command.model, command.output, command.controls.mask)
    assert found == tuple(f"{tmp_path}/{name}" for name in ("run", "sd", "edits", "mask.png")) and asked == [found[0]]
    parse_tune_config(["--output=~/run", "--resume"], lambda output: asked.append(output) or TuneConfig())
    assert asked[1] == f"{tmp_path}/run"
    with pytest.raises(
        UserError, match=r"^--output ~no-such-user/x begins with ~, .*: write ./~no-such-user/x if you mean it$"
    ):
        parse_tune_config(["--output=~no-such-user/x"])


@pytest.mark.parametrize("name", ["$SCRATCH", "${SCRATCH}"])
def test_a_variable_that_no_shell_has_replaced_makes_no_directory_of_its_name(name, write, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = write(f"output: {name}/a")
    with pytest.raises(UserError, match=rf"^--output {re.escape(name)}/a begins with .* or \./{re.escape(name)}/a if"):
        parse_tune_config([f"--config={path}"])
    with pytest.raises(UserError, match="begins with"):
        parse_edit_command(["run", "--output", name], lambda run: TuneConfig())
    assert parse_tune_config(["--output", f"./{name}/a"]).output == f"./{name}/a"
    (tmp_path / name).mkdir()
    assert parse_tune_config([f"--config={path}"]).output == f"{name}/a"


# The edit command


def test_edit_command():
    argv = shlex.split(
        "runs/ski --prompt a --prompt 'b c' --guidance-scale 0 --num-inference-steps 4 --eta 1 --seed 0 --output o"
    )
    command = parse_edit_command([*argv, "--negative-prompt", "", "--features", "0.3"], lambda run: TuneConfig())
    assert command == EditCommand(
        run="runs/ski",
        prompts=("a", "b c"),
        negative_prompt="",
        seed=0,
        output="o",
        editing=EditConfig(guidance_scale=0.0, num_inference_steps=4, eta=1.0),
        controls=dataclasses.replace(WORDS_AND_FEATURES, features=0.3),
    )


def test_edit_command_changes_what_it_gives_and_nothing_else():
    asked = []

    def configuration(run: str) -> TuneConfig:
        asked.append(run)
        return UNUSUAL

    command = parse_edit_command(["runs/ski"], configuration)
    assert asked == ["runs/ski"] and command.applied_to(UNUSUAL) == UNUSUAL
    flags = [
        "--prompt",
        "x",
        "--negative-prompt",
        "",
        "--guidance-scale",
        "2",
        "--eta",
        "0.25",
        "--mixer-keys",
        "0",
        "--seed",
        "0",
        "--bi-wkv",
        "scan",
    ]
    command = parse_edit_command(["runs/ski", *flags], configuration)
    assert command.applied_to(UNUSUAL) == dataclasses.replace(
        UNUSUAL,
        edit_prompts=("x",),
        negative_prompt="",
        seed=0,
        bi_wkv="scan",
        editing=dataclasses.replace(UNUSUAL.editing, guidance_scale=2.0, eta=0.25),
        controls=dataclasses.replace(UNUSUAL.controls, mixer_keys=0.0),
    )


def test_edit_command_without_a_run(capsys):
    with pytest.raises(SystemExit) as caught:
        parse_edit_command(["--prompt", "a"], lambda run: UNUSUAL)
    assert caught.value.code == 2
    assert "RUN" in capsys.readouterr().err


def test_edit_command_with_a_value_that_is_not_allowed():
    with pytest.raises(UserError, match=r"^--eta 2.0 is not between 0 and 1; --prompt \('',\) is wrong: '' is empty$"):
        parse_edit_command(["runs/ski", "--eta", "2", "--prompt", ""], lambda run: TuneConfig())


@pytest.mark.parametrize("flag", ["--video", "--output", "--model", "--prompt", "--edit-prompt", "--negative-prompt"])
def test_what_is_not_utf8_is_refused(flag):
    with pytest.raises(UserError, match=rf"{flag} .*caf\\udce9.* is not UTF-8, in which settings are kept"):
        parse_tune_config([flag, "caf\udce9.mp4"])
