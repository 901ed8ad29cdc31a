"""Loading keeps little more in memory than the weights themselves."""

import shutil

import numpy as np
import pytest
import torch

from tests.checkpoint.memory import LINUX, output_of
from vrwkv_jax.checkpoint import native
from vrwkv_jax.checkpoint.save import save_component
from vrwkv_jax.checkpoint.torch_names import to_torch, torch_name

pytestmark = LINUX

# 150 layers of all sizes from 9 KB to 9.4 MB, 314 MB in all.
SHAPES = {f"down_blocks/{i}/conv/kernel": (3, 3, 16 << i % 6, 16 << i % 6) for i in range(150)}
LOAD = """
import ast, sys
from pathlib import Path
import jax
from tests.checkpoint.memory import peak_memory
from vrwkv_jax.checkpoint.source import Source
directory, shapes = Path(sys.argv[1]), ast.literal_eval(sys.argv[2])
abstract = {path: jax.ShapeDtypeStruct(shape, "float32") for path, shape in shapes.items()}
path = next(iter(abstract))
Source(directory).read("warm-up", {path: abstract[path]})  # what the libraries take for themselves
with peak_memory() as peak:
    params = Source(directory.parent).read(directory.name, abstract)
print(sum(array.nbytes for array in params.values()), peak.bytes)
"""


@pytest.fixture
def directory(tmp_path):
    yield tmp_path / "unet"
    shutil.rmtree(tmp_path / "unet")  # pytest would keep it for three sessions


def arrays():
    rng = np.random.default_rng(0)
    return {path: rng.random(shape, np.float32) for path, shape in SHAPES.items()}


@pytest.mark.parametrize("layout", ["safetensors", "bin", "converted"])
def test_peak_is_at_most_1_3_times_the_weights(layout, directory):
    params = arrays()
    first = next(iter(params))
    for place, some in ((directory, params), (directory / "warm-up", {first: params[first]})):
        place.mkdir()
        if layout == "converted":
            native.save(place, some)
        elif layout == "bin":
            tensors = {torch_name(path): torch.from_numpy(to_torch(path, array)) for path, array in some.items()}
            torch.save(tensors, place / "diffusion_pytorch_model.bin")
        else:
            save_component(place, {}, some)
    weights, peak = output_of(LOAD, directory, SHAPES)
    assert weights == 314_496_000
    assert peak <= 1.3 * weights, f"{peak / weights:.2f} times the weights"
