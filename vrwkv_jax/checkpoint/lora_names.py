"""What files call the layers of a LoRA (kohya's scripts, diffusers, peft), and what files with other adapters have."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from vrwkv_jax.checkpoint.compvis_names import OUTER, RESNET
from vrwkv_jax.checkpoint.torch_names import torch_name
from vrwkv_jax.models.parameter_rules import ADDED
from vrwkv_jax.system.errors import UserError

Part = Literal["unet", "text_encoder"]
Role = Literal["down", "up", "mid", "alpha"]

# What is not read: regular expression on a name in the file -> what a file is that has such a name. The first counts.
OTHERS = (
    (r"^bundle_emb\.", "a LoRA with words of its own (bundle_emb)"),
    (r"motion_modules|temporal|_temp_(attentions|convs)_", "a LoRA for a video model"),
    (r"^lora_te[12]_|^text_encoder_2\.|add_embedding|label_emb", "a LoRA for SDXL"),
    (r"transformer_blocks[._]([2-9]|\d\d+)[._]attn2", "a LoRA for SDXL"),
    (
        r"^(base_model\.model\.)?(transformer|lora_transformer_|diffusion_model|transformer_blocks|lora_unet_(double|single|"
        r"joint|blocks|layers)|double_blocks|single_blocks|joint_blocks|single_transformer_blocks)[._\d]|^lora_te3_",
        "a LoRA for SD 3, Flux or another model without a U-Net",
    ),
    (r"controlnet|^lora_controlnet", "a LoRA for a ControlNet"),
    (r"dora_scale|lora_magnitude_vector", "a DoRA (a LoRA with magnitudes of its own)"),
    (r"[._]hada_[wt]\d", "a LoHa (LyCORIS)"),
    (r"[._]lokr_[wt]\d", "a LoKr (LyCORIS)"),
    (r"[._]ia3_l|\.on_input$", "an (IA)³ adapter"),
    (r"[._](oft_(blocks|diag|[rRsS])|boft_)", "an OFT adapter"),
    (r"\.(a1|a2|b1|b2)\.weight$", "a GLoRA (LyCORIS)"),
    (r"\.(diff|diff_b|w_norm|b_norm)$", "one with differences of whole weights (LyCORIS)"),
)
SOMETHING_ELSE = (
    (r"^emb_params$|^string_to_param\b|^<[^<>]*>$", "a textual inversion"),
    (r"\.(weight|bias)$|^params/", "a whole model or a part of one"),
)

_LAYER = re.compile(
    r"(?P<module>.+?)(?:\.lora_(?P<short>down|up|mid|A|B)\.weight"
    r"|[._]lora(?:_linear_layer)?\.(?P<long>down|up)\.weight|\.(?P<alpha>alpha))"
)
_ROLES: dict[str, Role] = {"down": "down", "A": "down", "up": "up", "B": "up", "mid": "mid", "alpha": "alpha"}
_PREFIXES: tuple[tuple[str, Part], ...] = (
    ("lora_unet_", "unet"),
    ("lora_te_", "text_encoder"),
    ("unet.", "unet"),
    ("text_encoder.", "text_encoder"),
    ("text_model.", "text_encoder"),
    ("encoder.layers.", "text_encoder"),
)
_PEFT = "base_model.model."

# diffusers' name -> CompVis' name.
_RESNET = {name: theirs for theirs, name in RESNET.items()}
_OUTER = {"conv_in": "input_blocks.0.0"} | {name: theirs for theirs, name in OUTER.items()}


@dataclass(frozen=True)
class Name:
    """What a tensor's name says: of which part, of which layer in it (``module``), and what of that layer it is."""

    part: Part
    module: str
    role: Role
    is_peft: bool
    """Whether it is peft's, which keeps alpha in another file."""


def parse(name: str) -> Name | None:
    """What ``name`` says, or None where it is no name of a LoRA's tensor.

    ``module`` is the layer's name with ``_`` for ``.``, as kohya writes it; ``modules`` has the model's own.
    """
    found = _LAYER.fullmatch(name)
    if found is None:
        return None
    module = found["module"].removeprefix(_PEFT)
    part: Part = "unet"
    for prefix, part_of_prefix in _PREFIXES:
        if module.startswith(prefix):
            part = part_of_prefix
            module = module.removeprefix(prefix) if prefix not in ("text_model.", "encoder.layers.") else module
            break
    module = module.replace(".", "_").replace("_processor_", "_").removeprefix("text_model_")
    role = _ROLES[found["short"] or found["long"] or found["alpha"]]
    return Name(part, module, role, found["module"].startswith(_PEFT))


