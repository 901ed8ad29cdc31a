"""The text encoder of Stable Diffusion: the text half of CLIP (Radford et al. 2021, sec. 2.4).

Submodules carry the names of the transformers layout, without its ``text_model``, ``embeddings`` and ``encoder``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from flax import nnx

from vrwkv_jax.models.json_config import from_json
from vrwkv_jax.models.layers import layer_norm
from vrwkv_jax.system.errors import UserError
from vrwkv_jax.typing import Array, Float, Int


@dataclass(frozen=True)
class CLIPTextConfig:
    """What a text encoder's ``config.json`` says; the defaults are those of transformers."""

    vocab_size: int = 49408
    hidden_size: int = 512
    intermediate_size: int = 2048
    num_hidden_layers: int = 12
    num_attention_heads: int = 8
    max_position_embeddings: int = 77
    hidden_act: Literal["quick_gelu", "gelu"] = "quick_gelu"
    layer_norm_eps: float = 1e-5

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], where: str = "text_encoder/config.json") -> "CLIPTextConfig":
        """From the contents of ``where``.

        Raises:
            UserError: a value that is not supported, or values that contradict each other.
        """
        config = from_json(cls, values, where)
        if config.hidden_size % config.num_attention_heads:
            raise UserError(
                f"{where}: hidden_size is {config.hidden_size}; "
                f"expected a multiple of num_attention_heads, which is {config.num_attention_heads}"
            )
        return config


@runtime_checkable
class LayerConfig(Protocol):
    """What the layers of both halves of CLIP are told."""

    @property
    def hidden_size(self) -> int: ...
    @property
    def intermediate_size(self) -> int: ...
    @property
    def num_attention_heads(self) -> int: ...
    @property
    def hidden_act(self) -> str: ...
    @property
    def layer_norm_eps(self) -> float: ...


class CLIPTextEncoder(nnx.Module):
    """Token ids to one vector per token, the ``encoder_hidden_states`` of the U-Net.

    SD 2.x conditions on the last layer but one; its ``config.json`` says so by counting one layer less.
    """

    def __init__(self, config: CLIPTextConfig, *, rngs: nnx.Rngs):
        self.config = config
        self.token_embedding = nnx.Embed(config.vocab_size, config.hidden_size, rngs=rngs)
        self.position_embedding = nnx.Embed(config.max_position_embeddings, config.hidden_size, rngs=rngs)
        self.layers = nnx.List([Layer(config, is_causal=True, rngs=rngs) for _ in range(config.num_hidden_layers)])
        self.final_layer_norm = layer_norm(config.hidden_size, config.layer_norm_eps, rngs=rngs)

    def __call__(self, input_ids: Int[Array, "B L"]) -> Float[Array, "B L E"]:
        """The last hidden state after the final LayerNorm; a token sees itself and those before it, padding included.

        Raises:
            ValueError: more tokens than ``config.max_position_embeddings``.
        """
        length, longest = input_ids.shape[1], self.config.max_position_embeddings
        if length > longest:
            raise ValueError(f"CLIPTextEncoder: {length} tokens, but there are only {longest} position embeddings")
        # not token_embedding(input_ids): nnx.Embed turns weights that were cast to bfloat16 back into float32
        tokens = jnp.take(self.token_embedding.embedding[...], input_ids, axis=0)
        x = tokens + self.position_embedding.embedding[:length]
        for layer in self.layers:
            x = layer(x)
        hidden: Array = self.final_layer_norm(x)
        return hidden


class CLIPTextTower(CLIPTextEncoder):
    """The text encoder with CLIP's projection of a whole text into the space that pictures share with it."""

    def __init__(self, config: CLIPTextConfig, projection_dim: int, *, rngs: nnx.Rngs):
        super().__init__(config, rngs=rngs)
        self.text_projection = nnx.Linear(config.hidden_size, projection_dim, use_bias=False, rngs=rngs)

    def features(self, input_ids: Int[Array, "B L"], ends: Int[Array, " B"]) -> Float[Array, "B P"]:
        """What transformers' ``get_text_features`` gives: the projected state of the end token, at ``ends`` in a row.

        Raises:
            ValueError: more tokens than ``config.max_position_embeddings``.
        """
        hidden = self(input_ids)
        projected: Array = self.text_projection(hidden[jnp.arange(len(hidden)), ends])
        return projected


class Layer(nnx.Module):
    """Self-attention and a two-layer perceptron, each behind a LayerNorm and around a shortcut."""

    def __init__(self, config: LayerConfig, *, is_causal: bool, rngs: nnx.Rngs):
        self.layer_norm1 = layer_norm(config.hidden_size, config.layer_norm_eps, rngs=rngs)
        self.self_attn = Attention(config, is_causal=is_causal, rngs=rngs)
        self.layer_norm2 = layer_norm(config.hidden_size, config.layer_norm_eps, rngs=rngs)
        self.mlp = MLP(config, rngs=rngs)

    def __call__(self, x: Float[Array, "B L E"]) -> Float[Array, "B L E"]:
        x = x + self.self_attn(self.layer_norm1(x))
        return x + self.mlp(self.layer_norm2(x))


class Attention(nnx.Module):
    """Multi-head self-attention, causal in the text; softmax in float32."""

    def __init__(self, config: LayerConfig, *, is_causal: bool, rngs: nnx.Rngs):
        self.heads, self.is_causal = config.num_attention_heads, is_causal
        self.q_proj = nnx.Linear(config.hidden_size, config.hidden_size, rngs=rngs)
        self.k_proj = nnx.Linear(config.hidden_size, config.hidden_size, rngs=rngs)
        self.v_proj = nnx.Linear(config.hidden_size, config.hidden_size, rngs=rngs)
        self.out_proj = nnx.Linear(config.hidden_size, config.hidden_size, rngs=rngs)

    def __call__(self, x: Float[Array, "B L E"]) -> Float[Array, "B L E"]:
        query, key, value = (
            proj(x).reshape(*x.shape[:2], self.heads, -1) for proj in (self.q_proj, self.k_proj, self.v_proj)
        )
        mixed = jax.nn.dot_product_attention(query, key, value, is_causal=self.is_causal)
        return self.out_proj(mixed.reshape(x.shape))


class MLP(nnx.Module):
    """Linear, GELU (exact, or its sigmoid approximation ``quick_gelu``), linear."""

    def __init__(self, config: LayerConfig, *, rngs: nnx.Rngs):
        self.activation = _quick_gelu if config.hidden_act == "quick_gelu" else _gelu
        self.fc1 = nnx.Linear(config.hidden_size, config.intermediate_size, rngs=rngs)
        self.fc2 = nnx.Linear(config.intermediate_size, config.hidden_size, rngs=rngs)

    def __call__(self, x: Float[Array, "B L E"]) -> Float[Array, "B L E"]:
        return self.fc2(self.activation(self.fc1(x)))


def _quick_gelu(x: Array) -> Array:
    return x * jax.nn.sigmoid(1.702 * x)


def _gelu(x: Array) -> Array:  # a plain function: a partial would make every model a different one to jax.jit
    return jax.nn.gelu(x, approximate=False)
