"""The configuration: what files and flags may say, and what is said of their mistakes."""

import dataclasses
import math
import shlex
import subprocess
import sys
from pathlib import Path
from typing import get_type_hints

import jaxtyping
import pytest
import yaml

from vrwkv_jax.checks import FieldErrors
from vrwkv_jax.config import (
    ClipConfig,
    EditCommand,
    EditConfig,
    TuneConfig,
    TuningConfig,
    VideoConfig,
    load_yaml,
    parse_edit_command,
    parse_tune_config,
    save_yaml,
)
from vrwkv_jax.config.foreign import RENAMED, WITHOUT_COUNTERPART
from vrwkv_jax.errors import UserError

SECTIONS = {"clip": ClipConfig, "video_model": VideoConfig, "tuning": TuningConfig, "editing": EditConfig}

# No value is its default.
UNUSUAL = TuneConfig(
    model="models/sd 1.5",
    prompt="a man: skiing # fast",
    edit_prompts=(
        "3e-5",
        "yes",
        "null",
        "12:30",
        "010",
        "2024-01-01",
        " two\nlines ",
        "'quoted\" ",
        "雪の上 🎿",
        "a " * 99,
    ),
    negative_prompt="~",
    output="runs/a b",
    overwrite=True,
    seed=2**32 - 1,
    clip=ClipConfig("clip.mp4", 5, 3, 1, 24, 40, "stretch"),
    video_model=VideoConfig("none", ("transformer",), "joint", "conv", 17, "local", "zero", True, "extended", "video"),
    tuning=TuningConfig(0, 1 / 3, 1e-20, "all", 0.0, 0.1 + 0.2, 0.0, 1e22, 7.0, "bfloat16", True),
    editing=EditConfig(1000, 0.0, "empty", 1.0, 12),
)


@pytest.fixture
def write(tmp_path):
    def write(text: str) -> Path:
        path = tmp_path / "file.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture
def complaint(write):
    """What a YAML file is told, without the file's name."""

    def complaint(text: str) -> str:
        path = write(text)
        with pytest.raises(UserError) as caught:
            load_yaml(TuneConfig, path)
        assert str(caught.value).startswith(str(path))
        return str(caught.value)[len(str(path)) :]

    return complaint


def test_flat_flags_are_unambiguous():
    names = [field.name for cls in (TuneConfig, *SECTIONS.values()) for field in dataclasses.fields(cls)]
    assert len(names) == len(set(names))


# Files


def test_unusual_config_has_no_default():
    """So that a field which the round trip loses is noticed."""
    for config in (UNUSUAL, *(getattr(UNUSUAL, section) for section in SECTIONS)):
        for field in dataclasses.fields(config):
            assert getattr(config, field.name) != getattr(type(config)(), field.name), field.name


@pytest.mark.parametrize("config", [TuneConfig(), UNUSUAL], ids=["default", "unusual"])
def test_round_trip(config, tmp_path):
    save_yaml(config, tmp_path / "config.yaml")
    assert load_yaml(TuneConfig, tmp_path / "config.yaml") == config


def test_saved_text_means_the_same_to_other_yaml_readers(tmp_path):
    save_yaml(UNUSUAL, tmp_path / "config.yaml")
    text = (tmp_path / "config.yaml").read_text(encoding="utf-8")
    assert "雪の上" in text  # readable, not escaped
    data = yaml.safe_load(text)
    assert tuple(data["edit_prompts"]) == UNUSUAL.edit_prompts
    assert data["clip"] == dataclasses.asdict(UNUSUAL.clip)
    assert data["tuning"] == dataclasses.asdict(UNUSUAL.tuning)


def test_file_leaves_the_rest_at_defaults(write):
    path = write(
        "prompt: 2024-01-01\nclip:\n# nothing set\ntuning: {learning_rate: 3e-5, mixer_lr_scale: 100, steps: 7}\n"
        "video_model: {placement: [mid, skip], decay_norm: 16}\nedit_prompts:\n  - no\n"
    )
    config = load_yaml(TuneConfig, path)
    assert config == TuneConfig(
        prompt="2024-01-01",
        edit_prompts=("no",),
        tuning=TuningConfig(steps=7, learning_rate=3e-5, mixer_lr_scale=100.0),
        video_model=VideoConfig(placement=("mid", "skip"), decay_norm=16),
    )
    assert type(config.tuning.mixer_lr_scale) is float