def modules(paths: Iterable[str]) -> dict[str, str]:
    """Every name that a file may have for a layer of the model -> the path of its kernel, out of all of its ``paths``.

    Layers have their names in diffusers and transformers, older ones of these, and those of CompVis' U-Net.
    """
    kernels = {
        torch_name(path).removesuffix(".weight"): path
        for path in paths
        if path.endswith("/kernel") and not ADDED.search(path)
    }
    layers = sum(re.fullmatch(r"down_blocks\.0\.resnets\.\d+\.conv1", module) is not None for module in kernels)
    found = {}
    for module, path in kernels.items():
        old = re.sub(r"\.(q|k|v)_proj$", r".to_\1", module).replace(".out_proj", ".to_out")
        for name in {module, old, old.removesuffix(".0") if old.endswith(".to_out.0") else old}:
            found[name.replace(".", "_")] = path
        if compvis := _compvis_name(module, layers, has_attention=_attends(module, kernels)):
            found[compvis.replace(".", "_")] = path
    return found


def _attends(module: str, kernels: Mapping[str, str]) -> bool:
    """Whether the block of a U-Net that ``module`` is in has transformers."""
    return ".".join((*module.split(".")[:2], "attentions.0.proj_in")) in kernels


def _compvis_name(module: str, layers: int, *, has_attention: bool) -> str | None:
    """The name of a U-Net's ``module`` in the code of CompVis, where the ``layers`` of all levels stand in one row."""
    if module in _OUTER:
        return _OUTER[module]
    if found := re.fullmatch(r"mid_block\.(resnets|attentions)\.(\d)\.(.+)", module):
        kind, number, rest = found.groups()
        place = 1 if kind == "attentions" else 2 * int(number)
        return f"middle_block.{place}.{_RESNET.get(rest, rest)}"
    found = re.fullmatch(r"(down|up)_blocks\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.+)", module)
    if found is None:
        return None
    side, level, kind, number, rest = found.groups()
    is_sampler = kind in ("downsamplers", "upsamplers")
    block = int(level) * (layers + 1) + (layers if is_sampler else int(number)) + (side == "down")
    place = {"resnets": 0, "attentions": 1, "downsamplers": 0, "upsamplers": 1}[kind]
    if kind == "upsamplers" and has_attention:
        place = 2
    inner = "op" if kind == "downsamplers" else _RESNET.get(rest, rest)
    return f"{'input' if side == 'down' else 'output'}_blocks.{block}.{place}.{inner}"


def refuse_others(names: Iterable[str], where: str) -> None:
    """Raises UserError where ``names`` are those of another adapter than a LoRA for SD 1.x and 2.x, and says which."""
    names = list(names)
    for pattern, what in OTHERS:
        if found := next((name for name in names if re.search(pattern, name)), None):
            raise UserError(
                f"{where} is {what}, which is not read (it has {shortened([found])}); expected a LoRA for SD 1.x or 2.x"
            )


def refuse_something_else(names: Iterable[str], where: str) -> None:
    """Raises UserError for a file none of whose ``names`` is a LoRA's."""
    names = list(names)
    for pattern, what in SOMETHING_ELSE:
        if any(re.search(pattern, name) for name in names):
            raise UserError(f"{where} is {what} and no LoRA (it has {shortened(names)}); expected a LoRA's layers")
    holds = f"holds {shortened(names)}" if names else "is empty"
    raise UserError(f"{where} {holds} and no layers of a LoRA; expected tensors such as lora_down.weight")


def shortened(names: list[str], shown: int = 4, longest: int = 90) -> str:
    """The first of ``names``, and how many more there are."""
    cut = [name if len(name) <= longest else f"{name[: longest - 1]}…" for name in names[:shown]]
    return ", ".join(cut) + (f" and {len(names) - shown} more" if len(names) > shown else "")
