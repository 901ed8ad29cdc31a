"""The names that Stable Diffusion's own repository gives tensors, as those of diffusers and transformers, in tables.

Blocks of its U-Net are numbered through (``input_blocks.4.1``): where a level ends is seen from the block that changes
the resolution. What a name stands for is a ``Origin``: a tensor of the file, or a third of one, where OpenCLIP keeps
query, key and value in one.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from vrwkv_jax.checkpoint.tensors import Tensors

UNET, AVERAGED = "model.diffusion_model.", "model_ema.diffusion_model"
VAE = ("first_stage_model.", "vae.")
# The second is how Stability's later repository, generative-models, calls the first.
TEXT = ("cond_stage_model.", "conditioner.embedders.0.")
CLIP, OPEN_CLIP = "transformer.", "model."

# Tensors that are no parameters of the three models, or of nothing that text to image needs.
NO_PART = (
    r"^model_ema\.",
    r"^(alphas_cumprod|betas|sqrt_|log_one_minus|posterior_|lvlb_weights|logvar|denoiser\.|scale_factor$)",
    r"^(v_pred|ztsnr|edm_|global_step|epoch$)",
    r"^(cond_stage_model|first_stage_model)\.(logit_scale|text_projection|model_ema\.)",
)
NO_TEXT = (
    r"position_ids$",
    r"^text_projection",
    r"^logit_scale",
    r"^attn_mask$",
    r"^visual\.",
    # Stable Diffusion 2 takes the last layer but one: diffusers counts 23 layers, and leaves the 24th where it is.
    r"^transformer\.resblocks\.(2[3-9]|[3-9]\d|\d{3,})\.",
)
NO_VAE = (r"^loss\.", r"^model_ema\.", r"^discriminator\.")

# In residual blocks, and outside of all blocks: their name -> diffusers' name.
RESNET = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
OUTER = {
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
}
# Regular expression on what is left of their name -> what diffusers has there.
UNET_INSIDE = (
    *((rf"\.{re.escape(theirs)}\.", f".{name}.") for theirs, name in RESNET.items()),
    (r"\.op\.", ".conv."),
    *((rf"^{re.escape(theirs)}\.", f"{name}.") for theirs, name in OUTER.items()),
)
VAE_INSIDE = (
    (r"^(encoder|decoder)\.norm_out\.", r"\1.conv_norm_out."),
    (r"\.mid\.block_1\.", ".mid_block.resnets.0."),
    (r"\.mid\.block_2\.", ".mid_block.resnets.1."),
    (r"\.mid\.attn_1\.norm\.", ".mid_block.attentions.0.group_norm."),
    (r"\.mid\.attn_1\.([qkv])\.", r".mid_block.attentions.0.to_\1."),
    (r"\.mid\.attn_1\.proj_out\.", ".mid_block.attentions.0.to_out.0."),
    (r"^encoder\.down\.(\d+)\.block\.", r"encoder.down_blocks.\1.resnets."),
    (r"^encoder\.down\.(\d+)\.downsample\.", r"encoder.down_blocks.\1.downsamplers.0."),
    (r"\.nin_shortcut\.", ".conv_shortcut."),
)
OPEN_CLIP_INSIDE = (
    (r"^positional_embedding$", "embeddings.position_embedding.weight"),
    (r"^token_embedding\.", "embeddings.token_embedding."),
    (r"^ln_final\.", "final_layer_norm."),
    (r"^transformer\.resblocks\.", "encoder.layers."),
    (r"\.ln_([12])\.", r".layer_norm\1."),
    (r"\.mlp\.c_fc\.", ".mlp.fc1."),
    (r"\.mlp\.c_proj\.", ".mlp.fc2."),
    (r"\.attn\.", ".self_attn."),
)
# Averaged weights (EMA) have names without dots: where those were.
DOTS = (
    (r"^(time_embed|out)(\d)(weight|bias)$", r"\1.\2.\3"),
    (r"^(input_blocks|output_blocks)(\d+)(\d)(?=\D)", r"\1.\2.\3."),
    (r"^middle_block(\d)", r"middle_block.\1."),
    (r"(in_layers|out_layers|emb_layers)(\d)", r"\1.\2."),
    (r"(transformer_blocks)(\d)", r"\1.\2."),
    (r"ffnet(\d)", r"ff.net.\1."),
    (r"(ff\.net\.\d\.proj)", r"\1."),
    (r"to_out(\d)", r"to_out.\1."),
    (r"(attn\d|to_[qkv]|norm\d?|proj_in|proj_out|skip_connection|op|conv)(?=[a-z])", r"\1."),
)


@dataclass(frozen=True)
class Origin:
    """What a model's tensor is in the file: the tensor ``name``, or the ``third`` (0, 1, 2) of its first axis."""

    name: str
    third: int | None = None


