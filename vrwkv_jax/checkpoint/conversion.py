"""A checkpoint, written anew in our format, one model at a time."""

import os
import shutil
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jax.numpy as jnp

from vrwkv_jax.checkpoint import native
from vrwkv_jax.checkpoint.description import Description
from vrwkv_jax.checkpoint.hub import resolve
from vrwkv_jax.checkpoint.load import describe, load_params
from vrwkv_jax.checkpoint.save import save_small_files
from vrwkv_jax.checkpoint.small_files import check_link, read_bytes
from vrwkv_jax.media.files import check_place
from vrwkv_jax.models import params as P
from vrwkv_jax.models.clip_text import CLIPTextEncoder
from vrwkv_jax.models.params import Params
from vrwkv_jax.models.unet import UNet
from vrwkv_jax.models.vae import AutoencoderKL
from vrwkv_jax.system.errors import UserError, not_utf8
from vrwkv_jax.system.reporter import SILENT, Reporter

TOKENIZER_FILES = ("vocab.json", "merges.txt", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
REQUIRED_FILES = (
    "unet/config.json",
    "vae/config.json",
    "text_encoder/config.json",
    "scheduler/scheduler_config.json",
)
OPTIONAL_FILES = ("model_index.json", "tokenizer/added_tokens.json", *(f"tokenizer/{name}" for name in TOKENIZER_FILES))


def convert(
    source: str | Path, destination: str | Path, dtype: str | None = None, *, reporter: Reporter = SILENT
) -> str:
    """Writes the checkpoint ``source`` (path or hub id) to the new directory ``destination`` in our format.

    ``dtype`` is what the weights are stored in; None keeps what they are in. ``reporter`` is told of a stage per model.
    Nothing is left behind when it fails. Returns one line that says what was written.

    Raises:
        UserError: ``destination`` exists or can't be written, or ``source`` is not there, damaged or not supported.
    """
    destination = Path(os.path.expanduser(destination))
    with _new_directory(destination) as part:
        path = resolve(source)
        # All that is small is looked at before the first large file is read.
        description = describe(path)
        models = _abstract_models(description)
        if path.is_dir():
            _copy_small_files(path, part)
        else:
            save_small_files(part, description)
        sizes = [
            _convert_weights(path, name, part / name, abstract, None if dtype is None else jnp.dtype(dtype), reporter)
            for name, abstract in models.items()
        ]
    return f"wrote {destination}: {', '.join(sizes)}, {_size(destination)} in all"


def _abstract_models(parts: Description) -> dict[str, Params]:
    """The parameters that each model of the checkpoint should have, as shapes."""
    return {
        "unet": P.abstract(lambda rngs: UNet(parts.unet, rngs=rngs))[1],
        "vae": P.abstract(lambda rngs: AutoencoderKL(parts.vae, rngs=rngs))[1],
        "text_encoder": P.abstract(lambda rngs: CLIPTextEncoder(parts.text_encoder, rngs=rngs))[1],
    }


def _convert_weights(
    source: Path, part: str, destination: Path, abstract: Params, dtype: jnp.dtype | None, reporter: Reporter
) -> str:
    """Converts one model; returns its name and the type that its weights are stored in."""
    with reporter.stage(part, len(abstract), unit="tensor") as advance:

        def placed(count: int) -> None:
            for _ in range(count):
                advance()

        params = load_params(source, part, abstract, dtype, progress=placed)
        _warn_if_not_finite(source / part, params)
        native.save(destination, params)
    return f"{part} in {' and '.join(sorted({str(array.dtype) for array in params.values()}))}"


def _warn_if_not_finite(source: Path, params: Params) -> None:
    names = [path for path, array in params.items() if not bool(jnp.isfinite(array).all())]
    if names:
        shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        warnings.warn(
            f"{source} holds numbers that are not finite (NaN or infinite), with which nothing can be edited, in "
            f"{len(names)} of {len(params)} tensors: {shown}; get the file again",
            stacklevel=2,
        )


def _copy_small_files(source: Path, destination: Path) -> None:
    """Copies the files that stand beside the weights: known names only, and no link that leads out of ``source``."""
    for name in (*REQUIRED_FILES, *OPTIONAL_FILES):
        file = source / name
        if name in OPTIONAL_FILES and not file.exists():
            continue
        check_link(file, source)
        content = read_bytes(file)
        (destination / name).parent.mkdir(exist_ok=True)
        (destination / name).write_bytes(content)


@contextmanager
def _new_directory(path: Path) -> Iterator[Path]:
    """Gives an empty directory beside ``path``, which takes that name when the block succeeds and else goes away."""
    if not_utf8(str(path)):
        raise UserError(f"{path} is not UTF-8: name another directory")
    if os.path.lexists(path):
        raise UserError(f"{path} exists already: name a directory that does not, or remove it")
    if not os.path.isdir(path.absolute().parent):
        raise UserError(f"{path} can't be written, for there is no folder {path.parent}: create it or name another")
    check_place(path.absolute().parent, "the folder")
    part = path.absolute().with_name(f".{uuid.uuid4().hex}.part")
    try:
        part.mkdir()
        yield part
        part.rename(path)
    except UserError as error:  # which may name a file in there, as what nobody knows it by
        raise UserError(str(error).replace(str(part), str(path))) from error
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise UserError(f"{path} was not written ({reason}): free space or choose another place") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _size(directory: Path) -> str:
    bytes_ = sum(file.stat().st_size for file in directory.rglob("*") if file.is_file())
    return f"{bytes_ / 1e9:.2f} GB" if bytes_ >= 1e9 else f"{bytes_ / 1e6:.1f} MB"
