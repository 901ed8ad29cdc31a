"""What a checkpoint is, what it holds, and whether it can be used, without loading it."""

import math
from collections import Counter
from pathlib import Path

from vrwkv_jax.checkpoint import mixers
from vrwkv_jax.checkpoint.conversion import abstract_models, size_said
from vrwkv_jax.checkpoint.description import Description
from vrwkv_jax.checkpoint.formats.base import WEIGHTS
from vrwkv_jax.checkpoint.formats.registry import format_of
from vrwkv_jax.checkpoint.source import Source
from vrwkv_jax.checkpoint.tensors import DTYPES
from vrwkv_jax.checkpoint.weights_config import WeightsConfig
from vrwkv_jax.system.errors import UserError, setting
from vrwkv_jax.system.shell import in_shell

FAMILIES = {768: "Stable Diffusion 1.x", 1024: "Stable Diffusion 2.x"}
"""By the width of the text that the U-Net looks at."""


def inspect(model: str | Path, weights: WeightsConfig | None = None) -> tuple[list[str], bool]:
    """Lines that say what ``model``, a path or hub id, is and whether it can be used, or why not; and whether."""
    lines: list[str] = []
    try:
        source = Source.find(model, weights)
        lines += _parts(source)
        description = source.describe()
        lines += _description(description)
        lines += [f"  to know        {note}" for note in format_of(source.path, "unet").notes(source.path)]
        source.check(abstract_models(description))
        if video := mixers.config_of(source.path):
            lines.append(f"  mixers         {video.mixer}, tuned on a clip")
            mixers.check(source.path, mixers.added(description.unet, video))
    except UserError as error:
        return [*lines, *f"It can't be used: {error}".splitlines()], False
    weights = source.weights
    given = [("model", source.path), ("variant", weights.variant), ("vae", weights.vae)]
    given += [*(("lora", one) for one in weights.lora), *(("embedding", one) for one in weights.embedding)]
    given += [("prediction_type", weights.prediction_type)]
    settings = " ".join(setting(name, in_shell(value)) for name, value in given if value is not None)
    return [*lines, f"It can be used: {settings}"], True


def _parts(source: Source) -> list[str]:
    lines = [f"{source.path}: {format_of(source.path, 'unet').TITLE.split(' (')[0]}"]
    for part in WEIGHTS:
        tensors = source.tensors(part)
        sizes = {name: math.prod(tensors.shape(name)) for name in tensors}
        dtypes = Counter(tensors.dtype(name) for name in tensors)
        kinds = ", ".join(f"{count} in {DTYPES[dtype]}" for dtype, count in dtypes.most_common())
        size = sum(count * DTYPES[tensors.dtype(name)].itemsize for name, count in sizes.items())
        lines.append(
            f"  {part:14} {len(sizes)} tensors ({kinds}), {sum(sizes.values()) / 1e6:.1f} million numbers, "
            f"{size_said(size)}"
        )
    return lines


def _description(parts: Description) -> list[str]:
    unet, text = parts.unet, parts.text_encoder
    family = FAMILIES.get(unet.cross_attention_dim, "a small model in the layout of Stable Diffusion")
    widths = ", ".join(map(str, unet.block_out_channels))
    return [
        f"  tokenizer      {parts.tokenizer.vocab_size} tokens, prompts of {parts.tokenizer.max_length}",
        f"  scheduler      predicts {parts.schedule.prediction_type}",
        f"It is {family}: a U-Net of {widths} channels, a text encoder of {text.num_hidden_layers} layers and "
        f"{text.hidden_size} channels, a VAE with a place for {parts.vae.downscale} by {parts.vae.downscale} pixels.",
    ]
