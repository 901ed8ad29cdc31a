"""The image half of CLIP (Radford et al. 2021), and DINO (Caron et al. 2021), a vision transformer of the same layers.

Submodules carry the names of the transformers layout of CLIP, without its ``vision_model``, ``embeddings`` and
``encoder``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import jax.numpy as jnp
from flax import nnx

from vrwkv_jax.models.clip_text import Layer
from vrwkv_jax.models.json_config import from_json
from vrwkv_jax.models.layers import layer_norm
from vrwkv_jax.system.errors import UserError
from vrwkv_jax.typing import Array, Float


@dataclass(frozen=True)
class CLIPVisionConfig:
    """What CLIP's ``config.json`` says of the image encoder; the defaults are those of transformers."""

    hidden_size: int = 768
    intermediate_size: int = 3072
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    num_channels: Literal[3] = 3
    image_size: int = 224
    patch_size: int = 32
    hidden_act: Literal["quick_gelu", "gelu"] = "quick_gelu"
    layer_norm_eps: float = 1e-5

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], where: str = "config.json") -> "CLIPVisionConfig":
        """From the contents of ``where``.

        Raises:
            UserError: a value that is not supported, or values that contradict each other.
        """
        return _checked(from_json(cls, values, where), where)


@dataclass(frozen=True)
class DINOConfig:
    """What the ``config.json`` of transformers' ``ViTModel`` says, such as of facebook/dino-vits16; its defaults."""

    hidden_size: int = 768
    intermediate_size: int = 3072
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    num_channels: Literal[3] = 3
    image_size: int = 224
    patch_size: int = 16
    hidden_act: Literal["gelu"] = "gelu"
    layer_norm_eps: float = 1e-12
    qkv_bias: Literal[True] = True

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], where: str = "config.json") -> "DINOConfig":
        """As ``CLIPVisionConfig.from_dict``."""
        return _checked(from_json(cls, values, where), where)


Config = TypeVar("Config", CLIPVisionConfig, DINOConfig)


def _checked(config: Config, where: str) -> Config:
    for key, unit in (("hidden_size", "num_attention_heads"), ("image_size", "patch_size")):
        if getattr(config, key) % getattr(config, unit):
            raise UserError(
                f"{where}: {key} is {getattr(config, key)}; expected a multiple of {unit}, which is "
                f"{getattr(config, unit)}"
            )
    return config


class VisionTransformer(nnx.Module):
    """Pictures to one vector each: the class token behind all layers (Dosovitskiy et al. 2021, eq. 1 to 4)."""

    def __init__(self, config: CLIPVisionConfig | DINOConfig, *, patch_bias: bool, rngs: nnx.Rngs):
        width, patch = config.hidden_size, config.patch_size
        self.config = config
        self.class_embedding = nnx.Param(jnp.zeros(width))
        self.patch_embedding = nnx.Conv(
            3, width, (patch, patch), (patch, patch), padding="VALID", use_bias=patch_bias, rngs=rngs
        )
        self.position_embedding = nnx.Embed(1 + (config.image_size // patch) ** 2, width, rngs=rngs)
        self.layers = nnx.List([Layer(config, is_causal=False, rngs=rngs) for _ in range(config.num_hidden_layers)])
        self.post_layernorm = layer_norm(width, config.layer_norm_eps, rngs=rngs)

    def __call__(self, pictures: Float[Array, "B S S 3"]) -> Float[Array, "B E"]:
        """``pictures`` are normalised, and of the size that ``config`` says."""
        patches = self.patch_embedding(pictures).reshape(len(pictures), -1, self.config.hidden_size)
        first = jnp.broadcast_to(self.class_embedding[...], (len(pictures), 1, self.config.hidden_size))
        x = self.normed(jnp.concatenate([first, patches], axis=1) + self.position_embedding.embedding[...])
        for layer in self.layers:
            x = layer(x)
        pooled: Array = self.post_layernorm(x[:, 0])
        return pooled

    def normed(self, embeddings: Float[Array, "B T E"]) -> Float[Array, "B T E"]:
        """What the first layer is given."""
        return embeddings


class CLIPVisionTower(VisionTransformer):
    """With a LayerNorm before the layers, and CLIP's projection into the space that texts share with pictures."""

    def __init__(self, config: CLIPVisionConfig, projection_dim: int, *, rngs: nnx.Rngs):
        super().__init__(config, patch_bias=False, rngs=rngs)
        self.pre_layernorm = layer_norm(config.hidden_size, config.layer_norm_eps, rngs=rngs)
        self.visual_projection = nnx.Linear(config.hidden_size, projection_dim, use_bias=False, rngs=rngs)

    def normed(self, embeddings: Float[Array, "B T E"]) -> Float[Array, "B T E"]:
        normed: Array = self.pre_layernorm(embeddings)
        return normed

    def features(self, pictures: Float[Array, "B S S 3"]) -> Float[Array, "B P"]:
        """What transformers' ``get_image_features`` gives."""
        projected: Array = self.visual_projection(self(pictures))
        return projected


class DINO(VisionTransformer):
    """DINO's student or teacher without its head."""

    def __init__(self, config: DINOConfig, *, rngs: nnx.Rngs):
        super().__init__(config, patch_bias=True, rngs=rngs)

    def features(self, pictures: Float[Array, "B S S 3"]) -> Float[Array, "B E"]:
        """The class token of transformers' ``last_hidden_state``, which is what DINO's own code gives."""
        return self(pictures)
