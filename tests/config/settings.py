"""Configurations that the tests of files and flags share."""

from vrwkv_jax.config import (
    ClipConfig,
    EditConfig,
    TuneConfig,
    TuningConfig,
    VideoConfig,
)

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
