"""Configurations that the tests of files and flags share."""

from vrwkv_jax.checkpoint.weights_config import WeightsConfig
from vrwkv_jax.config import (
    ClipConfig,
    ControlConfig,
    EditConfig,
    LongConfig,
    TuneConfig,
    TuningConfig,
    VideoConfig,
)
from vrwkv_jax.editing.long.adaflow.config import AdaFlowConfig
from vrwkv_jax.models.mixers.fluencyve import FluencyVEConfig
from vrwkv_jax.models.mixers.released import ReleasedConfig
from vrwkv_jax.models.mixers.tune_a_video import TuneAVideoConfig
from vrwkv_jax.models.mixers.vrwkv import VRWKVConfig

SECTIONS = {
    "weights": WeightsConfig,
    "clip": ClipConfig,
    "video_model": VideoConfig,
    "video_model.vrwkv": VRWKVConfig,
    "video_model.tune_a_video": TuneAVideoConfig,
    "video_model.fluencyve": FluencyVEConfig,
    "video_model.released": ReleasedConfig,
    "tuning": TuningConfig,
    "editing": EditConfig,
    "controls": ControlConfig,
    "long_video": LongConfig,
    "adaflow": AdaFlowConfig,
}

# No value is its default, but for those of ALSO_UNUSUAL, which exclude others.
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
    resume=True,
    checkpoint_every=7,
    sample_every=9,
    seed=2**32 - 1,
    mesh="data=2,frame=4",
    bi_wkv="reference",
    coordinator="node1:12345",
    weights=WeightsConfig("v1", "fp16", "vae.pt", ("a b.pt:0.5", "c"), ("w.bin:<cat>",), "sample"),
    clip=ClipConfig("clip.mp4", 5, 3, 1, 24, 40, "stretch"),
    video_model=VideoConfig(
        *("none", ("transformer",), True, "extended", "video"),
        VRWKVConfig("joint", "conv", 17, "local", "zero", 24, True),
        fluencyve=FluencyVEConfig(3, 4, 5, False, 6, 0.7, 8, "sum"),
        released=ReleasedConfig("state_space"),
    ),
    tuning=TuningConfig(0, 4, 1 / 3, 1e-20, 0.7, "all", 0.0, 0.1 + 0.2, 0.0, 1e22, 7.0, "bfloat16", True),
    editing=EditConfig(
        guidance_scale=0.0,
        guidance_rescale=0.5,
        guidance_mean=0.5,
        guidance_interval=(0.1, 0.7),
        cache_interval=3,
        cache_until=0.5,
        cache_depth=2,
        strength=0.25,
        eta=1.0,
        num_inference_steps=1000,
        null_text_iterations=3,
        inversion_prompt="empty",
        inversion_iterations=7,
        inversion_tolerance=0.25,
        fps=12,
        format="webp",
        crf=30,
    ),
    controls=ControlConfig(
        *(0.1, ("a=0.5", "b c=1"), True, ("x=-2",), 0.2, ("mid_block",), 0.3, ("up_blocks/0",), 0.4),
        *(("ski",), "m.png", 0.4, 2, 0.6),
    ),
    long_video=LongConfig("forward", 5, 3, "adaflow", 9),
    adaflow=AdaFlowConfig("uniform", 0.8, -0.1, 7, 2, 3, 4),
)
ALSO_UNUSUAL = TuneConfig(editing=EditConfig(guidance_from="source", sampler="dpm++"))
