"""Checkpoints as the original libraries save them, with random weights."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

from tests.torch_weights import randomize
from vrwkv_jax.models.tokenizer import write_byte_tokenizer

CROSS, PLAIN = ("CrossAttnDownBlock2D", "CrossAttnUpBlock2D"), ("DownBlock2D", "UpBlock2D")
UNETS: dict[str, dict[str, Any]] = {
    "sd1": {
        "block_out_channels": (32, 64),
        "attention_head_dim": 8,
        "cross_attention_dim": 40,
        "norm_num_groups": 16,
        "down_block_types": (CROSS[0], PLAIN[0]),
        "up_block_types": (PLAIN[1], CROSS[1]),
        "layers_per_block": 1,
    },
    "sd2": {
        "block_out_channels": (32, 64),
        "attention_head_dim": (2, 4),
        "cross_attention_dim": 40,
        "norm_num_groups": 16,
        "use_linear_projection": True,
        "upcast_attention": True,
        "down_block_types": (CROSS[0], PLAIN[0]),
        "up_block_types": (PLAIN[1], CROSS[1]),
        "layers_per_block": 1,
    },
}
VAE = {
    "block_out_channels": (16, 32),
    "norm_num_groups": 8,
    "down_block_types": ("DownEncoderBlock2D",) * 2,
    "up_block_types": ("UpDecoderBlock2D",) * 2,
}
TEXT = {
    "vocab_size": 514,
    "hidden_size": 40,
    "intermediate_size": 72,
    "num_hidden_layers": 3,
    "num_attention_heads": 5,
    "hidden_act": "quick_gelu",
}
# scheduler/scheduler_config.json of SD 1.5
SCHEDULER = {
    "_class_name": "PNDMScheduler",
    "_diffusers_version": "0.6.0",
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "num_train_timesteps": 1000,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "trained_betas": None,
    "clip_sample": False,
}

Models = dict[str, torch.nn.Module]


def make_models(unet: Mapping = UNETS["sd1"], vae: Mapping = VAE, text: Mapping = TEXT) -> Models:
    """The three models of a pipeline by the names of their directories."""
    with torch.device("meta"):  # the weights are drawn once, not twice
        models = {
            "unet": UNet2DConditionModel(**unet),
            "vae": AutoencoderKL(**vae),
            "text_encoder": CLIPTextModel(CLIPTextConfig(**text)),
        }
    return {name: randomize(_allocate(model), seed) for seed, (name, model) in enumerate(models.items())}


def save_pipeline(directory: Path, models: Models, **options: Any) -> None:
    """Writes the whole directory; ``options`` are those of ``save_pretrained``."""
    for name, model in models.items():
        model.save_pretrained(directory / name, **options)
    write_byte_tokenizer(directory / "tokenizer")
    (directory / "scheduler").mkdir()
    (directory / "scheduler" / "scheduler_config.json").write_text(json.dumps(SCHEDULER))
    (directory / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionPipeline"}))


def _allocate(model: torch.nn.Module) -> torch.nn.Module:
    """``model`` from the meta device to memory; of its buffers, CLIP's positions 0, 1, 2, ... are the only ones."""
    model = model.to_empty(device="cpu")
    for name, buffer in model.named_buffers():
        assert name.endswith("position_ids"), name
        buffer.copy_(torch.arange(buffer.shape[-1]))
    return model
