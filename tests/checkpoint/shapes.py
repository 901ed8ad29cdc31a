"""The parameters that a checkpoint should have."""

import functools
from pathlib import Path

from vrwkv_jax.checkpoint.configs import read_configs
from vrwkv_jax.models import params as P
from vrwkv_jax.models.clip_text import CLIPTextConfig, CLIPTextEncoder
from vrwkv_jax.models.unet import UNet
from vrwkv_jax.models.unet_config import UNetConfig
from vrwkv_jax.models.vae import AutoencoderKL, VAEConfig

PARTS = ("unet", "vae", "text_encoder")
MODELS = {UNetConfig: UNet, VAEConfig: AutoencoderKL, CLIPTextConfig: CLIPTextEncoder}


def shapes(checkpoint: Path) -> dict[str, P.Params]:
    """Those of each model, by the name of its directory."""
    return dict(zip(PARTS, map(shapes_of, read_configs(checkpoint)), strict=True))


@functools.cache
def shapes_of(config: UNetConfig | VAEConfig | CLIPTextConfig) -> P.Params:
    """Those of the model that ``config`` describes."""
    return P.abstract(lambda rngs: MODELS[type(config)](config, rngs=rngs))[1]
