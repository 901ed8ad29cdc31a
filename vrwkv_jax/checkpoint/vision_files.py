"""Models of pictures, from directories in the layout of transformers: CLIP, DINO; and LAION's aesthetic head."""

import math
import re
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from vrwkv_jax.checkpoint.compvis_names import Origin, Renamed
from vrwkv_jax.checkpoint.configs import MOST, dino_config, text_config, vision_config
from vrwkv_jax.checkpoint.hub import model_directory
from vrwkv_jax.checkpoint.small_files import read_json
from vrwkv_jax.checkpoint.tensors import Tensors
from vrwkv_jax.checkpoint.torch_tensors import FLOATS, from_tensors
from vrwkv_jax.checkpoint.weight_files import WeightFiles, open_tensors
from vrwkv_jax.media.normalised import CLIP_NORMALISATION, IMAGENET_NORMALISATION, Normalisation
from vrwkv_jax.models import params as P
from vrwkv_jax.models.clip_text import CLIPTextTower
from vrwkv_jax.models.clip_vision import DINO, CLIPVisionTower
from vrwkv_jax.models.params import GraphDef, Params
from vrwkv_jax.models.tokenizer import Tokenizer
from vrwkv_jax.system.errors import UserError, quoted
from vrwkv_jax.typing import Float

CLIP_EXPECTED = "a CLIP model in the layout of transformers, such as openai/clip-vit-large-patch14"
DINO_EXPECTED = "a DINO model in the layout of transformers, such as facebook/dino-vits16"
AESTHETIC_EXPECTED = "LAION's aesthetic predictor (one linear layer, or sac+logos+ava1-l14-linearMSE.pth)"
CLIP_VOCABULARY = 49408  # of the tokenizer that comes with this package

_SMALL = ["config.json", "preprocessor_config.json", "tokenizer.json", "tokenizer_config.json", "vocab.json"]
_FILES = [
    [*_SMALL, "merges.txt", "model.safetensors", "model.safetensors.index.json", "model-*.safetensors"],
    ["pytorch_model.bin", "pytorch_model.bin.index.json", "pytorch_model-*.bin"],
]
# transformers' names of ViT -> those of CLIP, which are ours.
_DINO = (
    (r"^(vit|dino)\.", ""),
    (r"^embeddings\.cls_token$", "embeddings.class_embedding"),
    (r"^embeddings\.position_embeddings$", "embeddings.position_embedding.weight"),
    (r"^embeddings\.patch_embeddings\.projection\.", "embeddings.patch_embedding."),
    (r"^encoder\.layer\.", "encoder.layers."),
    (r"\.attention\.attention\.(query|key|value)\.", r".self_attn.\1."),
    (r"\.self_attn\.([qkv])(?:uery|ey|alue)\.", r".self_attn.\1_proj."),
    (r"\.attention\.output\.dense\.", ".self_attn.out_proj."),
    (r"\.intermediate\.dense\.", ".mlp.fc1."),
    (r"(layers\.\d+)\.output\.dense\.", r"\1.mlp.fc2."),
    (r"\.layernorm_before\.", ".layer_norm1."),
    (r"\.layernorm_after\.", ".layer_norm2."),
    (r"^layernorm\.", "post_layernorm."),
)
_NOT_DINO = r"^(pooler|classifier)\.|(^|\.)mask_token$"


@dataclass(frozen=True)
class Tower:
    """A model of pictures, or of texts, with its parameters in float32."""

    graphdef: GraphDef
    params: Params


@dataclass(frozen=True)
class ImageModel:
    tower: Tower
    size: int
    """Of the pictures, which are square, in pixels."""
    normalisation: Normalisation
    width: int
    """Of its features."""


@dataclass(frozen=True)
class CLIP:
    image: ImageModel
    text: Tower | None
    """None where the checkpoint has the image half alone."""
    tokenizer: Tokenizer | None


