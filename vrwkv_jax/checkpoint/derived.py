"""Configurations of models from the shapes of their tensors, for files that have no config.json.

The keys are those of config.json. What no shape tells is what all of Stable Diffusion 1.x and 2.x have: GroupNorms of
32 groups, attention of 8 heads or, behind linear projections, of heads of 64 channels.
"""

import re
from collections.abc import Mapping
from typing import Any

from vrwkv_jax.checkpoint.tensors import Tensors
from vrwkv_jax.system.errors import UserError

GROUPS, HEADS, HEAD_CHANNELS = 32, 8, 64
VAE_SCALE = 0.18215


class Shapes:
    """Sizes of tensors by diffusers' names; a UserError that names ``where`` for those that are not there."""

    def __init__(self, tensors: Tensors, where: str):
        self.of = {name: tensors.shape(name) for name in tensors}
        self._where = where

    def size(self, name: str, axis: int) -> int:
        """How long a tensor is along ``axis``."""
        shape = self.of.get(name)
        if shape is None:
            raise UserError(
                f"{self._where} is not complete: it has no {name} (as diffusers calls it); download it again, or get "
                "another file of this model"
            )
        if axis >= len(shape):
            raise UserError(
                f"{self._where}: {name} (as diffusers calls it) has the shape {list(shape)}, as in no model"
            )
        return shape[axis]

    def numbers(self, pattern: str) -> dict[int, set[int]]:
        """The numbers that the second group of ``pattern`` finds in names, by those of its first."""
        found: dict[int, set[int]] = {}
        for name in self.of:
            if match := re.match(pattern, name):
                found.setdefault(int(match[1]), set()).add(int(match[2]))
        return found


def unet_values(shapes: Shapes) -> dict[str, Any]:
    """Of a U-Net."""
    attentions = shapes.numbers(r"down_blocks\.(\d{1,4})\.attentions\.(\d{1,4})\.")
    resnets = shapes.numbers(r"down_blocks\.(\d{1,4})\.resnets\.(\d{1,4})\.")
    levels = range(len(resnets))
    channels = [shapes.size(f"down_blocks.{level}.resnets.0.conv2.weight", 0) for level in levels]
    first = f"down_blocks.{min(attentions, default=0)}.attentions.0"
    is_linear = len(shapes.of.get(f"{first}.proj_in.weight", ())) == 2
    layers = shapes.numbers(rf"{re.escape(first)}\.transformer_blocks\.(\d{{1,4}})\.attn(\d)\.")
    cross = [level in attentions for level in levels]
    return {
        "in_channels": shapes.size("conv_in.weight", 1),
        "out_channels": shapes.size("conv_out.weight", 0),
        "block_out_channels": channels,
        "down_block_types": ["CrossAttnDownBlock2D" if has else "DownBlock2D" for has in cross],
        "up_block_types": ["CrossAttnUpBlock2D" if has else "UpBlock2D" for has in reversed(cross)],
        "layers_per_block": max(map(len, resnets.values()), default=0),
        "transformer_layers_per_block": len(layers),
        "cross_attention_dim": shapes.size(f"{first}.transformer_blocks.0.attn2.to_k.weight", 1),
        "attention_head_dim": [width // HEAD_CHANNELS for width in channels] if is_linear else HEADS,
        "use_linear_projection": is_linear,
        "norm_num_groups": GROUPS,
    }


def vae_values(shapes: Shapes) -> dict[str, Any]:
    """Of a VAE."""
    resnets = shapes.numbers(r"encoder\.down_blocks\.(\d{1,4})\.resnets\.(\d{1,4})\.")
    channels = [shapes.size(f"encoder.down_blocks.{level}.resnets.0.conv2.weight", 0) for level in range(len(resnets))]
    return {
        "in_channels": shapes.size("encoder.conv_in.weight", 1),
        "out_channels": shapes.size("decoder.conv_out.weight", 0),
        "latent_channels": shapes.size("decoder.conv_in.weight", 1),
        "block_out_channels": channels,
        "down_block_types": ["DownEncoderBlock2D"] * len(channels),
        "up_block_types": ["UpDecoderBlock2D"] * len(channels),
        "layers_per_block": max(map(len, resnets.values()), default=0),
        "mid_block_add_attention": "encoder.mid_block.attentions.0.group_norm.weight" in shapes.of,
        "use_quant_conv": "quant_conv.weight" in shapes.of,
        "use_post_quant_conv": "post_quant_conv.weight" in shapes.of,
        "norm_num_groups": GROUPS,
        "scaling_factor": VAE_SCALE,
    }


def text_values(shapes: Shapes, *, open_clip: bool) -> dict[str, Any]:
    """Of a text encoder; OpenCLIP's has the exact GELU, OpenAI's an approximation."""
    width = shapes.size("embeddings.token_embedding.weight", 1)
    return {
        "vocab_size": shapes.size("embeddings.token_embedding.weight", 0),
        "max_position_embeddings": shapes.size("embeddings.position_embedding.weight", 0),
        "hidden_size": width,
        "intermediate_size": shapes.size("encoder.layers.0.mlp.fc1.weight", 0),
        "num_hidden_layers": len(shapes.numbers(r"encoder\.layers\.(\d{1,4})\.layer_norm([12])\.")),
        "num_attention_heads": width // HEAD_CHANNELS,
        "hidden_act": "gelu" if open_clip else "quick_gelu",
    }


def prediction_of(metadata: Mapping[str, str]) -> str | None:
    """The prediction type that a safetensors header names, by https://github.com/Stability-AI/ModelSpec, or None."""
    kind, model = (metadata.get(f"modelspec.{key}", "").lower() for key in ("prediction_type", "architecture"))
    if kind in ("v", "v_prediction", "epsilon", "eps"):
        return "v_prediction" if kind[0] == "v" else "epsilon"
    ends = {"stable-diffusion-v2-768-v": "v_prediction", "stable-diffusion-v2-512": "epsilon"}
    return ends.get(model)
