"""The whole command, on few frames and for few steps: sizes for a card, stopped and gone on with."""

import json
from pathlib import Path

import numpy as np
import pytest

from train import pretrain_shapes
from train.pretrain import fit
from vrwkv_jax import TextToImage
from vrwkv_jax.system.errors import UserError

FLAGS = ["--frames", "40", "--size", "96", "--channels", "16"]


@pytest.mark.long
def test_a_larger_model_is_stopped_gone_on_with_and_drawn_with(tmp_path, monkeypatch):
    """Of 96 x 96 pixels: stopped in the midst of the U-Net it ends where one that was not would end."""
    steps = ["--vae-steps", "2", "--unet-steps", "4"]
    monkeypatch.setattr(pretrain_shapes, "measure", lambda *arguments: {"colour_right": 0.5})  # 200 pictures
    flags = [*FLAGS, *steps, "--output"]
    pretrain_shapes.main([*flags, str(tmp_path / "whole")])

    def failing(recipe, step, seconds, progress=fit._progress):
        if recipe.steps == 4 and step == 3:
            raise KeyboardInterrupt
        return progress(recipe, step, seconds)

    with monkeypatch.context() as patch:
        patch.setattr(fit, "_progress", failing)
        with pytest.raises(KeyboardInterrupt):
            pretrain_shapes.main([*flags, str(tmp_path / "stopped")])
    assert not (tmp_path / "stopped" / "unet").exists()
    pretrain_shapes.main([*flags, str(tmp_path / "stopped")])
    for name in ("unet", "vae", "text_encoder"):
        one, other = (next((tmp_path / run / name).glob("*.safetensors")) for run in ("whole", "stopped"))
        assert one.read_bytes() == other.read_bytes(), name
    draw = TextToImage.from_pretrained(tmp_path / "stopped")
    picture = draw("a red star", height=96, width=96, num_inference_steps=1)
    assert np.asarray(picture).shape[-3:] == (96, 96, 3)


def test_other_settings_are_refused(tmp_path):
    config = pretrain_shapes.PretrainConfig(output=tmp_path, size=96)
    path = tmp_path / "settings.json"
    pretrain_shapes._check_settings(config, path)
    pretrain_shapes._check_settings(config, path)
    other = pretrain_shapes.PretrainConfig(output=tmp_path, size=64, start=Path("model"))
    with pytest.raises(UserError, match="--size was 96 and is 64, --start was None and is model; go on with its own"):
        pretrain_shapes._check_settings(other, path)
    path.write_text(json.dumps([1]))
    with pytest.raises(UserError, match="is damaged"):
        pretrain_shapes._check_settings(config, path)
