"""Checkpoints in the layout of Stable Diffusion's own repository, written from diffusers' models by hand."""

import re
from collections.abc import Mapping
from typing import Any

import torch

from tests.checkpoint.pipelines import CROSS, PLAIN, UNETS, Models, make_models

LEVELS = {
    "block_out_channels": (64, 64, 128),
    "norm_num_groups": 32,
    "cross_attention_dim": 64,
    "layers_per_block": 2,
    "down_block_types": (CROSS[0], CROSS[0], PLAIN[0]),
    "up_block_types": (PLAIN[1], CROSS[1], CROSS[1]),
}
UNET = {  # pipelines' one has a layer and two levels
    "sd1": UNETS["sd1"] | LEVELS,
    "sd2": UNETS["sd2"]
    | {"block_out_channels": (64, 128), "attention_head_dim": (1, 2), "norm_num_groups": 32, "cross_attention_dim": 64},
}
VAE = {
    "block_out_channels": (32, 32, 64),
    "norm_num_groups": 32,
    "layers_per_block": 2,
    "down_block_types": ("DownEncoderBlock2D",) * 3,
    "up_block_types": ("UpDecoderBlock2D",) * 3,
}
TEXT = {
    "vocab_size": 49408,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 1,
    "hidden_act": "quick_gelu",
}
Tensors = dict[str, torch.Tensor]


def models(family: str) -> Models:
    """The three models of a small Stable Diffusion 1 or 2 (``sd1``, ``sd2``)."""
    return make_models(UNET[family], VAE, TEXT | {"hidden_act": "quick_gelu" if family == "sd1" else "gelu"})


def checkpoint(made: Models, family: str) -> Tensors:
    """All of a file."""
    text = clip(made["text_encoder"]) if family == "sd1" else open_clip(made["text_encoder"])
    other = {"alphas_cumprod": torch.linspace(1, 0, 1000), "model_ema.num_updates": torch.tensor(5)}
    other |= {name: torch.zeros(1000) for name in ("betas", "logvar", "denoiser.sigmas")}
    return prefixed("model.diffusion_model.", unet(made["unet"])) | vae_in_whole(made["vae"]) | text | other


def prefixed(prefix: str, tensors: Tensors) -> Tensors:
    return {f"{prefix}{name}": tensor for name, tensor in tensors.items()}


def vae_in_whole(model: torch.nn.Module) -> Tensors:
    return prefixed("first_stage_model.", vae(model) | {"loss.logvar": torch.zeros(())})


def unet(model: Any) -> Tensors:
    """diffusers' U-Net by the numbers of blocks: input 0 is the first convolution, each level ends in a downsampler."""
    config = model.config
    layers, levels = config.layers_per_block, len(config.block_out_channels)
    once = {
        "conv_in": "input_blocks.0.0",
        "time_embedding.linear_1": "time_embed.0",
        "time_embedding.linear_2": "time_embed.2",
        "conv_norm_out": "out.0",
        "conv_out": "out.2",
        "mid_block.resnets.0": "middle_block.0",
        "mid_block.attentions.0": "middle_block.1",
        "mid_block.resnets.1": "middle_block.2",
    }
    for level in range(levels):
        for layer in range(layers):
            block = 1 + level * (layers + 1) + layer
            once[f"down_blocks.{level}.resnets.{layer}"] = f"input_blocks.{block}.0"
            once[f"down_blocks.{level}.attentions.{layer}"] = f"input_blocks.{block}.1"
        once[f"down_blocks.{level}.downsamplers.0.conv"] = f"input_blocks.{(level + 1) * (layers + 1)}.0.op"
        for layer in range(layers + 1):
            block = level * (layers + 1) + layer
            once[f"up_blocks.{level}.resnets.{layer}"] = f"output_blocks.{block}.0"
            once[f"up_blocks.{level}.attentions.{layer}"] = f"output_blocks.{block}.1"
        place = 2 if config.up_block_types[level] == CROSS[1] else 1
        once[f"up_blocks.{level}.upsamplers.0"] = f"output_blocks.{level * (layers + 1) + layers}.{place}"
    inside = {
        ".norm1.": ".in_layers.0.",
        ".conv1.": ".in_layers.2.",
        ".time_emb_proj.": ".emb_layers.1.",
        ".norm2.": ".out_layers.0.",
        ".conv2.": ".out_layers.3.",
        ".conv_shortcut.": ".skip_connection.",
    }
    result = {}
    for name, tensor in model.state_dict().items():
        place = max((place for place in once if name.startswith(f"{place}.")), key=len)
        rest = name[len(place) :]
        if ".resnets." in name:
            for ours, theirs in inside.items():
                rest = rest.replace(ours, theirs)
        result[once[place] + rest] = tensor
    return result


