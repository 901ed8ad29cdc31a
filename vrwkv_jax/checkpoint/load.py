"""Reads a checkpoint of any form: first all that is small, then the parameters of one part after the other."""

from pathlib import Path
from typing import Any

from vrwkv_jax.checkpoint.description import Description
from vrwkv_jax.checkpoint.formats.registry import format_of
from vrwkv_jax.checkpoint.native import Progress
from vrwkv_jax.diffusion.schedule import PredictionType
from vrwkv_jax.models.params import Params


def describe(checkpoint: Path, prediction_type: PredictionType | None = None) -> Description:
    """All of ``checkpoint`` but its weights.

    ``prediction_type`` stands above what the checkpoint says its U-Net predicts; None: as it says.

    Raises:
        UserError: a file is missing or damaged, says what is not supported, or does not fit the others.
    """
    description = format_of(checkpoint, "unet").describe(checkpoint, prediction_type)
    description.check_fit(checkpoint)
    return description


def load_params(
    checkpoint: Path, part: str, abstract: Params, dtype: Any = None, *, progress: Progress = lambda count: None
) -> Params:
    """The parameters of ``part`` (``unet``, ``vae``, ``text_encoder``), by the paths of ``abstract``.

    Args:
        abstract: path -> anything with a shape.
        dtype: what floating-point arrays are cast to; None keeps that of the file.

    Raises:
        UserError: names every missing, unexpected and wrong-shaped tensor at once; or says why a file is unreadable.
    """
    return format_of(checkpoint, part).read(checkpoint, part, abstract, dtype, progress)
