"""A checkpoint on disk together with what a user wants of it: what all loading goes through."""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import jax

from vrwkv_jax.checkpoint.additions import embedding_and_word, lora_and_scale, open_embeddings, open_loras
from vrwkv_jax.checkpoint.description import Description
from vrwkv_jax.checkpoint.formats.base import WEIGHTS
from vrwkv_jax.checkpoint.formats.registry import format_of
from vrwkv_jax.checkpoint.hub import resolve
from vrwkv_jax.checkpoint.lora import Lora, check_fit, merge
from vrwkv_jax.checkpoint.lora_names import Part
from vrwkv_jax.checkpoint.native import Progress
from vrwkv_jax.checkpoint.tensors import Headers
from vrwkv_jax.checkpoint.textual_inversion import TABLE, Embedding, with_rows, with_words
from vrwkv_jax.checkpoint.torch_tensors import check_tensors
from vrwkv_jax.checkpoint.vae_files import check_replaces, describe_vae, load_vae, vae_tensors, vae_weights
from vrwkv_jax.checkpoint.weights_config import WeightsConfig
from vrwkv_jax.models.params import Params
from vrwkv_jax.system.errors import UserError, setting


@dataclass(frozen=True)
class Source:
    """The checkpoint in ``path``, of any form, of which ``weights`` says what is loaded and what is put on top."""

    path: Path
    weights: WeightsConfig = field(default_factory=WeightsConfig)

    @classmethod
    def find(cls, model: str | Path, weights: WeightsConfig | None = None) -> "Source":
        """What ``model`` names: a path, or a Hugging Face id, whose files are fetched.

        Raises:
            UserError: nothing is there, or it lacks parts of a checkpoint, or the hub did not deliver.
        """
        weights = weights or WeightsConfig()
        return cls(resolve(model, weights.revision, weights.variant), weights)

    def describe(self) -> Description:
        """All of it but the weights.

        Raises:
            UserError: a file is missing or damaged, says what is not supported, or does not fit the others.
        """
        description = with_words(self._plain, self._embeddings) if self._embeddings else self._plain
        if self._vae is not None:
            vae = describe_vae(self._vae)
            check_replaces(description.vae, vae, self._vae)
            description = replace(description, vae=vae)
        description.check_fit(self.path)
        _ = self._loras  # that they are there, and what they should be
        return description

    def check(self, shapes: Mapping[str, Params]) -> None:
        """Raises UserError where what is stored, or put on top, does not fit models with parameters of ``shapes``."""
        for part, abstract in shapes.items():
            check_tensors(self.tensors(part), self._as_stored(part, abstract), f"{self.path} ({part})")
        self.check_additions(shapes)

    def check_additions(self, shapes: Mapping[str, Params]) -> None:
        """Raises UserError where a LoRA does not fit the models with parameters of these ``shapes``."""
        parts: dict[Part, Params] = {"unet": shapes["unet"], "text_encoder": shapes["text_encoder"]}
        check_fit(self._loras, parts)

    def read(
        self, part: str, abstract: Params, dtype: Any = None, *, progress: Progress = lambda count: None
    ) -> Params:
        """The parameters of ``part`` (``unet``, ``vae``, ``text_encoder``), by the paths of ``abstract``.

        Args:
            abstract: path -> anything with a shape.
            dtype: what floating-point arrays are cast to; None keeps that of the file.

        Raises:
            UserError: names every missing, unexpected and wrong-shaped tensor; or says why a file is unreadable.
        """
        if part == "vae" and self._vae is not None:
            return load_vae(self._vae, abstract, dtype, progress=progress)
        if part == "vae":
            return self._read(part, abstract, dtype, progress)
        name: Part = "unet" if part == "unet" else "text_encoder"
        words = self._embeddings if name == "text_encoder" else []
        abstract = self._as_stored(part, abstract)
        if any(name in lora.layers for lora, _ in self._loras):
            # As the file has it, so that what is added to it is rounded once.
            params = merge(self._read(part, abstract, None, progress), self._loras, name, dtype)
            for path in params:
                params[path] = params[path].astype(dtype or params[path].dtype)
        else:
            params = self._read(part, abstract, dtype, progress)
        return with_rows(params, self._plain.tokenizer, words) if words else params

    def _as_stored(self, part: str, abstract: Params) -> Params:
        """``abstract`` without the rows of new words."""
        if part != "text_encoder" or not self._embeddings:
            return abstract
        table = abstract[TABLE]
        shape = (self._plain.text_encoder.vocab_size, *table.shape[1:])
        return abstract | {TABLE: jax.ShapeDtypeStruct(shape, table.dtype)}

    def _read(self, part: str, abstract: Params, dtype: Any, progress: Progress) -> Params:
        return format_of(self.path, part).read(self.path, part, self._variant(part), abstract, dtype, progress)

    @cached_property
    def _plain(self) -> Description:
        """Of the model without what is put on top."""
        return format_of(self.path, "unet").describe(self.path, self.weights.prediction_type)

    @property
    def _vae(self) -> Path | None:
        return None if self.weights.vae is None else Path(os.path.expanduser(self.weights.vae))

    @cached_property
    def _loras(self) -> list[tuple[Lora, float]]:
        return open_loras(self.weights.lora)

    @cached_property
    def _embeddings(self) -> list[Embedding]:
        return open_embeddings(self.weights.embedding)

    def tensors(self, part: str) -> Headers:
        """What is stored of ``part``, by the names that diffusers and transformers give it; nothing is put on top."""
        if part == "vae" and self._vae is not None:
            return vae_tensors(self._vae)
        return format_of(self.path, part).tensors(self.path, part, self._variant(part))

    def _variant(self, part: str) -> str | None:
        """The variant that is asked for, where ``part`` has it; UserError where no part has."""
        variant = self.weights.variant
        if variant is None:
            return None
        there = {name: format_of(self.path, name).variants(self.path, name) for name in WEIGHTS}
        if not any(variant in names for names in there.values()):
            known = sorted({name for names in there.values() for name in names})
            raise UserError(
                f"{self.path} has no weights of the {setting('variant')} {variant}, but "
                f"{', '.join(known) or 'plain ones alone'}: name one of these, or none"
            )
        return variant if variant in there[part] else None

    def inputs(self) -> list[Path]:
        """The files and directories that are read."""
        loras = [lora_and_scale(given)[0] for given in self.weights.lora]
        embeddings = [embedding_and_word(given)[0] for given in self.weights.embedding]
        return [self.path, *([] if self._vae is None else [self._vae]), *loras, *embeddings]

    def changed(self) -> list[str]:
        """The files beside the weights that don't say what this is, because of ``weights``."""
        weights = self.weights
        return [
            name
            for name, changes in (
                ("vae/config.json", weights.vae),
                ("text_encoder/config.json", weights.embedding),
                ("scheduler/scheduler_config.json", weights.prediction_type),
            )
            if changes
        ]

    def sha256(self) -> dict[str, str]:
        """SHA-256 of each file of weights, by what it is called here."""
        files = [
            file
            for part in WEIGHTS
            if part != "vae" or self._vae is None
            for file in format_of(self.path, part).weights(self.path, part, self._variant(part))
        ]
        # Files may be renamed: those of a directory have names that are always the same, others are numbered.
        named = {str(file.relative_to(self.path)) if self.path.is_dir() else "model": file for file in files}
        named |= {f"VAE {n}": file for n, file in enumerate([] if self._vae is None else vae_weights(self._vae), 1)}
        for n, (file, scale) in enumerate(map(lora_and_scale, self.weights.lora), 1):
            named[f"LoRA {n} at {scale:g}"] = file
        for n, (file, word) in enumerate(map(embedding_and_word, self.weights.embedding), 1):
            named[f"embedding {n}" + (f" as {word}" if word else "")] = file
        return {name: _sha256(file) for name, file in named.items()}

    def check_sha256(self, recorded: Mapping[str, str], what: str) -> None:
        """Raises UserError where the weights are not those that ``what``, such as a run, has ``recorded``."""
        found = self.sha256()
        if found == recorded:
            return
        name = next(name for name in (*recorded, *found) if recorded.get(name) != found.get(name))
        before, now = (hashes.get(name, "none")[:12] for hashes in (recorded, found))
        flag = setting({"VAE": "vae", "LoRA": "lora", "embedding": "embedding"}.get(name.split(" ")[0], "model"))
        advice = f"leave out {flag}" if name not in recorded else f"say with {flag} where its own are"
        raise UserError(
            f"{what} was made with other weights than those of {self.path} ({name}: sha256 was {before} and is {now}): "
            f"{advice}"
        )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