class Renamed:
    """``tensors`` by the names of ``sources``."""

    def __init__(self, tensors: Tensors, sources: dict[str, Origin]):
        self._tensors, self._sources = tensors, sources

    def __iter__(self) -> Iterator[str]:
        return iter(self._sources)

    def __getitem__(self, name: str) -> np.ndarray:
        source = self._sources[name]
        array = self._tensors[source.name]
        if source.third is None:
            return array
        size = len(array) // 3
        return array[source.third * size : (source.third + 1) * size]

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor, without reading it."""
        source = self._sources[name]
        shape = self._tensors.shape(source.name)
        return shape if source.third is None or not shape else (shape[0] // 3, *shape[1:])

    def dtype(self, name: str) -> str:
        """The type of a tensor in the words of safetensors, without reading it."""
        return self._tensors.dtype(self._sources[name].name)


def parts(names: Iterable[str]) -> dict[str, dict[str, Origin]]:
    """For each model that is in a file with tensors ``names``, diffusers' name of each of its tensors -> what it is."""
    names = list(names)
    found = {"unet": unet(names), "vae": vae(names), "text_encoder": text_encoder(names)}
    return {part: sources for part, sources in found.items() if sources}


def unet(names: Iterable[str]) -> dict[str, Origin]:
    """The U-Net's tensors; averaged ones (EMA) are taken where there are no others."""
    names = list(names)
    in_file = {name.removeprefix(UNET): name for name in names if name.startswith(UNET)}
    if not in_file:
        in_file = {_dotted(name.removeprefix(AVERAGED)): name for name in names if name.startswith(AVERAGED)}
    blocks = _unet_blocks(in_file)

    def renamed(name: str) -> str:
        block = re.match(r"middle_block\.\d+(?=\.)|(in|out)put_blocks\.\d+\.\d+(?=\.)", name)
        if block and block[0] in blocks:
            name = blocks[block[0]] + name[block.end() :]
        return _by(UNET_INSIDE, name)

    return {renamed(name): Origin(original) for name, original in in_file.items()}


def is_averaged(names: Iterable[str]) -> bool:
    """Whether there are averaged weights (EMA) of a U-Net among ``names``."""
    return any(name.startswith(AVERAGED) for name in names)


def vae(names: Iterable[str], prefixes: tuple[str, ...] = VAE) -> dict[str, Origin]:
    """The VAE's tensors, which begin with one of ``prefixes``; those that have diffusers' names keep them."""
    names = list(names)
    prefix = next((prefix for prefix in prefixes if any(name.startswith(prefix) for name in names)), None)
    in_file = {} if prefix is None else {n.removeprefix(prefix): n for n in names if n.startswith(prefix)}
    in_file = {name: original for name, original in in_file.items() if not _any(NO_VAE, name)}
    levels = {found[1] for name in in_file if (found := re.match(r"decoder\.up\.(\d+)\.", name))}

    def renamed(name: str) -> str:
        up = re.match(r"decoder\.up\.(\d+)\.(block|upsample)\.", name)
        if up:  # they count from the highest resolution, diffusers in the order of the computation
            inside = "resnets." if up[2] == "block" else "upsamplers.0."
            name = f"decoder.up_blocks.{len(levels) - 1 - int(up[1])}.{inside}{name[up.end() :]}"
        return _by(VAE_INSIDE, name)

    return {renamed(name): Origin(original) for name, original in in_file.items()}