def load_clip(model: str) -> CLIP:
    """CLIP from a directory, or from a Hugging Face repository, whose files are fetched.

    ``config.json`` is that of ``CLIPModel``, or of ``CLIPVisionModelWithProjection``, which has no text half.

    Raises:
        UserError: nothing is there, or another model, or its weights are missing, damaged or do not fit its config.
    """
    directory = model_directory(model, _FILES, CLIP_EXPECTED)
    where = str(directory / "config.json")
    values = _config(directory, ("CLIPModel", "CLIPVisionModelWithProjection"), CLIP_EXPECTED)
    is_whole = values["architectures"] == ["CLIPModel"]
    vision = vision_config(_part(values, "vision_config") if is_whole else values, where)
    projected = values.get("projection_dim", 512)
    if type(projected) is not int or not 0 < projected <= MOST["hidden_size"]:
        raise UserError(f"{where}: projection_dim is {quoted(projected)}; expected 1 to {MOST['hidden_size']}")
    found = WeightFiles(directory)
    tensors = _half(found, "vision_model.", "visual_projection.")
    tower = _tower(tensors, str(directory), CLIPVisionTower, vision, projected)
    image = ImageModel(tower, vision.image_size, _normalisation(directory, CLIP_NORMALISATION), projected)
    if not is_whole:
        return CLIP(image, None, None)
    text = text_config(_part(values, "text_config"), where)
    tokenizer = _tokenizer(directory, text.vocab_size)
    if tokenizer.vocab_size > text.vocab_size or tokenizer.max_length > text.max_position_embeddings:
        raise UserError(
            f"the tokenizer in {directory} has {tokenizer.vocab_size} tokens and texts of {tokenizer.max_length}, and "
            f"its text encoder takes {text.vocab_size} and {text.max_position_embeddings}: copy both from one place"
        )
    tensors = _half(found, "text_model.", "text_projection.")
    return CLIP(image, _tower(tensors, str(directory), CLIPTextTower, text, projected), tokenizer)


def load_dino(model: str) -> ImageModel:
    """DINO from a directory, or from a Hugging Face repository, in the layout of transformers' ``ViTModel``.

    Raises:
        UserError: as ``load_clip``.
    """
    directory = model_directory(model, _FILES, DINO_EXPECTED)
    values = _config(directory, ("ViTModel",), DINO_EXPECTED)
    config = dino_config(values, str(directory / "config.json"))
    found = WeightFiles(directory)
    names = {_by_table(name): name for name in found if not re.search(_NOT_DINO, name)}
    tower = _tower(_WithoutBatch(found, names), str(directory), DINO, config)
    normalisation = _normalisation(directory, IMAGENET_NORMALISATION)
    return ImageModel(tower, config.image_size, normalisation, config.hidden_size)


Affine = tuple[Float[np.ndarray, " n"], float]


def load_aesthetic(file: str) -> Affine:
    """LAION's head on CLIP's normalised image features, as the one vector and number that its layers amount to.

    It is one linear layer (``weight``, ``bias``), or five without anything between them (``layers.0`` to
    ``layers.7``, with dropout in between, which does nothing here).

    Raises:
        UserError: nothing is there, or something else.
    """
    path = Path(file).expanduser()
    tensors = open_tensors(path)
    names = {name for name in tensors if tensors.dtype(name) in FLOATS}
    linear, layers = {"weight", "bias"}, [f"layers.{number}." for number in (0, 2, 4, 6, 7)]
    if names == linear:
        prefixes = [""]
    elif names == {prefix + name for prefix in layers for name in linear}:
        prefixes = layers
    else:
        shown = ", ".join(sorted(tensors)[:3]) or "nothing"
        raise UserError(f"{path} holds {quoted(shown, plain=True)}, ...; expected {AESTHETIC_EXPECTED}")
    shapes = [tensors.shape(f"{prefix}weight") for prefix in prefixes]
    biases = [tensors.shape(f"{prefix}bias") for prefix in prefixes]
    fits = all(len(shape) == 2 and bias == shape[:1] for shape, bias in zip(shapes, biases, strict=True))
    chained = fits and all(before[0] == after[1] for before, after in pairwise(shapes))
    if not chained or shapes[-1][0] != 1 or max(map(math.prod, shapes)) > 2**24:
        raise UserError(f"the layers of {path} have the shapes {shapes}; expected {AESTHETIC_EXPECTED}")
    weight, bias = np.eye(shapes[0][1]), np.zeros(shapes[0][1])
    for prefix in prefixes:
        layer = tensors[f"{prefix}weight"].astype(np.float64)
        weight, bias = layer @ weight, layer @ bias + tensors[f"{prefix}bias"].astype(np.float64)
    return weight[0], float(bias[0])


