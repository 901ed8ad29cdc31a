"""Self-attention of the edit by the source's queries and keys, which keeps the layout."""

from dataclasses import dataclass

from vrwkv_jax.editing.controls.base import Settings, SourceInPlace
from vrwkv_jax.system.checks import Rule, between, distinct, text


@dataclass(frozen=True)
class SelfAttentionSettings(Settings):
    self_attention: float = 0.0
    """Share of the steps in which self-attention uses the source's queries and keys."""
    self_attention_layers: tuple[str, ...] = ("up_blocks",)
    """Where in the U-Net, such as up_blocks or up_blocks/1/attentions/0."""

    def rules(self) -> dict[str, Rule]:
        return super().rules() | {"self_attention": between(0, 1), "self_attention_layers": distinct(text)}


SELF_ATTENTION = SourceInPlace("self_attention", share="self_attention", layers="self_attention_layers")