@pytest.mark.parametrize(
    ("written", "value"),
    [("3e-5", 3e-5), ("3E-5", 3e-5), ("1e1", 10.0), ("+2.5e+1", 25.0), (".5", 0.5), ("2.", 2.0), ("1", 1.0)],
)
def test_numbers(write, written, value):
    assert load_yaml(TuneConfig, write(f"tuning: {{learning_rate: {written}}}")).tuning.learning_rate == value


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("clip: {strid: 3}", ": `clip.strid` 3 is not a setting: did you mean `clip.stride`?"),
        ("promt: a man", ': `promt` "a man" is not a setting: did you mean `prompt`?'),
        ("frames: 8", ": `frames` 8 is in the wrong place: `frames` belongs under `clip`"),
        ("editing: {steps: 8}", ": `editing.steps` 8 is in the wrong place: `steps` belongs under `tuning`"),
        ("clip: {seed: 8}", ": `clip.seed` 8 is in the wrong place: `seed` belongs at the top, outside every section"),
        ("clip.stride: 3", ": `clip.stride` 3 is in the wrong place: `stride` belongs under `clip`"),
        ("guidance-scale: 3", ": `guidance-scale` 3 is not a setting: did you mean `editing.guidance_scale`?"),
        ("lr: 1e-4", ": `lr` 0.0001 is not a setting: did you mean `tuning.learning_rate`?"),
        ("edit_prompt: a", ': `edit_prompt` "a" is not a setting: did you mean `edit_prompts`?'),
        (
            "clip: {zzz: {a: 1}}",
            ": `clip.zzz` is not a setting: expected one of video, frames, start, stride, width, height, fit",
        ),
        ("tuning: {steps: true}", ": `tuning.steps` true is not a whole number"),
        ("tuning: {steps: 1.5}", ": `tuning.steps` 1.5 is not a whole number"),
        ("tuning: {steps: '8'}", ': `tuning.steps` "8" is not a whole number'),
        ("tuning: {steps: }", ": `tuning.steps` null is not a whole number"),
        ("tuning: {beta1: true}", ": `tuning.beta1` true is not a number"),
        ("tuning: {remat: 1}", ": `tuning.remat` 1 is not true or false"),
        ("overwrite: yes", ': `overwrite` "yes" is not true or false'),
        ("prompt: 8", ": `prompt` 8 is not text (put it in quotes)"),
        ("edit_prompts: a", ': `edit_prompts` "a" is not a list (put it in [ ])'),
        (
            "edit_prompts: [a, 8]",
            ': `edit_prompts` ["a", 8] is wrong: 8 is not text (put it in quotes)',
        ),
        ("clip: 8", ": `clip` 8 is not a section of `key: value` lines"),
        ("clip: {fit: cropp}", ': `clip.fit` "cropp" is not one of crop, stretch: did you mean crop?'),
        (
            "video_model: {decay_norm: lenght}",
            ': `video_model.decay_norm` "lenght" is not a whole number, and is not one of length, none: '
            "did you mean length?",
        ),
        (
            "video_model: {placement: [mid, bottom]}",
            ': `video_model.placement` ["mid", "bottom"] is wrong: "bottom" is not one of skip, mid, transformer',
        ),
        ("clip: {width: 500}", ": `clip.width` 500 is not a multiple of 8: use 496 or 504"),
        ("editing: {eta: .nan}", ": `editing.eta` NaN is not a finite number"),
        ("{a b}: 1", ", line 1 cannot be read as YAML: found unhashable key"),
        (
            "seed: 1\nclip: [\n\n",
            ", line 4 cannot be read as YAML: expected the node content, but found '<stream end>'",
        ),
        ("seed: 1\nprompt: a: b\n", ", line 2 cannot be read as YAML: mapping values are not allowed here"),
        ("seed: 1\nclip:\n  width: 8\n  width: 16\n", ", line 4 cannot be read as YAML: `width` is given twice"),
        ("", " holds no setting: write `key: value` lines, such as `seed: 33`"),
        ("# seed: 1", " holds no setting: write `key: value` lines, such as `seed: 33`"),
        ("- seed", " holds a list instead of settings: write `key: value` lines, such as `seed: 33`"),
        ("seed", " holds a str instead of settings: write `key: value` lines, such as `seed: 33`"),
        ("seed: &a [*a]", " is not a YAML file of plain settings: Circular reference detected"),
    ],
)
def test_mistake_in_file(complaint, text, said):
    assert complaint(text) == said


