"""LoRA (Hu et al. 2021): products of two small matrices that are added to the weights of a model.

A layer ``W`` becomes ``W + scale * alpha / rank * up @ down``. In convolutions ``down`` has the kernel and ``up`` is
1x1; in Tucker's form (LyCORIS) both are 1x1 and ``mid`` between them has the kernel.
"""

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from vrwkv_jax.checkpoint.lora_adapter import Adapter, read_adapters
from vrwkv_jax.checkpoint.lora_names import (
    Name,
    Part,
    Role,
    modules,
    parse,
    refuse_others,
    refuse_something_else,
    shortened,
)
from vrwkv_jax.checkpoint.safetensors_files import SafetensorsFile
from vrwkv_jax.checkpoint.tensors import Tensors
from vrwkv_jax.checkpoint.torch_names import from_torch, torch_shape
from vrwkv_jax.checkpoint.torch_tensors import FLOATS
from vrwkv_jax.checkpoint.weight_files import open_tensors
from vrwkv_jax.models.params import Params
from vrwkv_jax.system.errors import UserError

LARGEST_RANK = 2048  # no layer of SD 1.x and 2.x has more to give than 1280
MOST_TENSORS = 20_000  # all layers of the U-Net and the text encoder make 1,500
FAMILIES = {768: "SD 1.x", 1024: "SD 2.x", 2048: "SDXL"}  # by the width of the text

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Layer:
    """One layer's matrices: the names that they have in the file, by their role, and the shape of their product."""

    names: Mapping[Role, str]
    shape: Shape
    rank: int


@dataclass(frozen=True)
class Lora:
    """The layers of one file, by part and module; nothing but names and shapes was read of it."""

    where: str
    tensors: Tensors
    layers: Mapping[Part, Mapping[str, Layer]]
    adapters: Mapping[Part, Adapter] = field(default_factory=dict)

    @classmethod
    def open(cls, file: Path) -> "Lora":
        """The LoRA in ``file``, of safetensors or of ``torch.save``; see ``from_tensors``.

        Raises:
            UserError: it is not there, damaged, hostile, or no LoRA that is read.
        """
        tensors = open_tensors(file)
        notes = tensors.metadata if isinstance(tensors, SafetensorsFile) else {}
        return cls.from_tensors(tensors, str(file), read_adapters(file, notes))

    @classmethod
    def from_tensors(cls, tensors: Tensors, where: str, adapters: Mapping[Part, Adapter] | None = None) -> "Lora":
        """The LoRA in ``tensors``, named as kohya's scripts, diffusers (old or new) or peft name it.

        Args:
            where: what errors call the file.
            adapters: what ``read_adapters`` found beside it. Without them, and without ``alpha`` in the file, alpha is
                the rank.

        Raises:
            UserError: it is another adapter, or one for another kind of model, or no adapter; or parts of layers are
                missing, of a type that is not read, or don't fit each other.
        """
        names = list(tensors)
        if len(names) > MOST_TENSORS:
            raise UserError(f"{where} has {len(names)} tensors; expected a LoRA, which has at most {MOST_TENSORS}")
        refuse_others(names, where)
        parsed = {name: parse(name) for name in names}
        understood = {name: found for name, found in parsed.items() if found is not None}
        strange = [name for name, found in parsed.items() if found is None]
        if not any(found.role == "down" for found in understood.values()):
            refuse_something_else(names, where)
        if strange:
            raise UserError(f"{where} has what no LoRA has ({shortened(strange)}); expected its layers alone")
        if any(found.is_peft for found in understood.values()) and not adapters:
            warnings.warn(
                f"{where} is one of peft without its adapter_config.json beside it: its alpha is taken to be its rank",
                stacklevel=2,
            )
        grouped = _grouped(understood, where)
        layers = {part: {m: _layer(tensors, of, where) for m, of in found.items()} for part, found in grouped.items()}
        lora = cls(where, tensors, layers, adapters or {})
        if lora.text_width == 2048:
            raise UserError(f"{where} is a LoRA for SDXL, which is not read; expected a LoRA for SD 1.x or 2.x")
        return lora

    @property
    def text_width(self) -> int | None:
        """The width of the text that it was made for, where it has layers that tell."""
        ends = {"unet": ("attn2_to_k", "attn2_to_v"), "text_encoder": ("_q_proj", "_k_proj", "_v_proj")}
        widths = (
            layer.shape[1]
            for part, layers in self.layers.items()
            for module, layer in layers.items()
            if module.endswith(ends[part])
        )
        return next(widths, None)

    def delta(self, part: Part, module: str, scale: float = 1.0) -> np.ndarray:
        """What is added to the weights of ``module`` at ``scale``, in float32 and PyTorch's layout.

        Raises:
            UserError: it holds numbers that are not finite.
        """
        layer = self.layers[part][module]
        with np.errstate(all="ignore"):  # what they would warn of is found below
            delta = self._product(layer, scale * self._factor(part, module, layer))
        if not np.isfinite(delta).all():
            raise UserError(
                f"{self.where} holds numbers that are not finite (NaN or infinite) or far too large in "
                f"{layer.names['down']} or beside it, with which nothing can be edited: get the file again"
            )
        return delta

    def _product(self, layer: Layer, factor: float) -> np.ndarray:
        up, down = (self._read(layer.names[role]) for role in ("up", "down"))
        up = up.reshape(len(up), -1) * np.float32(factor)
        rows = down.reshape(len(down), -1)
        if "mid" in layer.names:
            mid = self._read(layer.names["mid"])
            return np.asarray(np.einsum("or,rskl,si->oikl", up, mid, rows, optimize=True))
        product = rows.T @ up.T  # this way round in memory, for so are the weights that it is added to
        return np.moveaxis(product.reshape(*down.shape[1:], len(up)), -1, 0)

    def _factor(self, part: Part, module: str, layer: Layer) -> float:
        if "alpha" in layer.names:
            return float(self._read(layer.names["alpha"]).reshape(())) / layer.rank
        adapter = self.adapters.get(part)
        return 1.0 if adapter is None else adapter.factor(module, layer.rank)

    def _read(self, name: str) -> np.ndarray:
        return np.asarray(self.tensors[name]).astype(np.float32)


