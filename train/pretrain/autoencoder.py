"""The VAE of the small model: a latent for four by four pixels."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from train.pretrain.fit import Recipe, fit
from vrwkv_jax.models import params as P
from vrwkv_jax.models.params import Params
from vrwkv_jax.models.vae import AutoencoderKL, VAEConfig
from vrwkv_jax.typing import Array, Float, UInt8

VAE = VAEConfig(
    down_block_types=("DownEncoderBlock2D",) * 3,
    up_block_types=("UpDecoderBlock2D",) * 3,
    block_out_channels=(32, 48, 64),
    layers_per_block=1,
    latent_channels=4,
    norm_num_groups=8,
    mid_block_add_attention=False,
)
CROP = 32  # pixels: most steps see parts of frames, at a quarter of the cost
BATCH = 16
KL_WEIGHT = 1e-3  # keeps latents bounded, and neighbours of a latent alike


def train_vae(
    pictures: UInt8[np.ndarray, "N S S 3"], recipe: Recipe, directory: Path, first: Params | None = None
) -> Params:
    """The moving average of the parameters, which begin with ``first``; nine of ten steps are on crops."""
    graphdef, params = P.split(AutoencoderKL(VAE, rngs=nnx.Rngs(recipe.seed)))
    params = first or params

    def loss(params: Params, images: Float[Array, "B H W 3"], key: Array) -> tuple[Array, dict[str, Array]]:
        vae = P.merge(graphdef, params)
        mean, logvar = vae.encode(images)
        decoded = vae.decode(mean + jnp.exp(logvar / 2) * jax.random.normal(key, mean.shape))
        squared = jnp.mean((decoded - images) ** 2)
        kl = 0.5 * jnp.sum(mean**2 + jnp.exp(logvar) - 1 - logvar) / images.size
        value = jnp.mean(jnp.abs(decoded - images)) + squared + KL_WEIGHT * kl
        return value, {"psnr": 10 * jnp.log10(4 / squared), "kl": kl}

    def batch(rng: np.random.Generator, step: int) -> Float[np.ndarray, "B H W 3"]:
        chosen = pictures[rng.integers(len(pictures), size=BATCH)]
        if step % 10:
            y, x = rng.integers(pictures.shape[1] - CROP + 1, size=2)
            chosen = chosen[:, y : y + CROP, x : x + CROP]
        return chosen.astype(np.float32) / 127.5 - 1

    return fit("autoencoder", params, loss, batch, recipe, directory)
