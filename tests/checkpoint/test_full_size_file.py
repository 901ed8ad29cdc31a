"""Single files of Stable Diffusion at its real size: what is seen from shapes, and, slowly, a file that is read.

    pytest -m slow tests/checkpoint/test_full_size_file.py -s

The latter takes 5 GB of memory and 2.2 GB of disk.
"""

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

from tests.checkpoint import compvis_files
from tests.checkpoint.memory import LINUX, output_of
from tests.checkpoint.shapes import shapes_of
from vrwkv_jax.checkpoint import compvis_names
from vrwkv_jax.checkpoint.configs import text_config, unet_config, vae_config
from vrwkv_jax.checkpoint.derived import Shapes, text_values, unet_values, vae_values
from vrwkv_jax.checkpoint.torch_names import torch_name, torch_shape

# As in the config.json of stable-diffusion-v1-5 and of stable-diffusion-2-1; all else is diffusers' default.
UNET = {
    "sd1": {"cross_attention_dim": 768, "attention_head_dim": 8},
    "sd2": {"cross_attention_dim": 1024, "attention_head_dim": (5, 10, 20, 20), "use_linear_projection": True},
}
VAE = {
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
}
TEXT = {
    "sd1": {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12, "hidden_act": "quick_gelu"},
    "sd2": {
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_attention_heads": 16,
        "num_hidden_layers": 23,
        "hidden_act": "gelu",
    },
}


def on_meta(family):
    with torch.device("meta"):
        return {
            "unet": UNet2DConditionModel(**UNET[family]),
            "vae": AutoencoderKL(**VAE),
            "text_encoder": CLIPTextModel(CLIPTextConfig(**TEXT[family])),
        }


class Header:
    """Names and shapes of a file that nobody wrote."""

    def __init__(self, tensors):
        self.tensors = tensors

    def __iter__(self):
        return iter(self.tensors)

    def __getitem__(self, name):
        raise NotImplementedError

    def shape(self, name):
        return tuple(self.tensors[name].shape)

    def dtype(self, name):
        return "F32"


@pytest.mark.long
@pytest.mark.parametrize("family", ["sd1", "sd2"])
def test_configurations_at_full_size(family):
    models = on_meta(family)
    tensors = compvis_files.checkpoint(models, family)
    last = {name.replace("blocks.22.", "blocks.23."): t for name, t in tensors.items() if ".resblocks.22." in name}
    assert len(last) == (12 if family == "sd2" else 0)  # the last of 24 layers, which is not used
    header = Header(tensors | last)
    parts = {part: compvis_names.Renamed(header, sources) for part, sources in compvis_names.parts(header).items()}
    shapes = {part: Shapes(tensors, "file") for part, tensors in parts.items()}
    configs = {
        "unet": unet_config(unet_values(shapes["unet"]), "file"),
        "vae": vae_config(vae_values(shapes["vae"]), "file"),
        "text_encoder": text_config(text_values(shapes["text_encoder"], open_clip=family == "sd2"), "file"),
    }
    expected_unet = unet_config(dict(models["unet"].config), "diffusers")
    assert configs["unet"].num_heads == expected_unet.num_heads == ((8,) * 4 if family == "sd1" else (5, 10, 20, 20))
    assert configs["unet"] == expected_unet
    assert configs["vae"] == vae_config(dict(models["vae"].config), "diffusers")
    assert configs["text_encoder"] == text_config(models["text_encoder"].config.to_dict(), "transformers")
    for part, config in configs.items():
        wanted = {torch_name(path): torch_shape(path, leaf.shape) for path, leaf in shapes_of(config).items()}
        found = {name: shape for name, shape in shapes[part].of.items() if not name.startswith("loss.")}
        assert found.keys() == wanted.keys()
        assert all(np.prod(shape) == np.prod(wanted[name]) for name, shape in found.items())


READ = """
import sys, time
from pathlib import Path
import jax
from tests.checkpoint.memory import peak_memory
from tests.checkpoint.shapes import shapes_of
from vrwkv_jax.checkpoint.source import Source
file = Path(sys.argv[1])
jax.block_until_ready(jax.numpy.ones(5))
start = time.process_time()
source = Source.find(file)
description = source.describe()
described = time.process_time() - start
shapes = {part: shapes_of(getattr(description, part)) for part in ("unet", "vae", "text_encoder")}
start = time.process_time()  # of this process: others may keep the machine busy
with peak_memory() as peak:
    loaded = [source.read(part, abstract) for part, abstract in shapes.items()]
print(sum(array.nbytes for params in loaded for array in params.values()), peak.bytes, described,
      time.process_time() - start)
"""


@pytest.mark.slow
@LINUX
@pytest.mark.parametrize("ending", ["safetensors", "ckpt"])
def test_reading_a_file_of_sd15(ending, tmp_path):
    from safetensors.torch import save_file

    file, generator = tmp_path / f"model.{ending}", torch.Generator().manual_seed(0)
    tensors = {
        name: torch.empty(tensor.shape, dtype=torch.float16).uniform_(-1, 1, generator=generator)
        for name, tensor in compvis_files.checkpoint(on_meta("sd1"), "sd1").items()
    }
    save_file(tensors, file) if ending == "safetensors" else torch.save({"state_dict": tensors}, file)
    del tensors
    output_of(READ, file)  # so that the file is in the system's cache
    weights, peak, described, loaded = output_of(READ, file)
    file.unlink()
    print(f"\n{ending}: described in {described:.1f} s of CPUs, {weights / 1e9:.2f} GB loaded in {loaded:.1f}")
    print(f"{peak / weights:.2f} times the weights at most")
    assert 2.1e9 < weights < 2.2e9
    assert peak <= 1.3 * weights, f"{peak / weights:.2f} times the weights"
    assert loaded < 10