def check_fit(loras: Sequence[tuple[Lora, float]], shapes: Mapping[Part, Params]) -> None:
    """Whether each of ``loras`` fits the model whose parts have parameters of these ``shapes``; reads no weights.

    Raises:
        UserError: names all layers that the model does not have, or that have another shape; or a scale that is no
            number.
    """
    for lora, scale in loras:
        if not math.isfinite(scale):
            raise UserError(f"{lora.where} is to be added {scale} times; expected a number")
        strange: list[str] = []
        misshapen: list[str] = []
        for part, layers in lora.layers.items():
            paths = modules(shapes[part])
            strange += [layer.names["down"] for module, layer in layers.items() if module not in paths]
            misshapen += [
                f"{list(layer.shape)} in place of {list(expected)} at {layer.names['down']}"
                for module, layer in layers.items()
                if module in paths
                and _squeezed(layer.shape)
                != _squeezed(expected := torch_shape(paths[module], shapes[part][paths[module]].shape))
            ]
            _refuse_twice(lora, part, paths)
        if not strange and not misshapen:
            continue
        made_for, own = lora.text_width, _text_width(shapes)
        if made_for is not None and made_for != own:
            raise UserError(
                f"{lora.where} is a LoRA for {_family(made_for)}, and the model is {_family(own)}: use one that was "
                "made for this model"
            )
        what, names = ("does not have", strange) if strange else ("has in another shape", misshapen)
        raise UserError(
            f"{lora.where} is a LoRA for another model, with {len(names)} of {sum(map(len, lora.layers.values()))} "
            f"layers that this one {what}: {shortened(names)}"
        )