def test_every_mistake_is_listed(complaint):
    """Among them one (`width`) that stands in a section with a value of the wrong type and an unknown key."""
    lines = complaint(
        "seed: -1\nclip: {strid: 3, frames: true, width: 500}\nediting: {eta: 2, guidance_scale: -1}\nfps: 8"
    ).splitlines()
    assert lines[0] == " has 7 mistakes:"
    assert sorted(line.split("`")[1] for line in lines[1:]) == sorted(
        ["seed", "clip.strid", "clip.frames", "clip.width", "editing.eta", "editing.guidance_scale", "fps"]
    )


def test_long_value_is_cut(complaint):
    assert complaint(f"seed: {'long ' * 99}") == f': `seed` "{("long " * 99)[:56]}... is not a whole number'


def test_missing_file_and_directory(tmp_path):
    with pytest.raises(UserError, match=r"none\.yaml does not exist: give the path of a YAML file"):
        load_yaml(TuneConfig, tmp_path / "none.yaml")
    with pytest.raises(UserError, match=r"cannot be read \(Is a directory\)"):
        load_yaml(TuneConfig, tmp_path)


def test_file_that_is_no_text(tmp_path):
    (tmp_path / "clip.mp4").write_bytes(b"\x00\xff\xfe")
    with pytest.raises(UserError, match="is not a YAML file of plain settings"):
        load_yaml(TuneConfig, tmp_path / "clip.mp4")


# Tune-A-Video's files

TUNE_A_VIDEO = """
pretrained_model_path: "./checkpoints/stable-diffusion-v1-4"
output_dir: "./outputs/man-skiing"
train_data:
  video_path: "data/man-skiing.mp4"
  prompt: "a man is skiing"
  n_sample_frames: 24
  width: 512
  height: 512
  sample_start_idx: 0
  sample_frame_rate: 2
validation_data:
  prompts: ["mickey mouse is skiing on the snow"]
  video_length: 24
  num_inference_steps: 50
  guidance_scale: 12.5
  use_inv_latent: True
  num_inv_steps: 50
learning_rate: 3e-5
train_batch_size: 1
max_train_steps: 500
checkpointing_steps: 1000
validation_steps: 100
trainable_modules: ["attn1.to_q", "attn2.to_q", "attn_temp"]
seed: 33
mixed_precision: fp16
use_8bit_adam: False
gradient_checkpointing: True
enable_xformers_memory_efficient_attention: True
"""


def test_tune_a_video_file_is_translated_line_by_line(complaint):
    lines = complaint(TUNE_A_VIDEO).splitlines()
    assert lines[0] == " has 25 mistakes:"  # all but the two sections' names and `seed`
    for line in lines[1:]:
        assert "is Tune-A-Video's name: here it is `" in line or "is Tune-A-Video's and has no counterpart: " in line
    assert "  `train_data.n_sample_frames` 24 is Tune-A-Video's name: here it is `clip.frames`" in lines
    assert (
        "  `train_batch_size` 1 is Tune-A-Video's and has no counterpart: a step sees the one clip; remove it" in lines
    )


def test_unknown_key_of_tune_a_video(complaint):
    assert (
        complaint("train_data: {foo: 1}")
        == ": `train_data.foo` 1 is Tune-A-Video's: the nearest section here is `clip`"
    )


def test_translations_lead_to_settings():
    for theirs, text in RENAMED.items():
        section, _, key = text.split("`")[1].rpartition(".")
        assert key in get_type_hints(SECTIONS[section] if section else TuneConfig), theirs
    assert not RENAMED.keys() & WITHOUT_COUNTERPART.keys()
    assert not {*RENAMED, *WITHOUT_COUNTERPART} & set(get_type_hints(TuneConfig))


