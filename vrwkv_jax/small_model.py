"""A small, untrained checkpoint in Stable Diffusion's layout, so that every command works without a download.

U-Net and text encoder are random. A random autoencoder would show nothing but noise, so the VAE's weights are set by
hand: its latents are the picture at half the size, and it decodes them to pixels twice as large.
"""

import math
from dataclasses import asdict
from pathlib import Path

import numpy as np

from vrwkv_jax.checkpoint.save import save_pipeline
from vrwkv_jax.models import params as P
from vrwkv_jax.models.clip_text import CLIPTextConfig, CLIPTextEncoder
from vrwkv_jax.models.params import Params
from vrwkv_jax.models.tokenizer import write_byte_tokenizer
from vrwkv_jax.models.unet import UNet
from vrwkv_jax.models.unet_config import UNetConfig
from vrwkv_jax.models.vae import AutoencoderKL, VAEConfig

UNET = UNetConfig(
    in_channels=3,
    out_channels=3,
    block_out_channels=(32, 64),
    down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
    up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
    layers_per_block=1,
    norm_num_groups=8,
    attention_head_dim=4,
    cross_attention_dim=64,
)
TEXT_ENCODER = CLIPTextConfig(
    vocab_size=514, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4
)
VAE = VAEConfig(
    down_block_types=("DownEncoderBlock2D",) * 2,
    up_block_types=("UpDecoderBlock2D",) * 2,
    block_out_channels=(8, 8),
    latent_channels=3,
    norm_num_groups=1,
    scaling_factor=2.0,
    mid_block_add_attention=False,
)
SCHEDULER = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "epsilon",
    "steps_offset": 1,
    "set_alpha_to_one": False,
    "clip_sample": False,
}


def write_small_checkpoint(directory: Path, seed: int = 0) -> None:
    """Writes the whole checkpoint, about 5 MB of float32; the same bytes for the same seed."""
    rng = np.random.default_rng(seed)
    unet = _random(P.abstract(lambda rngs: UNet(UNET, rngs=rngs))[1], rng)
    text_encoder = _random(P.abstract(lambda rngs: CLIPTextEncoder(TEXT_ENCODER, rngs=rngs))[1], rng)
    models = {
        "unet": (asdict(UNET), unet),
        "vae": (asdict(VAE), vae_by_hand()),
        "text_encoder": (asdict(TEXT_ENCODER), text_encoder),
    }
    save_pipeline(directory, models, SCHEDULER)
    write_byte_tokenizer(directory / "tokenizer")


def _random(shapes: Params, rng: np.random.Generator) -> Params:
    """Weights of variance 1 / fan-in, embeddings of variance 1, and norms that do nothing yet."""

    def draw(path: str, shape: tuple[int, ...]) -> np.ndarray:
        if path.endswith("/scale"):
            return np.ones(shape, np.float32)
        if path.endswith("/bias"):
            return np.zeros(shape, np.float32)
        fan_in = math.prod(shape[:-1]) if path.endswith("/kernel") else 1
        return rng.normal(0, fan_in**-0.5, shape).astype(np.float32)

    return {path: draw(path, leaf.shape) for path, leaf in shapes.items()}


def vae_by_hand() -> Params:
    """Weights with which ``AutoencoderKL`` averages 2x2 pixels on the way in and repeats them on the way out.

    Every residual block is the identity. What is left in the way is the last GroupNorm and SiLU of either half, and two
    constant channels at +A and -A undo them: far larger than the picture, they alone set the standard deviation (A/2
    for 2 of 8 channels); their mean, in the output, is the mean that the norm took away; and a bias of 20 keeps SiLU
    where it is a straight line.
    """
    magnitude, offset, colours, plus, minus = 100.0, 20.0, slice(0, 3), 3, 4
    params = {
        path: np.zeros(leaf.shape, np.float32)
        for path, leaf in P.abstract(lambda rngs: AutoencoderKL(VAE, rngs=rngs))[1].items()
    }
    for path, array in params.items():
        if path.endswith("/scale"):
            array[:] = 1
        elif path.endswith(("sampler/conv/kernel",)):  # pass all channels on as they are
            array[1, 1] = np.eye(8)
    identity = np.eye(3, dtype=np.float32)
    for half in ("encoder", "decoder"):
        params[f"{half}/conv_in/kernel"][1, 1, :3, colours] = identity
        params[f"{half}/conv_in/bias"][[plus, minus]] = magnitude, -magnitude
        deviation = magnitude / 2
        params[f"{half}/conv_norm_out/scale"][:] = deviation
        params[f"{half}/conv_norm_out/scale"][[plus, minus]] = 1
        params[f"{half}/conv_norm_out/bias"][:] = offset
        kernel = params[f"{half}/conv_out/kernel"][1, 1]
        kernel[colours, :3] = identity
        kernel[[plus, minus], :3] = -deviation / 2  # add back the mean
        params[f"{half}/conv_out/bias"][:3] = offset * (deviation - 1)
    downsampler = params["encoder/down_blocks/0/downsampler/conv/kernel"]
    downsampler[:] = 0
    downsampler[:2, :2] = np.eye(8) / 4
    # The log variance of the posterior is the smallest there is.
    params["quant_conv/kernel"][0, 0, :3, :3] = identity
    params["quant_conv/bias"][3:] = -30
    params["post_quant_conv/kernel"][0, 0] = identity
    return params