def merge(params: Params, loras: Sequence[tuple[Lora, float]], part: Part, dtype: Any = None) -> Params:
    """``params`` of ``part`` with each of ``loras`` added, so many times as the number beside it says.

    All are summed in float32 and then cast to ``dtype``, or to the type that the parameter has. Leaves that none of
    them touches stay the same arrays. One leaf is worked on at a time, and where the caller does not keep ``params``,
    as in ``merge(source.read(...), ...)``, each goes when the new one comes.

    Raises:
        UserError: as ``check_fit``; or a LoRA holds numbers that are not finite.
    """
    loras = [(lora, scale) for lora, scale in loras if part in lora.layers]
    check_fit([(_only(lora, part), scale) for lora, scale in loras], {part: params})
    paths = modules(params)
    added: dict[str, list[tuple[Lora, str, float]]] = {}
    for lora, scale in loras:
        for module in lora.layers[part] if scale else ():
            added.setdefault(paths[module], []).append((lora, module, scale))
    params = dict(params)
    for path, terms in added.items():
        leaf = params[path]
        weights = np.asarray(leaf).astype(np.float32)
        for lora, module, scale in terms:
            weights += from_torch(path, lora.delta(part, module, scale).reshape(torch_shape(path, leaf.shape)))
        params[path] = jnp.asarray(weights.astype(dtype or leaf.dtype))
    return params


def _grouped(understood: Mapping[str, Name], where: str) -> dict[Part, dict[str, dict[Role, str]]]:
    """Names by part, module and role."""
    grouped: dict[Part, dict[str, dict[Role, str]]] = {}
    for name, found in understood.items():
        roles = grouped.setdefault(found.part, {}).setdefault(found.module, {})
        if found.role in roles:
            raise UserError(f"{where} has one thing under two names ({shortened([roles[found.role], name])})")
        roles[found.role] = name
    return grouped


def _layer(tensors: Tensors, names: Mapping[Role, str], where: str) -> Layer:
    any_name = next(iter(names.values()))
    if lacking := [role for role in ("down", "up") if role not in names]:
        raise UserError(f"{where} has {shortened([any_name])} without its {lacking[0]}: download or copy it again")
    unfit = [
        name
        for role, name in names.items()
        if tensors.dtype(name) not in (FLOATS if role != "alpha" else (*FLOATS, "I32", "I64"))
    ]
    if unfit:
        raise UserError(f"{where} has {shortened(unfit)} as {tensors.dtype(unfit[0])}; expected {', '.join(FLOATS)}")
    shapes = {role: tuple(tensors.shape(name)) for role, name in names.items()}
    down, up, mid = shapes["down"], shapes["up"], shapes.get("mid")
    inner = mid or (up[1:2] + down[:1])
    possible = (
        len(down) in (2, 4)
        and len(up) in (2, 4)
        and up[2:] in ((), (1, 1))
        and (mid is None or (len(mid) == 4 and down[2:] in ((), (1, 1))))
        and inner[:2] == (up[1], down[0])
        and (mid is not None or up[1] == down[0])
        and 0 < max(up[1], down[0]) <= LARGEST_RANK
        and math.prod(shapes.get("alpha", ())) == 1
    )
    if not possible:
        listed = ", ".join(f"{role} {list(shape)}" for role, shape in shapes.items())
        raise UserError(f"{where} has matrices that can't be multiplied at {shortened([any_name])} ({listed})")
    return Layer(names, (up[0], down[1], *(mid[2:] if mid else down[2:])), down[0])


def _squeezed(shape: Shape) -> Shape:
    """A linear layer and a convolution of 1x1 are the same thing."""
    return shape[:2] if shape[2:] == (1, 1) else shape


def _only(lora: Lora, part: Part) -> Lora:
    return Lora(lora.where, lora.tensors, {part: lora.layers[part]}, lora.adapters)


def _refuse_twice(lora: Lora, part: Part, paths: Mapping[str, str]) -> None:
    """Raises UserError where two names of ``lora`` are those of one layer."""
    seen: dict[str, str] = {}
    for module, layer in lora.layers[part].items():
        path, name = paths.get(module, module), layer.names["down"]
        if path in seen:
            raise UserError(f"{lora.where} has one layer under two names ({shortened([seen[path], name])})")
        seen[path] = name


def _text_width(shapes: Mapping[Part, Params]) -> int | None:
    ends = ("/attn2/to_k/kernel", "/self_attn/q_proj/kernel")
    return next((leaf.shape[0] for part in shapes.values() for path, leaf in part.items() if path.endswith(ends)), None)


def _family(width: int | None) -> str:
    name = FAMILIES.get(width or 0, "another family")
    return name if width is None else f"{name} (text of width {width})"
