"""All of a checkpoint but its weights: what is looked at before the first large file is read."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

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
    scheduler: Mapping[str, Any]
    """What ``scheduler_config.json`` says, or would."""

    @cached_property
    def schedule(self) -> NoiseSchedule:
        """The noise schedule of ``scheduler``; UserError where it is not possible, or not supported."""
        return NoiseSchedule.from_config(self.scheduler)

    def check_fit(self, path: Path) -> None:
        """Raises UserError where one part of the checkpoint hands to another what that does not take."""
        unet, text, tokenizer, _ = self.unet, self.text_encoder, self.tokenizer, self.schedule
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
