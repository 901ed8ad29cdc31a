"""What YAML files may say, and what is said of their mistakes."""

import dataclasses
import operator
import time
from pathlib import Path
from typing import get_type_hints

import pytest
import yaml

from tests.config.settings import ALSO_UNUSUAL, SECTIONS, UNUSUAL
from vrwkv_jax.config import (
    TuneConfig,
    TuningConfig,
    VideoConfig,
    load_yaml,
    save_yaml,
)
from vrwkv_jax.config.foreign import RENAMED, WITHOUT_COUNTERPART
from vrwkv_jax.models.mixers.vrwkv import VRWKVConfig
from vrwkv_jax.system.errors import UserError


def test_flat_flags_are_unambiguous():
    names = [field.name for cls in (TuneConfig, *SECTIONS.values()) for field in dataclasses.fields(cls)]
    assert len(names) == len(set(names))


def test_unusual_config_has_no_default():
    """So that a field which the round trip loses is noticed."""
    for config in (UNUSUAL, *(operator.attrgetter(section)(UNUSUAL) for section in SECTIONS)):
        for field in dataclasses.fields(config):
            values = [getattr(config, field.name)]
            if dataclasses.is_dataclass(values[0]) and not dataclasses.fields(values[0]):
                continue  # a section without settings
            if config is UNUSUAL.editing:
                values.append(getattr(ALSO_UNUSUAL.editing, field.name))
            assert any(value != getattr(type(config)(), field.name) for value in values), field.name


@pytest.mark.parametrize("config", [TuneConfig(), UNUSUAL, ALSO_UNUSUAL], ids=["default", "unusual", "other"])
def test_round_trip(config, tmp_path):
    save_yaml(config, tmp_path / "config.yaml")
    assert load_yaml(TuneConfig, tmp_path / "config.yaml") == config


def test_a_configuration_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "config.yaml"
    save_yaml(UNUSUAL, path)

    def full(path, text, **_):
        path.write_bytes(text[:20].encode())
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(UserError, match=rf"{path} cannot be written \(No space left on device\)"):
        save_yaml(TuneConfig(), path)
    assert load_yaml(TuneConfig, path) == UNUSUAL


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
        "video_model: {placement: [mid, skip], vrwkv: {decay_norm: 16}}\nedit_prompts:\n  - no\n"
    )
    config = load_yaml(TuneConfig, path)
    assert config == TuneConfig(
        prompt="2024-01-01",
        edit_prompts=("no",),
        tuning=TuningConfig(steps=7, learning_rate=3e-5, mixer_lr_scale=100.0),
        video_model=VideoConfig(placement=("mid", "skip"), vrwkv=VRWKVConfig(decay_norm=16)),
    )
    assert type(config.tuning.mixer_lr_scale) is float


