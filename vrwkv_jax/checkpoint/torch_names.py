"""The names and layouts that PyTorch gives our parameters (diffusers and transformers), as tables.

Our paths keep the module names of the originals, so there is little to say. A leaf says how its array is laid out:

    kernel     [in, out]        weight [out, in]          linear layers
    kernel     [H, W, in, out]  weight [out, in, H, W]    convolutions
    scale, embedding            weight, as it is          norms and embeddings
    bias                        bias, as it is
"""

import re
from collections.abc import Iterable

import numpy as np

# Where our modules are named otherwise than the originals (regular expression on our path -> their path).
RENAMED = (
    (r"/to_out/", "/to_out/0/"),
    (r"/(down|up)sampler/", r"/\1samplers/0/"),
    (r"/ff/proj_in/", "/ff/net/0/proj/"),
    (r"/ff/proj_out/", "/ff/net/2/"),
    # CLIP text encoder
    (r"^(token|position)_embedding/", r"embeddings/\1_embedding/"),
    (r"^layers/", "encoder/layers/"),
    # CLIP image encoder
    (r"^(class|patch)_embedding(?=/|$)", r"embeddings/\1_embedding"),
    (r"^pre_layernorm/", "pre_layrnorm/"),
)

# Names that older files use (regular expression on a file's name -> today's name).
LEGACY = (
    (r"^text_model\.", ""),
    (r"(attentions\.\d+)\.query\.", r"\1.to_q."),
    (r"(attentions\.\d+)\.key\.", r"\1.to_k."),
    (r"(attentions\.\d+)\.value\.", r"\1.to_v."),
    (r"(attentions\.\d+)\.proj_attn\.", r"\1.to_out.0."),
)

# Names in files that hold no parameter.
NO_PARAMETER = (r"^embeddings\.position_ids$",)

LEAVES = {"kernel": "weight", "scale": "weight", "embedding": "weight", "bias": "bias"}


def torch_name(path: str) -> str:
    """The original's name of our parameter: ``mid_block/attentions/0/proj_in/kernel`` -> ``...0.proj_in.weight``."""
    for pattern, replacement in RENAMED:
        path = re.sub(pattern, replacement, path)
    module, _, leaf = path.rpartition("/")
    return f"{module}/{LEAVES.get(leaf, leaf)}".replace("/", ".")


def current_names(names: Iterable[str]) -> dict[str, str]:
    """Today's name -> the name in the file, without the names that hold no parameter."""
    current = {}
    for name in names:
        new = name
        for pattern, replacement in LEGACY:
            new = re.sub(pattern, replacement, new)
        if not any(re.search(pattern, new) for pattern in NO_PARAMETER):
            current[new] = name
    return current


def torch_shape(path: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The original's shape of our parameter of ``shape``."""
    return tuple(shape[axis] for axis in _axes_to_torch(path, len(shape)))


def from_torch(path: str, array: np.ndarray) -> np.ndarray:
    """A PyTorch array in our layout."""
    return array.transpose(np.argsort(_axes_to_torch(path, array.ndim)))


def to_torch(path: str, array: np.ndarray) -> np.ndarray:
    """One of our arrays in PyTorch's layout, as a view."""
    return array.transpose(_axes_to_torch(path, array.ndim))


def _axes_to_torch(path: str, ndim: int) -> tuple[int, ...]:
    if path.endswith("/kernel"):
        return {2: (1, 0), 4: (3, 2, 0, 1)}[ndim]
    return tuple(range(ndim))
