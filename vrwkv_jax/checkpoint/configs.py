"""Reads the configurations of a checkpoint's models from their config.json files."""

import math
from dataclasses import fields
from pathlib import Path
from typing import Any

from vrwkv_jax.checkpoint.small_files import read_json
from vrwkv_jax.models.clip_text import CLIPTextConfig
from vrwkv_jax.models.json_config import from_json
from vrwkv_jax.models.unet_config import UNetConfig
from vrwkv_jax.models.vae import VAEConfig
from vrwkv_jax.system.errors import UserError, quoted

# The largest numbers that are tried: what Stable Diffusion and its children have, with room. Beyond them, building the
# modules takes minutes before anything could be found amiss.
MOST = {
    "in_channels": 64,
    "out_channels": 64,
    "latent_channels": 64,
    "block_out_channels": 8192,
    "layers_per_block": 3,
    "transformer_layers_per_block": 2,
    "norm_num_groups": 1024,
    "cross_attention_dim": 8192,
    "attention_head_dim": 512,
    "time_cond_proj_dim": 8192,
    "vocab_size": 1_000_000,
    "hidden_size": 8192,
    "intermediate_size": 65_536,
    "num_hidden_layers": 48,
    "num_attention_heads": 512,
    "max_position_embeddings": 4096,
}
LEVELS = 8


def read_configs(path: Path) -> tuple[UNetConfig, VAEConfig, CLIPTextConfig]:
    """The configurations of the U-Net, the VAE and the text encoder of the checkpoint in ``path``.

    Raises:
        UserError: a file is missing or damaged, describes a model of another class, or one that is not possible.
    """
    unet, vae, text_encoder = (path / part / "config.json" for part in ("unet", "vae", "text_encoder"))
    return (
        _unet_config(_read(unet, "UNet2DConditionModel", UNetConfig), str(unet)),
        VAEConfig.from_dict(_read(vae, "AutoencoderKL", VAEConfig), str(vae)),
        CLIPTextConfig.from_dict(_read(text_encoder, "CLIPTextModel", CLIPTextConfig), str(text_encoder)),
    )


def _read(path: Path, class_name: str, config: type) -> dict[str, Any]:
    """The values in ``path``, of the class ``class_name``; numbers in the fields of ``config`` are above 0."""
    values = read_json(path)
    # diffusers writes _class_name, transformers a list with one entry; a file written by hand may have neither
    names = [values["_class_name"]] if "_class_name" in values else values.get("architectures") or [class_name]
    if names != [class_name]:
        raise UserError(
            f"{path} describes {quoted(str(names), plain=True)}, expected {[class_name]}: this is no SD 1.x or 2.x "
            "model"
        )
    for key in {field.name for field in fields(config)} & values.keys() - {"freq_shift", "shift_factor"}:
        entries = values[key] if isinstance(values[key], list) else [values[key]]
        if not entries or any(type(entry) in (int, float) and not 0 < entry < math.inf for entry in entries):
            raise UserError(f"{path}: {key} is {quoted(values[key])}, which is not possible; expected above 0")
        most = MOST.get(key, math.inf)
        if len(entries) > LEVELS or any(type(entry) is int and entry > most for entry in entries):
            expected = f"at most {LEVELS} entries" if len(entries) > LEVELS else f"at most {most}"
            raise UserError(
                f"{path}: {key} is {quoted(values[key])}, which no SD 1.x or 2.x model has; expected {expected}"
            )
    return values


def _unet_config(values: dict[str, Any], where: str) -> UNetConfig:
    config = from_json(UNetConfig, values, where)
    channels, heads = config.block_out_channels, config.num_heads
    for key, entries in (
        ("down_block_types", config.down_block_types),
        ("up_block_types", config.up_block_types),
        ("attention_head_dim", heads),
    ):
        if len(entries) != len(channels):
            raise UserError(
                f"{where}: {key} has {len(entries)} entries and block_out_channels has {len(channels)}; "
                "expected one per resolution"
            )
    for key, divisors in (
        ("norm_num_groups", (config.norm_num_groups,) * len(channels)),
        ("attention_head_dim (the number of heads)", heads),
    ):
        if any(width % divisor for width, divisor in zip(channels, divisors, strict=True)):
            raise UserError(
                f"{where}: block_out_channels is {list(channels)} and {key} is {list(divisors)} at these resolutions; "
                "expected multiples"
            )
    return config
