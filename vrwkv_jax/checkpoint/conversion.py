"""A checkpoint, written anew in our format or in the diffusers layout, one model at a time."""

import os
import warnings
from functools import partial
from pathlib import Path
from typing import Literal

import jax.numpy as jnp

from vrwkv_jax.checkpoint import mixers, native
from vrwkv_jax.checkpoint.description import Description
from vrwkv_jax.checkpoint.model_files import write_model_files
from vrwkv_jax.checkpoint.save import save_weights
from vrwkv_jax.checkpoint.small_files import read_bytes
from vrwkv_jax.checkpoint.source import Source
from vrwkv_jax.checkpoint.target import CARD, check_apart, new_checkpoint
from vrwkv_jax.checkpoint.weights_config import WeightsConfig
from vrwkv_jax.models import params as P
from vrwkv_jax.models.clip_text import CLIPTextEncoder
from vrwkv_jax.models.params import Params
from vrwkv_jax.models.unet import UNet
from vrwkv_jax.models.vae import AutoencoderKL
from vrwkv_jax.system.reporter import SILENT, Reporter

Target = Literal["converted", "diffusers"]
"""The forms that are written, by their names in ``FORMATS``."""
Stored = Literal["bfloat16", "float16", "float32"]


def convert(
    source: str | Path,
    destination: str | Path,
    dtype: Stored | None = None,
    *,
    to: Target = "converted",
    weights: WeightsConfig | None = None,
    overwrite: bool = False,
    reporter: Reporter = SILENT,
) -> str:
    """Writes the checkpoint ``source`` (path or hub id) to the new directory ``destination``.

    Nothing is left behind when it fails. Returns one line that says what was written.

    Args:
        dtype: what the weights are stored in; None keeps what they are in.
        to: the form that is written.
        weights: which of the weights, and what is merged into them.
        overwrite: a checkpoint in ``destination`` goes away when the new one is whole.
        reporter: is told of a stage per model.

    Raises:
        UserError: ``destination`` exists or can't be written, or ``source`` is not there, damaged or not supported.
    """
    destination = Path(os.path.expanduser(destination))
    with new_checkpoint(destination, overwrite=overwrite) as part:
        found = Source.find(source, weights)
        check_apart(destination, found.inputs())
        # All that is small is looked at before the first large file is read.
        description = found.describe()
        sizes = write_models(found, description, part, dtype=dtype, to=to, reporter=reporter)
        if video := mixers.config_of(found.path):
            mixers.save(part, video, mixers.read(found.path, mixers.added(description.unet, video)))
            if (found.path / CARD).is_file():
                (part / CARD).write_bytes(read_bytes(found.path / CARD))
            sizes.append("mixers")
    return f"wrote {destination}: {', '.join(sizes)}, {_size(destination)} in all"


def write_models(
    source: Source,
    description: Description,
    directory: Path,
    *,
    dtype: Stored | None = None,
    to: Target = "diffusers",
    tuned: Params | None = None,
    reporter: Reporter,
) -> list[str]:
    """Writes all of ``source`` but for mixers into ``directory``; returns what each model is stored in.

    ``tuned`` are parameters of the U-Net that stand in the place of its own; for the rest see ``convert``.
    """
    models = abstract_models(description)
    source.check_additions(models)
    write_model_files(source, description, directory)
    linear = description.unet.use_linear_projection
    write = native.save if to == "converted" else partial(save_weights, linear_projection=linear)
    stored = []
    for name, abstract in models.items():
        params = _read(source, name, abstract, dtype, reporter) | ((tuned or {}) if name == "unet" else {})
        write(directory / name, params)
        stored.append(f"{name} in {' and '.join(sorted({str(array.dtype) for array in params.values()}))}")
    return stored


def abstract_models(parts: Description) -> dict[str, Params]:
    """The parameters that each model of the checkpoint should have, as shapes."""
    return {
        "unet": P.described(UNet, parts.unet)[1],
        "vae": P.described(AutoencoderKL, parts.vae)[1],
        "text_encoder": P.described(CLIPTextEncoder, parts.text_encoder)[1],
    }


def _read(source: Source, part: str, abstract: Params, dtype: Stored | None, reporter: Reporter) -> Params:
    """The parameters of ``part``, with a warning where they are of no use; ``dtype`` as for ``convert``."""
    with reporter.stage(part, len(abstract), unit="tensor") as advance:

        def placed(count: int) -> None:
            for _ in range(count):
                advance()

        params = source.read(part, abstract, dtype and jnp.dtype(dtype), progress=placed)
        _warn_if_not_finite(source.path / part, params)
    return params


def _warn_if_not_finite(source: Path, params: Params) -> None:
    names = [path for path, array in params.items() if not bool(jnp.isfinite(array).all())]
    if names:
        shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        warnings.warn(
            f"{source} holds numbers that are not finite (NaN or infinite), with which nothing can be edited, in "
            f"{len(names)} of {len(params)} tensors: {shown}; get the file again",
            stacklevel=2,
        )


def _size(directory: Path) -> str:
    return size_said(sum(file.stat().st_size for file in directory.rglob("*") if file.is_file()))


def size_said(bytes_: int) -> str:
    """In the unit that suits it."""
    return f"{bytes_ / 1e9:.2f} GB" if bytes_ >= 1e9 else f"{bytes_ / 1e6:.1f} MB"
