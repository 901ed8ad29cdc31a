"""What stands beside a LoRA of peft or diffusers about its scale: adapter_config.json, or the header of the file."""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vrwkv_jax.checkpoint.lora_names import Part
from vrwkv_jax.checkpoint.small_files import read_json
from vrwkv_jax.system.errors import UserError, quoted

BESIDE = "adapter_config.json"
LARGEST = 1e6  # an alpha is of the size of a rank
IN_HEADER = "lora_adapter_metadata"
PARTS: tuple[Part, ...] = ("unet", "text_encoder")


@dataclass(frozen=True)
class Adapter:
    """peft's ``LoraConfig``, as far as it says by what a product of matrices is multiplied."""

    alpha: float
    by_root_of_rank: bool = False
    alphas: Mapping[str, float] = field(default_factory=dict)
    """Of single modules, by the ends of their names with ``_`` for ``.``, or by ``^`` and the whole name."""

    def factor(self, module: str, rank: int) -> float:
        """What ``up @ down`` of ``module`` (with ``_`` for ``.``) is multiplied by."""
        own = (alpha for end, alpha in self.alphas.items() if end == f"^{module}" or f"_{module}".endswith(f"_{end}"))
        alpha = next(own, self.alpha)
        return alpha / (math.sqrt(rank) if self.by_root_of_rank else rank)


def read_adapters(file: Path, notes: Mapping[str, str]) -> dict[Part, Adapter]:
    """What is said of the LoRA in ``file``, of each part of the model; empty where nothing is.

    peft writes ``adapter_config.json`` beside ``adapter_model``; diffusers the same into the ``notes`` of safetensors.

    Raises:
        UserError: it is damaged, or describes an adapter that is no LoRA.
    """
    beside = file.parent / BESIDE
    if file.stem == "adapter_model" and beside.exists():
        adapter = _adapter(read_json(beside), str(beside))
        return {part: adapter for part in PARTS}
    try:
        values = json.loads(notes.get(IN_HEADER, "{}"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file} has no JSON as {IN_HEADER} ({error}): download or copy it again") from error
    if not isinstance(values, dict):
        raise UserError(f"{file} has {quoted(values)} as {IN_HEADER}, expected a JSON object: download it again")
    found: dict[Part, Adapter] = {}
    for part in PARTS:
        own = {key.removeprefix(f"{part}."): value for key, value in values.items() if key.startswith(f"{part}.")}
        if own:
            found[part] = _adapter(own, f"{file} ({IN_HEADER} of {part})")
    return found


def _adapter(values: Mapping[str, Any], where: str) -> Adapter:
    kind = values.get("peft_type", "LORA")
    if kind != "LORA":
        raise UserError(f"{where}: peft_type is {quoted(kind)}, which is not read; expected 'LORA'")
    if values.get("use_dora"):
        raise UserError(f"{where}: use_dora is set, and DoRA is not read; expected a LoRA without it")
    patterns = values.get("alpha_pattern") or {}
    if not isinstance(patterns, dict):
        raise UserError(f"{where}: alpha_pattern is {quoted(patterns)}; expected modules with their alphas")
    for name in patterns:  # peft takes them for regular expressions, with which a file could keep us busy for ever
        if not re.fullmatch(r"\^?[\w.]+", name):
            raise UserError(f"{where}: alpha_pattern has {quoted(name)}; expected the plain name of a module")
    alphas = {
        name.replace("text_model.", "").replace(".", "_"): _number(alpha, f"alpha_pattern of {name}", where)
        for name, alpha in patterns.items()
    }
    return Adapter(_number(values.get("lora_alpha"), "lora_alpha", where), bool(values.get("use_rslora")), alphas)


def _number(value: object, what: str, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= LARGEST:
        raise UserError(f"{where}: {what} is {quoted(value)}; expected a number")
    return float(value)
