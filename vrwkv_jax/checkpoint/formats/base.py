"""What a form of checkpoint must have: how it is recognised, described, read, and which files hold its weights."""

from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from vrwkv_jax.checkpoint.description import Description
from vrwkv_jax.checkpoint.native import Progress
from vrwkv_jax.checkpoint.tensors import Headers
from vrwkv_jax.diffusion.schedule import PredictionType
from vrwkv_jax.models.params import Params

WEIGHTS = ("unet", "vae", "text_encoder")
PARTS = (*WEIGHTS, "tokenizer", "scheduler")


@runtime_checkable
class Format(Protocol):
    """One form, a module with these names. A checkpoint is the path of a directory or of a file.

    Reading never runs code that comes with a checkpoint. What is damaged or not supported ends in a UserError.
    """

    TITLE: str
    """What errors call it, behind "expected"."""

    def recognises(self, checkpoint: Path, part: str) -> bool:
        """Whether ``part``, one of ``PARTS``, is there in this form, damaged or not.

        No two forms say so of a part with weights.
        """

    def describe(self, checkpoint: Path, prediction_type: PredictionType | None = None) -> Description:
        """Configurations, tokenizer and noise schedule, without a look at the weights.

        ``prediction_type`` is what the user says that the U-Net predicts; it stands above what the checkpoint says.
        """

    def notes(self, checkpoint: Path) -> list[str]:
        """What is to be known of it besides its description, in sentences."""

    def variants(self, checkpoint: Path, part: str) -> list[str]:
        """Names of the weights that ``part`` has besides its plain ones."""

    def tensors(self, checkpoint: Path, part: str, variant: str | None) -> Headers:
        """What is stored of ``part``, by the names and in the layout of diffusers and transformers.

        ``variant`` is one of ``variants``, or None for the plain weights.
        """

    def read(
        self, checkpoint: Path, part: str, variant: str | None, abstract: Params, dtype: Any, progress: Progress
    ) -> Params:
        """``Source.read`` of a part in this form."""

    def weights(self, checkpoint: Path, part: str, variant: str | None) -> list[Path]:
        """The files that hold them, in an order that is always the same."""
