"""LoRA files in memory, in the names of their makers, and what diffusers and peft make of them."""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from transformers import CLIPTokenizer

from tests.checkpoint.pipelines import Models
from vrwkv_jax.checkpoint.torch_names import from_torch, torch_name
from vrwkv_jax.models.params import Params

TYPES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64", torch.int8: "I8"}


class Memory:
    """Tensors of PyTorch as a file of weights has them."""

    def __init__(self, tensors: Mapping[str, torch.Tensor]):
        self.tensors = dict(tensors)

    def __iter__(self) -> Iterator[str]:
        return iter(self.tensors)

    def __getitem__(self, name: str) -> np.ndarray:
        tensor = self.tensors[name]
        return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self.tensors[name].shape)

    def dtype(self, name: str) -> str:
        return TYPES[self.tensors[name].dtype]


Layers = dict[tuple[str, str], tuple[torch.Tensor, torch.Tensor, float]]
"""(part, module in diffusers' or transformers' name) -> down, up, alpha."""


def random_layers(models: Models, chosen: str, *, rank: int = 3, seed: int = 0, alpha: float | None = 1.7) -> Layers:
    """Matrices for all linear layers and convolutions whose name the regular expression ``chosen`` finds.

    Every other layer has one rank more. ``alpha`` None: each layer's is its rank.
    """
    generator = torch.Generator().manual_seed(seed)
    layers: Layers = {}
    for part in ("unet", "text_encoder"):
        for name, module in models[part].named_modules():
            if isinstance(module, torch.nn.Linear | torch.nn.Conv2d) and re.search(chosen, f"{part}.{name}"):
                out, *rest = module.weight.shape
                own = rank + len(layers) % 2
                down = torch.randn(own, *rest, generator=generator) / 4
                up = torch.randn(out, own, *(1 for _ in rest[1:]), generator=generator) / 4
                layers[part, name] = (down, up, own if alpha is None else alpha)
    return layers


def kohya(layers: Layers, rename: Callable[[str], str] = lambda module: module) -> dict[str, torch.Tensor]:
    """As kohya's scripts write it; ``rename`` says what they call a module of the U-Net."""
    tensors = {}
    for (part, module), (down, up, alpha) in layers.items():
        stem = f"lora_unet_{rename(module)}" if part == "unet" else f"lora_te_text_model_{module}"
        stem = stem.replace(".", "_")
        tensors |= {
            f"{stem}.lora_down.weight": down,
            f"{stem}.lora_up.weight": up,
            f"{stem}.alpha": torch.tensor(alpha),
        }
    return tensors


def diffusers(layers: Layers) -> dict[str, torch.Tensor]:
    """As diffusers wrote it before peft."""
    tensors = {}
    for (part, module), (down, up, _) in layers.items():
        stem = f"unet.{module}.lora" if part == "unet" else f"text_encoder.text_model.{module}.lora_linear_layer"
        tensors |= {f"{stem}.down.weight": down, f"{stem}.up.weight": up}
    return tensors


def processors(layers: Layers) -> dict[str, torch.Tensor]:
    """As diffusers wrote it at first: attention processors, here with the prefixes that came later."""
    tensors = {}
    for (part, module), (down, up, _) in layers.items():
        block, _, name = module.removesuffix(".0").rpartition(".")
        name = {"q_proj": "to_q", "k_proj": "to_k", "v_proj": "to_v", "out_proj": "to_out"}.get(name, name)
        middle = "processor." if part == "unet" else ""
        stem = f"{part}.{'text_model.' if part == 'text_encoder' else ''}{block}.{middle}{name}_lora"
        tensors |= {f"{stem}.down.weight": down, f"{stem}.up.weight": up}
    return tensors


def with_peft(layers: Layers, prefix: str = "") -> dict[str, torch.Tensor]:
    """As diffusers writes it today."""
    tensors = {}
    for (part, module), (down, up, _) in layers.items():
        stem = f"{prefix or part + '.'}{module if part == 'unet' else 'text_model.' + module}"
        tensors |= {f"{stem}.lora_A.weight": down, f"{stem}.lora_B.weight": up}
    return tensors


def pipeline(models: Models, tokenizer: CLIPTokenizer | None = None) -> StableDiffusionPipeline:
    """diffusers' pipeline around ``models``."""
    parts: dict[str, Any] = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    return StableDiffusionPipeline(
        **models, tokenizer=tokenizer, scheduler=DDIMScheduler(steps_offset=1, clip_sample=False), **parts
    )


def weights(model: torch.nn.Module, params: Params) -> dict[str, np.ndarray]:
    """The weights of ``model`` in our layout, for those paths of ``params`` that it has."""
    tensors = {name.replace(".base_layer", ""): tensor for name, tensor in model.state_dict().items()}
    return {
        path: from_torch(path, tensors[torch_name(path)].numpy().reshape(_shape(path, leaf.shape)))
        for path, leaf in params.items()
    }


def _shape(path: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    return (shape[1], shape[0]) if path.endswith("/kernel") and len(shape) == 2 else _convolution(shape)


def _convolution(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (shape[3], shape[2], shape[0], shape[1]) if len(shape) == 4 else shape
