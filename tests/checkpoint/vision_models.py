"""Tiny CLIP and DINO models of transformers, saved as their directories on the hub are."""

import json
from pathlib import Path

import torch
from transformers import CLIPConfig, CLIPModel, CLIPVisionConfig, CLIPVisionModelWithProjection, ViTConfig, ViTModel

from tests.torch_weights import randomize
from vrwkv_jax.models.tokenizer import write_byte_tokenizer

TEXT = {"vocab_size": 514, "hidden_size": 20, "intermediate_size": 28, "num_hidden_layers": 2}
TEXT |= {"num_attention_heads": 5, "max_position_embeddings": 77, "eos_token_id": 513}
VISION = {"hidden_size": 18, "intermediate_size": 26, "num_hidden_layers": 2, "num_attention_heads": 3}
VISION |= {"image_size": 21, "patch_size": 7}
PROJECTED = 11


def save_clip(directory: Path) -> CLIPModel:
    config = CLIPConfig(text_config=TEXT, vision_config=VISION, projection_dim=PROJECTED, attn_implementation="eager")
    model = randomize(CLIPModel(config))
    model.save_pretrained(directory)
    write_byte_tokenizer(directory)
    return model


def save_clip_vision(directory: Path) -> CLIPVisionModelWithProjection:
    config = CLIPVisionConfig(**VISION, projection_dim=PROJECTED, attn_implementation="eager")
    model = randomize(CLIPVisionModelWithProjection(config))
    model.save_pretrained(directory)
    return model


def save_dino(directory: Path, **values) -> ViTModel:
    config = ViTConfig(**VISION, attn_implementation="eager", **values)
    model = randomize(ViTModel(config))
    model.save_pretrained(directory)
    return model


def as_bin(directory: Path) -> None:
    """The weights of ``directory`` as a file of ``torch.save`` in the place of safetensors."""
    from safetensors.torch import load_file

    tensors = load_file(directory / "model.safetensors")
    torch.save(tensors, directory / "pytorch_model.bin")
    (directory / "model.safetensors").unlink()


def change_config(directory: Path, **values) -> None:
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