def text_encoder(names: Iterable[str]) -> dict[str, Origin]:
    """The text encoder's tensors, without the ``text_model.`` that some of transformers' versions have."""
    names = list(names)
    for prefix in TEXT:
        for kind in (CLIP, OPEN_CLIP):
            whole = prefix + kind
            in_file = {name.removeprefix(whole): name for name in names if name.startswith(whole)}
            in_file = {name.removeprefix("text_model."): original for name, original in in_file.items()}
            in_file = {name: original for name, original in in_file.items() if not _any(NO_TEXT, name)}
            if in_file:
                return _open_clip(in_file) if kind == OPEN_CLIP else {n: Origin(o) for n, o in in_file.items()}
    return {}


def is_open_clip(names: Iterable[str]) -> bool:
    """Whether the text encoder among ``names`` is OpenCLIP's, which makes it a Stable Diffusion 2."""
    return any(name.startswith(tuple(prefix + OPEN_CLIP for prefix in TEXT)) for name in names)


def is_no_part(name: str) -> bool:
    """Whether a tensor of this name is known to belong to no model."""
    return _any(NO_PART, name)


def others(names: Iterable[str]) -> list[str]:
    """What is in the file that is neither part of a model nor known to be of no use."""
    known = (UNET, *VAE, *(prefix + kind for prefix in TEXT for kind in (CLIP, OPEN_CLIP)))
    return [name for name in names if not name.startswith(known) and not is_no_part(name)]


def _open_clip(in_file: dict[str, str]) -> dict[str, Origin]:
    sources: dict[str, Origin] = {}
    for name, original in in_file.items():
        name = _by(OPEN_CLIP_INSIDE, name)
        joint = re.fullmatch(r"(.+)\.in_proj_(weight|bias)", name)
        if joint:
            sources |= {f"{joint[1]}.{letter}_proj.{joint[2]}": Origin(original, i) for i, letter in enumerate("qkv")}
        else:
            sources[name] = Origin(original)
    return sources


def _unet_blocks(names: Iterable[str]) -> dict[str, str]:
    """Their name of a block -> diffusers': a block that changes the resolution ends a level."""
    present = set(names)
    blocks = {
        "input_blocks.0.0": "conv_in",
        "middle_block.0": "mid_block.resnets.0",
        "middle_block.1": "mid_block.attentions.0",
        "middle_block.2": "mid_block.resnets.1",
    }
    level = index = 0
    for block in _numbers(present, "input_blocks")[1:]:
        if f"{block}.0.op.weight" in present:
            blocks[f"{block}.0"] = f"down_blocks.{level}.downsamplers.0"
            level, index = level + 1, 0
        else:
            blocks |= _level(block, f"down_blocks.{level}", index)
            index += 1
    level = index = 0
    for block in _numbers(present, "output_blocks"):
        blocks |= _level(block, f"up_blocks.{level}", index)
        index += 1
        for inner in (1, 2):
            if f"{block}.{inner}.conv.weight" in present:
                blocks[f"{block}.{inner}"] = f"up_blocks.{level}.upsamplers.0"
                level, index = level + 1, 0
    return blocks


def _numbers(names: Iterable[str], kind: str) -> list[str]:
    numbers = {int(found[1]) for name in names if (found := re.match(rf"{kind}\.(\d{{1,4}})\.", name))}
    return [f"{kind}.{number}" for number in sorted(numbers)]


def _level(block: str, level: str, index: int) -> dict[str, str]:
    return {f"{block}.0": f"{level}.resnets.{index}", f"{block}.1": f"{level}.attentions.{index}"}


def _dotted(name: str) -> str:
    """``input_blocks10in_layers0weight`` -> ``input_blocks.1.0.in_layers.0.weight``."""
    for pattern, replacement in DOTS:
        name = re.sub(pattern, replacement, name)
    return re.sub(r"\.?(weight|bias)$", r".\1", name)


def _any(patterns: Iterable[str], name: str) -> bool:
    return any(re.search(pattern, name) for pattern in patterns)


def _by(table: tuple[tuple[str, str], ...], name: str) -> str:
    for pattern, replacement in table:
        name = re.sub(pattern, replacement, name)
    return name