def vae(model: Any) -> Tensors:
    """diffusers' VAE by the names of its first repository, with attention as convolutions of size 1."""
    levels, result = len(model.config.block_out_channels), {}
    for name, tensor in model.state_dict().items():
        name = re.sub(r"encoder\.down_blocks\.(\d+)\.resnets", r"encoder.down.\1.block", name)
        name = re.sub(r"encoder\.down_blocks\.(\d+)\.downsamplers\.0", r"encoder.down.\1.downsample", name)
        for level in range(levels):
            name = name.replace(f"decoder.up_blocks.{level}.resnets", f"decoder.up.{levels - 1 - level}.block")
            name = name.replace(f"decoder.up_blocks.{level}.upsamplers.0", f"decoder.up.{levels - 1 - level}.upsample")
        name = name.replace("mid_block.resnets.0", "mid.block_1").replace("mid_block.resnets.1", "mid.block_2")
        name = name.replace("conv_shortcut", "nin_shortcut").replace("conv_norm_out", "norm_out")
        if "mid_block.attentions.0" in name:
            name = name.replace("mid_block.attentions.0", "mid.attn_1").replace("group_norm", "norm")
            name = re.sub(r"to_([qkv])", r"\1", name).replace("to_out.0", "proj_out")
            tensor = tensor[:, :, None, None] if tensor.ndim == 2 else tensor
        result[name] = tensor
    return result


def clip(model: torch.nn.Module) -> Tensors:
    """transformers' text encoder as Stable Diffusion 1 has it."""
    own = {f"text_model.{name.removeprefix('text_model.')}": tensor for name, tensor in model.state_dict().items()}
    own["text_model.embeddings.position_ids"] = torch.arange(77)[None]
    return prefixed("cond_stage_model.transformer.", own)


def open_clip(model: Any) -> Tensors:
    """transformers' text encoder as OpenCLIP's, with what only the half for pictures needs."""
    state = {name.removeprefix("text_model."): tensor for name, tensor in model.state_dict().items()}
    result = {
        "positional_embedding": state["embeddings.position_embedding.weight"],
        "token_embedding.weight": state["embeddings.token_embedding.weight"],
        "ln_final.weight": state["final_layer_norm.weight"],
        "ln_final.bias": state["final_layer_norm.bias"],
        "text_projection": torch.eye(model.config.hidden_size),
        "logit_scale": torch.tensor(4.6),
    }
    inside = {"layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj"}
    inside["self_attn.out_proj"] = "attn.out_proj"
    for layer in range(model.config.num_hidden_layers):
        ours, theirs = f"encoder.layers.{layer}", f"transformer.resblocks.{layer}"
        for leaf in ("weight", "bias"):
            for mine, other in inside.items():
                result[f"{theirs}.{other}.{leaf}"] = state[f"{ours}.{mine}.{leaf}"]
            joint = [state[f"{ours}.self_attn.{letter}_proj.{leaf}"] for letter in "qkv"]
            result[f"{theirs}.attn.in_proj_{leaf}"] = torch.cat(joint)
    return prefixed("cond_stage_model.model.", result)


def averaged(tensors: Mapping[str, torch.Tensor]) -> Tensors:
    """The U-Net's tensors among ``tensors`` under the names of their averages (EMA), which have no dots."""
    return {
        f"model_ema.{name.removeprefix('model.').replace('.', '')}": tensor
        for name, tensor in tensors.items()
        if name.startswith("model.diffusion_model.")
    }