# Values


@pytest.mark.parametrize(
    ("cls", "values", "said"),
    [
        (ClipConfig, {"video": ""}, "video '' is empty"),
        (ClipConfig, {"frames": 0}, "frames 0 is not at least 1"),
        (ClipConfig, {"start": -1}, "start -1 is not at least 0"),
        (ClipConfig, {"stride": 0}, "stride 0 is not at least 1"),
        (ClipConfig, {"width": 500}, "width 500 is not a multiple of 8: use 496 or 504"),
        (ClipConfig, {"height": 4}, "height 4 is not a multiple of 8: use 8 or more"),
        (ClipConfig, {"height": 0}, "height 0 is not a positive multiple of 8: use 8 or more"),
        (ClipConfig, {"fit": "crop "}, "fit 'crop ' is not one of crop, stretch: did you mean crop?"),
        (ClipConfig, {"frames": "8"}, "frames '8' is of the wrong type (str)"),
        (ClipConfig, {"frames": 0, "width": 1}, "frames 0 is not at least 1; width 1 is not a multiple of 8: use 8 or"),
        (VideoConfig, {"mixer": "swin"}, "mixer 'swin' is not one of vrwkv, none"),
        (VideoConfig, {"placement": ()}, "placement () names no place: use skip, mid or transformer, or mixer none"),
        (VideoConfig, {"placement": ("mid", "mid")}, "placement ('mid', 'mid') names 'mid' twice: once is enough"),
        (VideoConfig, {"placement": ("midd",)}, "placement ('midd',) is wrong: 'midd' is not one of skip, mid, tran"),
        (VideoConfig, {"placement": "mid"}, "placement 'mid' is not a tuple: write ('mid',)"),
        (VideoConfig, {"token_order": "x"}, "token_order 'x' is not one of factorised, joint"),
        (VideoConfig, {"projection": "x"}, "projection 'x' is not one of linear, conv"),
        (VideoConfig, {"decay_norm": 0}, "decay_norm 0 is not at least 1"),
        (VideoConfig, {"decay_norm": "x"}, "decay_norm 'x' is not one of length, none"),
        (VideoConfig, {"init": "x"}, "init 'x' is not one of fancy, local, global"),
        (VideoConfig, {"first_frame": "x"}, "first_frame 'x' is not one of repeat, zero"),
        (VideoConfig, {"skip_gate": 1}, "skip_gate 1 is not True or False"),
        (VideoConfig, {"attention": "x"}, "attention 'x' is not one of frame, sparse_causal, extended"),
        (VideoConfig, {"groupnorm_scope": "x"}, "groupnorm_scope 'x' is not one of frame, video"),
        (TuningConfig, {"steps": -1}, "steps -1 is not at least 0"),
        (TuningConfig, {"learning_rate": 0.0}, "learning_rate 0.0 is not above 0"),
        (TuningConfig, {"learning_rate": math.nan}, "learning_rate nan is not a finite number"),
        (TuningConfig, {"mixer_lr_scale": -1.0}, "mixer_lr_scale -1.0 is not above 0"),
        (TuningConfig, {"train": "x"}, "train 'x' is not one of mixers, all"),
        (TuningConfig, {"weight_decay": -0.1}, "weight_decay -0.1 is not at least 0"),
        (TuningConfig, {"beta1": 1.0}, "beta1 1.0 is not between 0 and 0.999999"),
        (TuningConfig, {"beta2": -0.1}, "beta2 -0.1 is not between 0 and 0.999999"),
        (TuningConfig, {"epsilon": 0.0}, "epsilon 0.0 is not above 0"),
        (TuningConfig, {"max_grad_norm": math.inf}, "max_grad_norm inf is not a finite number"),
        (TuningConfig, {"dtype": "float16"}, "dtype 'float16' is not one of float32, bfloat16: did you mean bfloat16?"),
        (TuningConfig, {"remat": "no"}, "remat 'no' is not True or False"),
        (EditConfig, {"num_inference_steps": 0}, "num_inference_steps 0 is not between 1 and 1000"),
        (EditConfig, {"num_inference_steps": 1001}, "num_inference_steps 1001 is not between 1 and 1000"),
        (EditConfig, {"guidance_scale": -0.5}, "guidance_scale -0.5 is not at least 0"),
        (EditConfig, {"inversion_prompt": "x"}, "inversion_prompt 'x' is not one of source, empty"),
        (EditConfig, {"eta": 1.5}, "eta 1.5 is not between 0 and 1"),
        (EditConfig, {"fps": 0}, "fps 0 is not at least 1"),
        (TuneConfig, {"model": " "}, "model ' ' is empty"),
        (TuneConfig, {"prompt": ""}, "prompt '' is empty"),
        (TuneConfig, {"edit_prompts": "fox"}, "edit_prompts 'fox' is not a tuple: write ('fox',)"),
        (TuneConfig, {"edit_prompts": ("a", "")}, "edit_prompts ('a', '') is wrong: '' is empty"),
        (TuneConfig, {"negative_prompt": None}, "negative_prompt None is not text"),
        (TuneConfig, {"output": ""}, "output '' is empty"),
        (TuneConfig, {"overwrite": 1}, "overwrite 1 is not True or False"),
        (TuneConfig, {"seed": 2**32}, "seed 4294967296 is not between 0 and 4294967295"),
        (EditCommand, {"run": ""}, "run '' is empty"),
        (EditCommand, {"run": "r", "prompts": ("",)}, "prompts ('',) is wrong: '' is empty"),
        (EditCommand, {"run": "r", "guidance_scale": -1.0}, "guidance_scale -1.0 is not at least 0"),
        (EditCommand, {"run": "r", "num_inference_steps": 0}, "num_inference_steps 0 is not between 1 and 1000"),
        (EditCommand, {"run": "r", "eta": 1.5}, "eta 1.5 is not between 0 and 1"),
        (EditCommand, {"run": "r", "seed": -1}, "seed -1 is not between 0 and 4294967295"),
        (EditCommand, {"run": "r", "output": ""}, "output '' is empty"),
        (EditCommand, {"run": "r", "negative_prompt": 1}, "negative_prompt 1 is not text"),
    ],
)
def test_value_that_is_not_allowed(cls, values, said, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # outside of tests nobody else checks the type
    with pytest.raises(FieldErrors) as caught:
        cls(**values)
    assert str(caught.value).startswith(said)
    assert isinstance(caught.value, UserError)


# Flags


def test_no_flags_are_the_defaults():
    assert parse_tune_config([]) == TuneConfig()


def test_flags_override_the_file_which_overrides_the_defaults(write):
    path = write(
        "prompt: a man\nedit_prompts: [a fox, a cat]\noverwrite: true\n"
        "clip: {frames: 5, width: 64}\ntuning: {remat: true, steps: 9}"
    )
    file = load_yaml(TuneConfig, path)
    assert parse_tune_config(["--config", str(path)]) == file
    flags = ["--width", "72", "--no-remat", "--lr", "1e-3", "--placement", "mid", "transformer", "--decay_norm", "9"]
    config = parse_tune_config([*flags, f"--config={path}", "--edit-prompt", "an owl"])
    assert config == dataclasses.replace(
        file,
        edit_prompts=("an owl",),
        clip=dataclasses.replace(file.clip, width=72),
        tuning=dataclasses.replace(file.tuning, remat=False, learning_rate=1e-3),
        video_model=VideoConfig(placement=("mid", "transformer"), decay_norm=9),
    )


def test_flags_repeat_and_have_aliases():
    config = parse_tune_config(["--edit-prompt", "a", "--learning-rate", "2", "--edit-prompt", "b c"])
    assert (config.edit_prompts, config.tuning.learning_rate) == (("a", "b c"), 2.0)


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--widht", "8"], ["--widht", "--width INT"]),
        (["--edit-promt", "a"], ["--edit-promt", "--edit-prompt TEXT"]),
        (["--width", "wide"], ["--width", "'wide'"]),
        (["--fit", "cropp"], ["--fit", "'cropp'", "'crop', 'fit'"]),
        (["--placement", "mid", "bottom"], ["--placement", "'bottom'", "'skip'", "'mid'"]),
        (["--decay-norm", "lenght"], ["--decay-norm", "'lenght'", "{length,none}|INT"]),
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
            assert field.name in SECTIONS or f"--{flag}" in text
    assert text.count("(default: ") == len(names_with_default())
    with pytest.raises(SystemExit):
        parse_tune_config(["--config", str(write("clip: {frames: 77}")), "--help"])
    assert "Number of frames. (default: 77)" in capsys.readouterr().out


def names_with_default() -> list[str]:
    """Flags whose help ends in a default: --config and every setting, but for the repeatable --edit-prompt."""
    fields = [field.name for cls in (TuneConfig, *SECTIONS.values()) for field in dataclasses.fields(cls)]
    return ["config", *(name for name in fields if name not in SECTIONS and name != "edit_prompts")]


# The edit command


def test_edit_command():
    argv = shlex.split(
        "runs/ski --prompt a --prompt 'b c' --guidance-scale 0 --num-inference-steps 4 --eta 1 --seed 0 --output o"
    )
    assert parse_edit_command([*argv, "--negative-prompt", ""]) == EditCommand(
        run="runs/ski",
        prompts=("a", "b c"),
        negative_prompt="",
        guidance_scale=0.0,
        num_inference_steps=4,
        eta=1.0,
        seed=0,
        output="o",
    )


def test_edit_command_changes_what_it_gives_and_nothing_else():
    assert EditCommand("runs/ski").applied_to(UNUSUAL) == UNUSUAL
    command = EditCommand(
        "runs/ski", ("x",), "", guidance_scale=0.0, num_inference_steps=4, eta=0.0, seed=0, output="o"
    )
    assert command.applied_to(UNUSUAL) == dataclasses.replace(
        UNUSUAL,
        edit_prompts=("x",),
        negative_prompt="",
        seed=0,
        editing=dataclasses.replace(UNUSUAL.editing, guidance_scale=0.0, num_inference_steps=4, eta=0.0),
    )


def test_edit_command_without_a_run(capsys):
    with pytest.raises(SystemExit) as caught:
        parse_edit_command(["--prompt", "a"])
    assert caught.value.code == 2
    assert "RUN" in capsys.readouterr().err


def test_edit_command_with_a_value_that_is_not_allowed():
    with pytest.raises(UserError, match=r"^--prompt \('',\) is wrong: '' is empty; --eta 2.0 is not between 0 and 1$"):
        parse_edit_command(["runs/ski", "--eta", "2", "--prompt", ""])


# How commands end


def python(code: str) -> subprocess.CompletedProcess[str]:
    root = Path(__file__).parents[1]
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=False)


