"""The values that settings may have."""

import math

import jaxtyping
import pytest

from vrwkv_jax.config import (
    ClipConfig,
    EditCommand,
    EditConfig,
    TuneConfig,
    TuningConfig,
    VideoConfig,
)
from vrwkv_jax.models.mixers.fluencyve import FluencyVEConfig
from vrwkv_jax.models.mixers.released import ReleasedConfig
from vrwkv_jax.models.mixers.vrwkv import VRWKVConfig
from vrwkv_jax.system.checks import FieldErrors
from vrwkv_jax.system.errors import UserError


@pytest.mark.parametrize(
    ("cls", "values", "said"),
    [
        (ClipConfig, {"video": ""}, "video '' is empty"),
        (ClipConfig, {"frames": 0}, "frames 0 is not at least 1"),
        (ClipConfig, {"start": -1}, "start -1 is not at least 0"),
        (ClipConfig, {"stride": 0}, "stride 0 is not at least 1"),
        (ClipConfig, {"width": 500}, "width 500 is not a multiple of 8: use 496 or 504"),
        (ClipConfig, {"height": 4}, "height 4 is not a multiple of 8: use 8 or more"),
        (ClipConfig, {"height": -8}, "height -8 is not a positive multiple of 8: use 8 or more"),
        (ClipConfig, {"fit": "crop "}, "fit 'crop ' is not one of crop, stretch: did you mean crop?"),
        (ClipConfig, {"frames": "8"}, "frames '8' is neither a number of frames nor a time: write 24, 1.5s or all"),
        (ClipConfig, {"frames": "0s"}, "frames '0s' is not above 0s"),
        (ClipConfig, {"start": "all"}, "start 'all' is neither a number of frames nor a time: write 12 or 1.5s"),
        (ClipConfig, {"stride": "0s"}, "stride '0s' is not above 0s"),
        (ClipConfig, {"width": "8"}, "width '8' is of the wrong type (str)"),
        (ClipConfig, {"frames": 0, "width": 1}, "frames 0 is not at least 1; width 1 is not a multiple of 8: use 8 or"),
        (VideoConfig, {"mixer": "swin"}, "mixer 'swin' is not one of vrwkv, tune_a_video, fluencyve, released, none"),
        (VideoConfig, {"placement": ()}, "placement () names no place: use skip, mid or transformer, or mixer none"),
        (
            VideoConfig,
            {"placement": ("auto", "mid")},
            "placement ('auto', 'mid') names auto beside places: leave one of",
        ),
        (VideoConfig, {"placement": ("mid", "mid")}, "placement ('mid', 'mid') names 'mid' twice: once is enough"),
        (VideoConfig, {"placement": ("midd",)}, "placement ('midd',) is wrong: 'midd' is not one of auto, skip, mid"),
        (VideoConfig, {"placement": "mid"}, "placement 'mid' is not a tuple: write ('mid',)"),
        (VRWKVConfig, {"token_order": "x"}, "token_order 'x' is not one of factorised, joint"),
        (VRWKVConfig, {"projection": "x"}, "projection 'x' is not one of linear, conv"),
        (VRWKVConfig, {"decay_norm": 0}, "decay_norm 0 is not at least 1"),
        (VRWKVConfig, {"decay_norm": "x"}, "decay_norm 'x' is not one of length, none"),
        (VRWKVConfig, {"init": "x"}, "init 'x' is not one of fancy, local, global"),
        (VRWKVConfig, {"first_frame": "x"}, "first_frame 'x' is not one of repeat, zero"),
        (FluencyVEConfig, {"d_state": 0}, "d_state 0 is not at least 1"),
        (FluencyVEConfig, {"expand": 0}, "expand 0 is not at least 1"),
        (FluencyVEConfig, {"conv_width": 0}, "conv_width 0 is not at least 1"),
        (FluencyVEConfig, {"rank_divisor": 0}, "rank_divisor 0 is not at least 1"),
        (FluencyVEConfig, {"frozen_share": 1.5}, "frozen_share 1.5 is not between 0 and 1"),
        (
            ReleasedConfig,
            {"temporal_core": "time"},
            "temporal_core 'time' is not one of time_mix, wkv, attention, li",
        ),
        (VideoConfig, {"skip_gate": 1}, "skip_gate 1 is not True or False"),
        (VideoConfig, {"attention": "x"}, "attention 'x' is not one of auto, frame, sparse_causal, extended"),
        (VideoConfig, {"groupnorm_scope": "x"}, "groupnorm_scope 'x' is not one of auto, frame, video, resnets"),
        (TuningConfig, {"steps": -1}, "steps -1 is not at least 0"),
        (TuningConfig, {"learning_rate": 0.0}, "learning_rate 0.0 is not above 0"),
        (TuningConfig, {"learning_rate": math.nan}, "learning_rate nan is not a finite number"),
        (TuningConfig, {"mixer_lr_scale": -1.0}, "mixer_lr_scale -1.0 is not above 0"),
        (TuningConfig, {"mixer_strength": 1.5}, "mixer_strength 1.5 is not between 0 and 1"),
        (TuningConfig, {"train": "x"}, "train 'x' is not one of mixers, all"),
        (TuningConfig, {"weight_decay": -0.1}, "weight_decay -0.1 is not at least 0"),
        (TuningConfig, {"beta1": 1.0}, "beta1 1.0 is not between 0 and 0.999999"),
        (TuningConfig, {"beta2": -0.1}, "beta2 -0.1 is not between 0 and 0.999999"),
        (TuningConfig, {"epsilon": 0.0}, "epsilon 0.0 is not above 0"),
        (TuningConfig, {"max_grad_norm": math.inf}, "max_grad_norm inf is not a finite number"),
        (TuningConfig, {"dtype": "float16"}, "dtype 'float16' is not one of auto, float32, bfloat16: did you"),
        (TuningConfig, {"remat": "no"}, "remat 'no' is not auto, True or False"),
        (EditConfig, {"num_inference_steps": 0}, "num_inference_steps 0 is not between 1 and 1000"),
        (EditConfig, {"num_inference_steps": 1001}, "num_inference_steps 1001 is not between 1 and 1000"),
        (EditConfig, {"guidance_scale": -0.5}, "guidance_scale -0.5 is not at least 0"),
        (EditConfig, {"inversion_prompt": "x"}, "inversion_prompt 'x' is not one of source, empty"),
        (EditConfig, {"eta": 1.5}, "eta 1.5 is not between 0 and 1"),
        (EditConfig, {"eta": 0.5, "sampler": "dpm++"}, "eta 0.5 is for DDIM or LCM, the sampler dpm++ draws no noise"),
        (EditConfig, {"guidance_from": "null_text", "sampler": "dpm++"}, "guidance_from 'null_text' follows the steps"),
        (EditConfig, {"guidance_from": "null_text", "guidance_scale": 1.0}, "guidance_scale 1.0 is no guidance, to"),
        (EditConfig, {"fps": 0}, "fps 0 is not between 1 and 1000"),
        (TuneConfig, {"model": " "}, "model ' ' is empty"),
        (TuneConfig, {"prompt": ""}, "prompt '' is empty"),
        (TuneConfig, {"edit_prompts": "fox"}, "edit_prompts 'fox' is not a tuple: write ('fox',)"),
        (TuneConfig, {"edit_prompts": ("a", "")}, "edit_prompts ('a', '') is wrong: '' is empty"),
        (TuneConfig, {"negative_prompt": None}, "negative_prompt None is not text"),
        (
            TuneConfig,
            {"negative_prompt": "a cat", "editing": EditConfig(guidance_from="source")},
            "negative_prompt 'a cat' is not used with guidance_from='source'",
        ),
        (TuneConfig, {"output": ""}, "output '' is empty"),
        (TuneConfig, {"resume": 1}, "resume 1 is not True or False"),
        (TuneConfig, {"checkpoint_every": 0}, "checkpoint_every 0 is not at least 1"),
        (TuneConfig, {"sample_every": -1}, "sample_every -1 is not at least 0"),
        (TuneConfig, {"overwrite": 1}, "overwrite 1 is not True or False"),
        (TuneConfig, {"seed": 2**32}, "seed 4294967296 is not between 0 and 4294967295"),
        (TuneConfig, {"coordinator": "node1"}, "coordinator 'node1' is not HOST:PORT, such as node1:12345"),
        (TuneConfig, {"mesh": "frames=2"}, "mesh 'frames=2' has no axis 'frames': use data, fsdp, frame"),
        (
            TuneConfig,
            {"bi_wkv": "skan"},
            "bi_wkv 'skan' is not one of auto, mosaic, scan, reference: did you mean scan?",
        ),
        (EditCommand, {"run": ""}, "run '' is empty"),
        (EditCommand, {"run": "r", "prompts": ("",)}, "prompts ('',) is wrong: '' is empty"),
        (EditCommand, {"run": "r", "bi_wkv": "cuda"}, "bi_wkv 'cuda' is not one of auto, mosaic, scan, reference"),
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
