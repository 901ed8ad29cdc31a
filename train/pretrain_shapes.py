"""``python -m train.pretrain_shapes``: train the small model that the package ships, from nothing.

Renders frames, trains the VAE on them, then U-Net and text encoder on its latents, and writes a checkpoint in the
diffusers layout. Started again with the same --output it goes on where it was stopped.
"""

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from flax import nnx

from train.pretrain.autoencoder import VAE, train_vae
from train.pretrain.data import frames
from train.pretrain.fit import Recipe
from train.pretrain.text_to_image import SCHEDULER, TEXT_LENGTH, UNET, text_config, train_text_to_image
from vrwkv_jax.checkpoint.save import save_pipeline
from vrwkv_jax.cli import run_cli
from vrwkv_jax.compiled import keep_compiled_programs
from vrwkv_jax.editing.steps import encode_frames
from vrwkv_jax.models import params as P
from vrwkv_jax.models.params import Params
from vrwkv_jax.models.tokenizer import Tokenizer, write_byte_tokenizer
from vrwkv_jax.models.vae import AutoencoderKL

SIZE = 64  # pixels


@dataclass(frozen=True)
class PretrainConfig:
    """Train the small model on the rendered world."""

    output: Path = Path("runs/shapes-model")
    """Directory for the checkpoint; training/ in it holds what is needed to go on after an interruption."""
    frames: int = 40_000
    """Frames to render."""
    vae_steps: int = 5000
    """Steps of 16 frames for the VAE."""
    unet_steps: int = 5000
    """Steps of 32 frames for U-Net and text encoder."""
    seed: int = 0


def main(argv: Sequence[str] | None = None) -> None:
    config = tyro.cli(PretrainConfig, args=argv)
    keep_compiled_programs()
    training = config.output / "training"
    pictures, captions = frames(config.frames, SIZE, config.seed)
    write_byte_tokenizer(config.output / "tokenizer", captions, TEXT_LENGTH)
    tokenizer = Tokenizer.from_pretrained(config.output / "tokenizer")

    recipe = Recipe(config.vae_steps, learning_rate=2e-3, seed=config.seed)
    vae = train_vae(pictures, recipe, training / "vae")
    latents = encode(vae, pictures)
    scaling_factor = 1 / float(latents.std())

    recipe = Recipe(config.unet_steps, learning_rate=1e-3, seed=config.seed)
    ids, empty = tokenizer(captions), tokenizer([""])[0]
    unet, text_encoder = train_text_to_image(
        latents * scaling_factor, ids, empty, tokenizer.vocab_size, recipe, training / "unet"
    )
    models = {
        "unet": (asdict(UNET), half(unet)),
        "vae": (asdict(VAE) | {"scaling_factor": scaling_factor}, half(vae)),
        "text_encoder": (asdict(text_config(tokenizer.vocab_size)), half(text_encoder)),
    }
    save_pipeline(config.output, models, SCHEDULER)
    print(f"wrote {config.output}")


def encode(vae: Params, pictures: np.ndarray) -> np.ndarray:
    """Latents in the VAE's own units."""
    graphdef = P.split(AutoencoderKL(VAE, rngs=nnx.Rngs(0)))[0]
    parts = np.array_split(pictures, -(-len(pictures) // 500))
    unscaled = [np.asarray(encode_frames(graphdef, VAE, vae, part)) / VAE.scaling_factor for part in parts]
    return np.concatenate(unscaled)


def half(params: Params) -> Params:
    """As float16, the form in which checkpoints are passed on."""
    return jax.tree.map(lambda leaf: leaf.astype(jnp.float16), params)


if __name__ == "__main__":
    sys.exit(run_cli(main))
