"""Which of a model's weights are loaded, and what is put on top of them."""

from dataclasses import dataclass
from typing import Annotated, get_args

from tyro.conf import UseAppendAction, arg

from vrwkv_jax.diffusion.schedule import PredictionType
from vrwkv_jax.system.checks import check_fields, default_shown, distinct, optional, text

Word = Annotated[str | None, arg(metavar="NAME", help_behavior_hint=default_shown)]

PREDICTIONS = f"{{{','.join(get_args(PredictionType))}}}"


@dataclass(frozen=True)
class WeightsConfig:
    """Which of the model's weights are loaded, and what is put on top of them."""

    revision: Word = None
    """Branch, tag or commit of a Hugging Face repository. Not set: its main branch."""
    variant: Word = None
    """Weights that the model has beside its plain ones, such as fp16, non_ema or ema. Not set: the plain ones."""
    vae: Annotated[str | None, arg(metavar="PATH", help_behavior_hint=default_shown)] = None
    """VAE in place of the model's own: a directory in the diffusers layout, or a single file."""
    lora: Annotated[UseAppendAction[tuple[str, ...]], arg(metavar="FILE[:SCALE]")] = ()
    """LoRA that is merged into the weights, at a scale of 1 if none is said. Give it once for each LoRA."""
    embedding: Annotated[UseAppendAction[tuple[str, ...]], arg(metavar="FILE[:WORD]")] = ()
    """Textual inversion, which prompts name by WORD, or by the word in the file. Give it once for each."""
    prediction_type: Annotated[PredictionType | None, arg(metavar=PREDICTIONS, help_behavior_hint=default_shown)] = None
    """What the U-Net predicts, where the model's files say nothing of it or are wrong. Not set: what they say."""

    def __post_init__(self) -> None:
        check_fields(
            self,
            revision=optional(text),
            variant=optional(text),
            vae=optional(text),
            lora=distinct(text),
            embedding=distinct(text),
        )
