"""What cannot be inverted or sampled is known before the first step."""

from dataclasses import replace

import pytest

from vrwkv_jax import Editor
from vrwkv_jax.config import ClipConfig, EditConfig, TuneConfig
from vrwkv_jax.models.video_config import VideoConfig
from vrwkv_jax.runs.results import check_edits
from vrwkv_jax.system.errors import UserError


@pytest.fixture(scope="module")
def editor(tiny_checkpoint) -> Editor:
    return Editor.from_pretrained(tiny_checkpoint, video=VideoConfig(mixer="none"))


@pytest.mark.parametrize(
    ("schedule", "steps", "expected"),
    [
        ({}, 1000, "with steps_offset 1 starts at timestep 1000"),
        ({"steps_offset": 5000}, 50, "with steps_offset 5000 starts at"),
        ({"timestep_spacing": "linspace"}, 1, "num_inference_steps is 1, expected at least 2"),
        ({"prediction_type": "sample", "set_alpha_to_one": True}, 20, "prediction_type is 'sample'"),
        ({"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}, 20, "prediction_type is 'epsilon'"),
    ],
)
def test_steps_that_the_schedule_cannot_do(schedule, steps, expected, editor):
    components = replace(editor.components, schedule=replace(editor.schedule, **schedule))
    config = TuneConfig(editing=EditConfig(num_inference_steps=steps))
    with pytest.raises(UserError, match=expected):
        check_edits(replace(editor, components=components), config)


def test_a_size_that_the_autoencoder_cannot_take(checkpoint):
    editor = Editor.from_pretrained(checkpoint, video=VideoConfig(mixer="none"))
    vae = replace(editor.components.vae_config, block_out_channels=(8,) * 5)
    editor = replace(editor, components=replace(editor.components, vae_config=vae))
    with pytest.raises(UserError, match="expected multiples of 16"):
        check_edits(editor, TuneConfig(clip=ClipConfig(width=24, height=32)))
