"""All of a checkpoint but its weights: what is looked at before the first large file is read."""

from dataclasses import dataclass
from pathlib import Path

from vrwkv_jax.diffusion.schedule import NoiseSchedule
from vrwkv_jax.models.clip_text import CLIPTextConfig
from vrwkv_jax.models.tokenizer import Tokenizer
from vrwkv_jax.models.unet_config import UNetConfig
from vrwkv_jax.models.vae import VAEConfig
from vrwkv_jax.system.errors import UserError


@dataclass(frozen=True)
class Description:
    """What a checkpoint's models are, how it writes prompts, and its noise schedule."""

    unet: UNetConfig
    vae: VAEConfig
    text_encoder: CLIPTextConfig
    tokenizer: Tokenizer
    schedule: NoiseSchedule

    def check_fit(self, path: Path) -> None:
        """Raises UserError where one part of the checkpoint hands to another what that does not take."""
        unet, text, tokenizer = self.unet, self.text_encoder, self.tokenizer
        for what, given, taker, taken in (
            ("the VAE's latent_channels", self.vae.latent_channels, "the U-Net's in_channels", unet.in_channels),
            ("the U-Net's out_channels", unet.out_channels, "its in_channels", unet.in_channels),
            (
                "the text encoder's hidden_size",
                text.hidden_size,
                "the U-Net's cross_attention_dim",
                unet.cross_attention_dim,
            ),
        ):
            if given != taken:
                raise UserError(
                    f"{path}: {what} is {given} but {taker} is {taken}; expected parts of one text-to-image model"
                )
        if tokenizer.vocab_size > text.vocab_size or tokenizer.max_length > text.max_position_embeddings:
            raise UserError(
                f"{path}: the tokenizer makes {tokenizer.max_length} ids below {tokenizer.vocab_size}, but the text "
                f"encoder takes {text.max_position_embeddings} below {text.vocab_size}; expected its own tokenizer"
            )
