"""What we write, diffusers and transformers load, strictly and bit by bit."""

import json

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import load_file
from transformers import CLIPTextModel

from tests.checkpoint.pipelines import UNETS, make_models, save_pipeline
from tests.checkpoint.shapes import shapes
from vrwkv_jax.checkpoint.save import save_component
from vrwkv_jax.checkpoint.source import Source

CLASSES = {"unet": UNet2DConditionModel, "vae": AutoencoderKL, "text_encoder": CLIPTextModel}


def load_strictly(directory, **options):
    """The model of the original library; every tensor finds its place, none is left to chance."""
    model, info = CLASSES[directory.name].from_pretrained(
        directory, local_files_only=True, output_loading_info=True, **options
    )
    assert not any(info.values()), info
    return model


@pytest.mark.parametrize("family", UNETS)
def test_there_and_back(family, tmp_path):
    models = make_models(UNETS[family])
    save_pipeline(tmp_path / "theirs", models)
    for part, abstract in shapes(tmp_path / "theirs").items():
        directory = tmp_path / "theirs" / part
        config = json.loads((directory / "config.json").read_text())
        save_component(tmp_path / "ours" / part, config, Source(tmp_path / "theirs").read(part, abstract))
        back, expected = load_strictly(tmp_path / "ours" / part), models[part].state_dict()
        assert back.state_dict().keys() == expected.keys()
        for name, tensor in back.state_dict().items():
            assert torch.equal(tensor, expected[name]), name


def test_half_precision_stays(tmp_path):
    models = {name: model.bfloat16() for name, model in make_models().items()}
    save_pipeline(tmp_path / "theirs", models)
    directory = tmp_path / "theirs" / "unet"
    config = json.loads((directory / "config.json").read_text())
    save_component(
        tmp_path / "unet", config, Source(tmp_path / "theirs").read("unet", shapes(tmp_path / "theirs")["unet"])
    )
    saved = load_file(tmp_path / "unet" / "diffusion_pytorch_model.safetensors")
    for name, tensor in models["unet"].state_dict().items():
        assert saved[name].dtype == torch.bfloat16 and torch.equal(saved[name], tensor)