def _config(directory: Path, classes: tuple[str, ...], expected: str) -> dict[str, Any]:
    values = read_json(directory / "config.json")
    names = values.get("architectures")
    if not isinstance(names, list) or len(names) != 1 or names[0] not in classes:
        raise UserError(
            f"{directory / 'config.json'} describes {quoted(names)}; expected {' or '.join(classes)}: {expected}"
        )
    return values


def _part(values: dict[str, Any], key: str) -> dict[str, Any]:
    """One half's values; files of earlier versions say them twice, and what the second says holds."""
    part, twice = values.get(key) or {}, values.get(f"{key}_dict") or {}
    if not isinstance(part, dict) or not isinstance(twice, dict):
        raise UserError(f"{key} in config.json is no object: get the file of this model again")
    return part | twice


def _tower(tensors: Tensors, where: str, *described: Any) -> Tower:
    graphdef, shapes = P.described(*described)
    return Tower(graphdef, from_tensors(tensors, shapes, jnp.float32, where))


def _half(tensors: WeightFiles, model: str, projection: str) -> Renamed:
    """The tensors of one half of CLIP, by their names in it."""
    names = [name for name in tensors if name.startswith((model, projection))]
    return Renamed(tensors, {name.removeprefix(model): Origin(name) for name in names})


def _tokenizer(directory: Path, vocab_size: int) -> Tokenizer:
    """That of the directory; of files that came without, CLIP's own where it fits."""
    if any((directory / name).exists() for name in ("tokenizer.json", "vocab.json")):
        return Tokenizer.from_pretrained(directory)
    if vocab_size != CLIP_VOCABULARY:
        raise UserError(
            f"{directory} has no tokenizer.json and no vocab.json, and its vocabulary of {vocab_size} tokens is not "
            f"CLIP's own of {CLIP_VOCABULARY}: copy the tokenizer's files beside its config.json"
        )
    return Tokenizer.of_clip()


def _normalisation(directory: Path, default: Normalisation) -> Normalisation:
    """What ``preprocessor_config.json`` says of mean and deviation, if there is one."""
    path = directory / "preprocessor_config.json"
    if not path.exists():
        return default
    values = read_json(path)

    def three(key: str, default: tuple[float, float, float]) -> tuple[float, float, float]:
        numbers = values.get(key, list(default))
        is_three = isinstance(numbers, list) and len(numbers) == 3
        if not is_three or not all(type(n) in (int, float) and math.isfinite(n) for n in numbers):
            raise UserError(f"{path}: {key} is {quoted(numbers)}; expected three numbers, one for each colour")
        red, green, blue = map(float, numbers)
        return red, green, blue

    normalisation = Normalisation(three("image_mean", default.mean), three("image_std", default.deviation))
    if min(normalisation.deviation) <= 0:
        raise UserError(f"{path}: image_std is {normalisation.deviation}; expected numbers above 0")
    return normalisation


def _by_table(name: str) -> str:
    for pattern, replacement in _DINO:
        name = re.sub(pattern, replacement, name)
    return name


class _WithoutBatch(Renamed):
    """Tensors by other names; an axis of size 1 in front of embeddings, for a batch, is left out."""

    def __init__(self, tensors: WeightFiles, names: dict[str, str]):
        super().__init__(tensors, {name: Origin(original) for name, original in names.items()})

    def __getitem__(self, name: str) -> np.ndarray:
        return super().__getitem__(name).reshape(self.shape(name))

    def shape(self, name: str) -> tuple[int, ...]:
        shape = super().shape(name)
        axes = {"embeddings.class_embedding": 1, "embeddings.position_embedding.weight": 2}.get(name, len(shape))
        return shape[-axes:] if all(size == 1 for size in shape[:-axes]) and len(shape) > axes else shape
