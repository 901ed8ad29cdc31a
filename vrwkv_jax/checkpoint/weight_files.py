"""The weights of one model by the names that diffusers and transformers give files, and any one file by its content."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from vrwkv_jax.checkpoint.safetensors_files import SafetensorsFile, is_safetensors
from vrwkv_jax.checkpoint.small_files import check_link, read_json
from vrwkv_jax.checkpoint.tensors import Stored, StoredTensors
from vrwkv_jax.checkpoint.torch_files import TorchFile, is_torch
from vrwkv_jax.checkpoint.unreadable import AGAIN, first_bytes, unreadable
from vrwkv_jax.system.errors import UserError, quoted

STEMS = {  # diffusers' name, and transformers' name
    "safetensors": ("diffusion_pytorch_model", "model"),
    "bin": ("diffusion_pytorch_model", "pytorch_model"),
}
UNNAMED = ("", "fp16")  # the variants that are taken where none is asked for, full precision first
SHARD = r"-\d{5}-of-\d{5}"
SHOWN = 5  # names in an error


def open_tensors(path: Path) -> SafetensorsFile | TorchFile:
    """A single file of weights, in whatever form its content is; its name says nothing.

    Raises:
        UserError: it is not there, damaged, hostile or something else.
    """
    begin = first_bytes(path)
    if is_safetensors(begin):
        return SafetensorsFile(path)
    if is_torch(begin):
        return TorchFile(path)
    raise unreadable(path, "weights", "it is neither safetensors nor a file of torch.save")


class WeightFiles(StoredTensors):
    """Name -> array for the weights in ``directory``: safetensors or else ``.bin``, one file or shards with an index.

    Of each, those in full precision or else those in fp16; or the ``variant`` that is asked for, such as ``non_ema``.

    ``files`` are those that hold them.

    Raises:
        UserError: there are no such weights, or a file is damaged or hostile, or an index leads elsewhere.
    """

    def __init__(self, directory: Path, variant: str | None = None):
        index, self.files = _find(directory, variant)
        stored: dict[str, Stored] = {}
        for file in self.files:
            found = (SafetensorsFile if file.suffix == ".safetensors" else TorchFile)(file).stored
            for name in stored.keys() & found.keys():
                raise UserError(
                    f"{index}: the tensor {quoted(name)} is in two of its shards, {stored[name].file.name} and "
                    f"{file.name}: {AGAIN}"
                )
            stored |= found
        if index is not None:
            _check_index(index, stored)
        super().__init__(stored)


def find(directory: Path, variant: str | None = None) -> list[Path]:
    """The files that hold the weights in ``directory``; UserError where there are none (of that ``variant``)."""
    return _find(directory, variant)[1]


def variants(directory: Path) -> list[str]:
    """Those of which ``directory`` has weights, besides the plain ones."""
    return sorted(set(filter(None, map(_variant_of, os.listdir(directory) if directory.is_dir() else ()))))


def _find(directory: Path, variant: str | None) -> tuple[Path | None, list[Path]]:
    """The index of the shards, if there is one, and the files."""
    for name, index in _names(UNNAMED if variant is None else (variant,)):
        if index and (directory / name).is_file():
            return directory / name, list(_shards(directory / name))
        if (directory / name).is_file():
            return None, [directory / name]
    there = variants(directory)
    if variant is not None or there:
        asked = "in full precision or fp16" if variant is None else f"of the variant {quoted(variant)}"
        raise UserError(
            f"{directory} holds no weights {asked}; there are: {', '.join(there) or 'none of any variant'}"
            + ("" if variant is None else "; name one of these, or none")
        )
    raise UserError(
        f"{directory} holds no weights: expected {STEMS['safetensors'][0]}.safetensors, {STEMS['safetensors'][1]}."
        f"safetensors, {STEMS['bin'][0]}.bin or {STEMS['bin'][1]}.bin, or shards of these with an index"
    )


def _names(variants: tuple[str, ...]) -> Iterator[tuple[str, bool]]:
    """The names that files of weights may have, the best first, and whether it is that of an index of shards."""
    for suffix, stems in STEMS.items():
        for variant in variants:
            dotted = f".{variant}" if variant else ""
            for stem in stems:
                yield f"{stem}{dotted}.{suffix}", False
                yield f"{stem}.{suffix}.index{dotted}.json", True
                yield f"{stem}.{suffix}{dotted}.index.json", True  # as diffusers wrote before 0.23


def _variant_of(name: str) -> str | None:
    stems = "|".join({stem for stems in STEMS.values() for stem in stems})
    found = re.fullmatch(rf"(?:{stems})\.([\w.-]+?)(?:{SHARD})?\.(?:{'|'.join(STEMS)})", name)
    return found[1] if found else None


def _shards(index: Path) -> Iterator[Path]:
    """The files that ``index`` names, each of which must be in its directory."""
    names = set(_weight_map(index).values())
    for name in sorted(names):
        if Path(name).name != name:
            raise UserError(
                f"{index} names the file {quoted(name)}, outside its own directory: the checkpoint is damaged"
            )
        if not os.path.isfile(index.parent / name):  # unlike Path's, it also answers for a name that is too long
            raise UserError(f"{index} names the shard {quoted(name)}, which is not there: {AGAIN}")
        check_link(index.parent / name, index.parent)
        yield index.parent / name


def _weight_map(index: Path) -> dict[str, str]:
    """Name of a tensor -> name of the file that holds it."""
    found = read_json(index).get("weight_map")
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found.values()):
        raise UserError(f"{index} is no index of shards (its weight_map does not lead from names to files): {AGAIN}")
    return found


def _check_index(index: Path, stored: dict[str, Stored]) -> None:
    """Raises ``UserError`` unless the shards hold what the index says of each, and no more."""
    said = _weight_map(index)
    for what, names in (
        ("names tensors that its shards lack", [name for name in said if name not in stored]),
        ("does not name tensors that are in its shards", [name for name in stored if name not in said]),
        (
            "says of tensors another shard than has them",
            [n for n in said if n in stored and stored[n].file.name != said[n]],
        ),
    ):
        if names:
            shown = ", ".join(quoted(name[:100]) for name in names[:SHOWN])
            more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
            raise UserError(f"{index} {what} ({shown}{more}): index and shards are not of one download, get them again")