@pytest.mark.parametrize(
    ("body", "status", "out", "err"),
    [
        ("print('done')", 0, "done\n", ""),
        ("raise UserError('clip.mp4 does not exist')", 2, "", "error: clip.mp4 does not exist\n"),
        ("raise KeyboardInterrupt", 130, "", "interrupted\n"),
        ("warnings.warn('two\\nlines')", 0, "", "warning: two lines\n"),
    ],
    ids=["done", "user error", "interrupted", "warning"],
)
def test_exit_status_and_messages(body, status, out, err):
    result = python(
        "import sys, warnings\nfrom vrwkv_jax.cli import run_cli\nfrom vrwkv_jax.errors import UserError\n"
        f"def command():\n    {body}\nsys.exit(run_cli(command))"
    )
    assert (result.returncode, result.stdout, result.stderr) == (status, out, err)


def test_defects_keep_their_traceback():
    result = python("from vrwkv_jax.cli import run_cli\nrun_cli(lambda: 1 / 0)")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.rstrip().endswith("ZeroDivisionError: division by zero")


@pytest.mark.parametrize(
    ("argv", "err"),
    [
        (["--width", "500"], "error: --width 500 is not a multiple of 8: use 496 or 504\n"),
        (["--config", "none.yaml"], "error: none.yaml does not exist: give the path of a YAML file\n"),
    ],
)
def test_mistakes_reach_the_shell_in_one_line(argv, err):
    result = python(
        "import sys\nfrom vrwkv_jax.cli import run_cli\nfrom vrwkv_jax.config import parse_tune_config\n"
        f"sys.exit(run_cli(lambda: parse_tune_config({argv!r})))"
    )
    assert (result.returncode, result.stderr) == (2, err)
