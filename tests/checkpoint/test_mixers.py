"""The mixers of an exported run: read by the PyTorch code of the docs, and by us."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import torch
from flax import nnx
from safetensors.torch import load_file

from vrwkv_jax.checkpoint import mixers
from vrwkv_jax.models import params as P
from vrwkv_jax.models.mixers.vrwkv import VRWKV, VRWKVConfig
from vrwkv_jax.models.video_config import VideoConfig

PAGE = (Path(__file__).parents[2] / "docs" / "checkpoints.md").read_text()
CHANNELS = 10  # no multiple of 4: two of them are not shifted
NAME = "mid_block/mixer/"


def random_mixer(key: jax.Array) -> tuple[VRWKV, P.Params]:
    module = VRWKV(CHANNELS, VRWKVConfig(), heads=1, layer=1, num_layers=3, bi_wkv="reference", rngs=nnx.Rngs(0))
    graphdef, params = P.split(module)
    keys = jax.random.split(key, len(params))
    params = {
        path: leaf + 0.3 * jax.random.normal(one, leaf.shape)
        for (path, leaf), one in zip(params.items(), keys, strict=True)
    }
    return P.merge(graphdef, params), params


def test_the_code_of_the_docs_reads_it_and_is_the_same_mixer(tmp_path):
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    names: dict = {}
    exec(code, names)  # our own page
    module, params = random_mixer(jax.random.key(0))
    mixers.save(tmp_path, VideoConfig(), {NAME + path: leaf for path, leaf in params.items()})
    weights = load_file(tmp_path / "mixers" / "diffusion_pytorch_model.safetensors")
    x = np.random.default_rng(0).normal(size=(2, 5, 3, 4, CHANNELS)).astype(np.float32)
    theirs = names["mixer"](torch.tensor(x), weights, "mid_block.mixer").numpy()
    ours = np.asarray(module(jnp.asarray(x)))
    assert np.abs(ours - x).max() > 0.1  # it does something
    np.testing.assert_allclose(theirs, ours, atol=2e-5 * np.abs(ours).max())  # float32, sums in another order


def test_it_is_read_back_as_it_was(tmp_path):
    _, params = random_mixer(jax.random.key(1))
    params = {NAME + path: leaf for path, leaf in params.items()}
    video = VideoConfig(vrwkv=VRWKVConfig(decay_norm=24, token_order="joint")).settled()
    assert mixers.config_of(tmp_path) is None
    mixers.save(tmp_path, video, params)
    assert mixers.config_of(tmp_path) == video
    back = mixers.read(tmp_path, params)
    assert back.keys() == params.keys()
    for path, leaf in params.items():
        np.testing.assert_array_equal(back[path], leaf)
