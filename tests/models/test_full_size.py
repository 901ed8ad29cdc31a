"""Stable Diffusion 1.5 at its real size with random weights: loaded from disk, converted, and against diffusers.

    pytest -m slow tests/models/test_full_size.py -s

About 13 GB of memory and 9 GB of disk.
"""

import gc
import time
import zlib

import jax
import numpy as np
import pytest
import torch

from tests.checkpoint.memory import LINUX, output_of
from tests.checkpoint.pipelines import make_models, save_pipeline
from vrwkv_jax.editing.components import Components
from vrwkv_jax.models import params as P
from vrwkv_jax.models.video_config import VideoConfig

pytestmark = [
    pytest.mark.slow,
    LINUX,
]

UNET = {"cross_attention_dim": 768}  # all else is diffusers' default
VAE = {
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
}
TEXT = {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12, "hidden_act": "quick_gelu"}
WEIGHTS = 4 * (859_520_964 + 83_653_863 + 123_060_480)  # bytes
SIZES = [(64, 64), (40, 72)]  # latents of 512x512 pixels, and of a size that halves to odd numbers
# Of the output's scale; both sides compute in float32.
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """The directory, and the U-Net's inputs and outputs; the oracle itself is gone from memory."""
    directory = tmp_path_factory.mktemp("full") / "sd15"
    models = make_models(UNET, VAE, TEXT)
    save_pipeline(directory, models)
    calls = []
    for height, width in SIZES:
        rng = np.random.default_rng(height)
        latents = rng.normal(size=(1, 1, height, width, 4)).astype(np.float32)
        text = rng.normal(size=(1, 77, 768)).astype(np.float32)
        start = time.perf_counter()
        with torch.no_grad():
            image = torch.from_numpy(latents[:, 0]).permute(0, 3, 1, 2)
            output = models["unet"](image, torch.tensor([481]), torch.from_numpy(text)).sample
        calls.append((latents, text, output.permute(0, 2, 3, 1)[:, None].numpy()))
        print(f"\ndiffusers {height}x{width}: {time.perf_counter() - start:.1f} s")
    models.clear()
    gc.collect()
    return directory, calls


LOAD = """
import sys, time
import numpy as np
from tests.checkpoint.memory import peak_memory
from vrwkv_jax.editing.components import Components
from vrwkv_jax.models.video_config import VideoConfig
start = time.perf_counter()
with peak_memory() as peak:
    parts = Components.load(sys.argv[1], video=VideoConfig(mixer="none"), dtype=np.dtype("float32"), seed=0)
seconds = time.perf_counter() - start
weights = sum(a.nbytes for p in (parts.unet, parts.vae, parts.text_encoder) for a in p.params.values())
print(weights, peak.bytes / weights, seconds)
"""


CONVERT = """
import sys, time
from vrwkv_jax.checkpoint.conversion import convert
from tests.checkpoint.memory import peak_memory
start = time.perf_counter()
with peak_memory() as peak:
    convert(*sys.argv[1:])
print(peak.bytes, time.perf_counter() - start)
"""


def load(directory) -> Components:
    return Components.load(directory, video=VideoConfig(mixer="none"), dtype=np.dtype("float32"), seed=0)


def assert_loads_in_little_memory(directory):
    weights, ratio, seconds = output_of(LOAD, directory)
    print(f"\n{weights / 1e9:.2f} GB loaded in {seconds:.1f} s, peak memory {ratio:.3f} times that")
    assert weights == WEIGHTS
    assert ratio <= 1.3


def checksums(components: Components) -> list[dict[str, int]]:
    parts = (components.unet, components.vae, components.text_encoder)
    return [{path: zlib.crc32(np.asarray(array)) for path, array in part.params.items()} for part in parts]


def test_unet_matches_diffusers(checkpoint):
    directory, calls = checkpoint
    unet = load(directory).unet
    assert (P.count(unet.params), len(unet.params)) == (859_520_964, 686)
    compute = jax.jit(lambda params, *args: P.merge(unet.graphdef, params)(*args))
    for latents, text, expected in calls:
        start = time.perf_counter()
        args = (unet.params, latents, np.array([481], np.int32), text)
        compiled = compute.lower(*args).compile()
        middle = time.perf_counter()
        actual = np.asarray(compiled(*args))
        difference = np.abs(actual - expected).max() / np.abs(expected).max()
        print(
            f"\n{latents.shape}: difference {difference:.2e} of the scale, {middle - start:.1f} s to compile, "
            f"{time.perf_counter() - middle:.1f} s to run"
        )
        assert actual.shape == expected.shape
        assert difference <= TOLERANCE


def test_loads_in_little_memory(checkpoint):
    assert_loads_in_little_memory(checkpoint[0])


def test_converted_checkpoint_is_the_same(checkpoint):
    directory, converted = checkpoint[0], checkpoint[0].with_name("converted")
    expected = checksums(load(directory))
    bytes_, seconds = output_of(CONVERT, directory, converted)
    print(f"\nconverted in {seconds:.1f} s, peak memory {bytes_ / WEIGHTS:.3f} times the weights")
    assert bytes_ <= 1.3 * WEIGHTS
    assert checksums(load(converted)) == expected
    assert_loads_in_little_memory(converted)
