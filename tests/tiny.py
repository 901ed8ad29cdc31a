"""A checkpoint with random weights that is as small as can be, for tests that start many processes."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from tests.models.tiny_unet import TINY, randomized
from vrwkv_jax.checkpoint.save import save_pipeline
from vrwkv_jax.models import params as P
from vrwkv_jax.models.clip_text import CLIPTextConfig, CLIPTextEncoder
from vrwkv_jax.models.tokenizer import write_byte_tokenizer
from vrwkv_jax.models.unet import UNet
from vrwkv_jax.models.vae import AutoencoderKL, VAEConfig
from vrwkv_jax.models.video_config import VideoConfig

UNET = dataclasses.replace(TINY, in_channels=4, out_channels=4)
VAE = VAEConfig(block_out_channels=(8,), norm_num_groups=4, mid_block_add_attention=False)
TEXT = CLIPTextConfig(514, 8, 16, 1, 2)
SCHEDULER = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "steps_offset": 1,
    "set_alpha_to_one": False,
    "clip_sample": False,
}


def tiny_models() -> dict[str, tuple[dict[str, Any], P.Params]]:
    """The fields of each model's configuration, and its parameters."""
    modules = {
        "unet": (UNET, lambda rngs: UNet(UNET, VideoConfig(mixer="none"), rngs=rngs)),
        "vae": (VAE, lambda rngs: AutoencoderKL(VAE, rngs=rngs)),
        "text_encoder": (TEXT, lambda rngs: CLIPTextEncoder(TEXT, rngs=rngs)),
    }
    return {
        name: (dataclasses.asdict(config), randomized(P.abstract(build)[1]))
        for name, (config, build) in modules.items()
    }


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory) -> Path:
    """A directory in the diffusers layout: one resolution in U-Net and VAE, one layer of text."""
    directory = tmp_path_factory.mktemp("tiny") / "checkpoint"
    save_pipeline(directory, tiny_models(), SCHEDULER)
    write_byte_tokenizer(directory / "tokenizer")
    return directory