def test_settings_that_have_moved_are_read_where_they_were(write):
    """As a run of an earlier version wrote them: silently."""
    config = load_yaml(TuneConfig, write("video_model: {token_order: joint, decay_norm: 7}\ncontrols: {mixers: 1}"))
    assert config.controls.mixer_keys == 1
    assert config.video_model == VideoConfig(vrwkv=VRWKVConfig(token_order="joint", decay_norm=7))


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
        ("tuning: {remat: 1}", ": `tuning.remat` 1 is not one of auto, and is not true or false"),
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
            "token_order: joint",
            ': `token_order` "joint" is in the wrong place: `token_order` belongs under `video_model.vrwkv`',
        ),
        (
            "video_model: {vrwkv: {intt: local}}",
            ': `video_model.vrwkv.intt` "local" is not a setting: did you mean `video_model.vrwkv.init`?',
        ),
        ("video_model: {vrwkv: }\nseed: -1", ": `seed` -1 is not between 0 and 4294967295"),
        (
            "video_model: {init: local, vrwkv: {init: local}}",
            ': `video_model.init` "local" is in the wrong place: `init` belongs under `video_model.vrwkv`',
        ),
        (
            "video_model: {vrwkv: {decay_norm: lenght}}",
            ': `video_model.vrwkv.decay_norm` "lenght" is not a whole number, and is not one of length, none: '
            "did you mean length?",
        ),
        (
            "video_model: {placement: [mid, bottom]}",
            ': `video_model.placement` ["mid", "bottom"] is wrong: "bottom" is not one of auto, skip, mid, transformer',
        ),
        ("clip: {width: 500}", ": `clip.width` 500 is not a multiple of 8: use 496 or 504"),
        ("editing: {eta: .nan}", ": `editing.eta` NaN is not a finite number"),
        ("{a b}: 1", ", line 1 cannot be read as YAML: found unhashable key"),
        (
            "seed: 1\nclip: [\n\n",
            ", line 4 cannot be read as YAML: expected the node content, but found '<stream end>'",
        ),
        (
            "seed: 1\nprompt: a: b\n",
            ", line 2 cannot be read as YAML: mapping values are not allowed here; put text that has a colon in it in "
            "quotes",
        ),
        (
            "clip:\n\tframes: 8",
            ", line 2 cannot be read as YAML: found character '\\t' that cannot start any token; indent with spaces, "
            "not with a tab",
        ),
        ("seed: 1\nclip:\n  width: 8\n  width: 16\n", ", line 4 cannot be read as YAML: `width` is given twice"),
        ("", " holds no setting: write `key: value` lines, such as `seed: 33`"),
        ("# seed: 1", " holds no setting: write `key: value` lines, such as `seed: 33`"),
        ("- seed", " holds a list instead of settings: write `key: value` lines, such as `seed: 33`"),
        ("8", " holds a value instead of settings: write `key: value` lines, such as `seed: 33`"),
        ("seed", " holds text instead of settings: write `key: value` lines, such as `seed: 33`"),
        ("seed: &a [*a]", ", line 1 cannot be read as YAML: `&a` repeats a part of the file: write it out"),
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
        "  `use_8bit_adam` false is Tune-A-Video's and has no counterpart: only what trains has optimiser state, which "
        "is small; remove it"
    ) in lines


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


def test_python_s_word_for_nothing_is_no_name(write):
    path = write("prompt: None\noutput: None\nclip: {video: None}\nnegative_prompt: None")
    with pytest.raises(UserError, match="3 mistakes") as caught:
        load_yaml(TuneConfig, path)
    lines = str(caught.value).splitlines()[1:]
    places = ("prompt", "output", "clip.video")
    assert lines == [
        f'  `{place}` "None" is Python\'s word for a setting that is not set: write null' for place in places
    ]


def nested(levels: int, width: int) -> str:
    lines = ["a0: &a0 [" + ", ".join(["x"] * width) + "]"]
    lines += [f"a{n}: &a{n} [" + ", ".join([f"*a{n - 1}"] * width) + "]" for n in range(1, levels)]
    return "\n".join(lines) + f"\nedit_prompts: *a{levels - 1}\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (nested(7, 9), "line 1 cannot be read as YAML: `&a0` repeats a part of the file: write it out"),
        ("seed: *a", "line 1 cannot be read as YAML: `\\*a` repeats a part"),
        ("a: " + "[" * 300 + "]" * 300, "line 1 cannot be read as YAML: settings are nested too deeply"),
        ("{a: " * 5000 + "1" + "}" * 5000, "settings are nested too deeply"),
        ("prompt: " + "x" * 2**20, "has more than 1024 KiB"),
        ("seed: " + "x" * 10**5, "is not a whole number"),
        ("x" * 1000 + ": 1", "is not a setting"),
        ("\n".join(f"key{n}: 1" for n in range(5000)), "has 5000 mistakes"),
        ("edit_prompts: [[" + "1, " * 10**4 + "1]]", "is not text"),
    ],
)
def test_files_that_would_take_long_or_fill_the_screen(text, said, write):
    started = time.process_time()
    with pytest.raises(UserError, match=said) as caught:
        load_yaml(TuneConfig, write(text))
    assert time.process_time() - started < 10 and len(str(caught.value)) < 14_000  # 50 lines, each with all names
    assert max(map(len, str(caught.value).splitlines())) < 600
