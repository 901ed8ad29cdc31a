"""Features against those that a hook finds in diffusers' U-Net, and their means by loops."""

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel

from tests.editing.long.adaflow.unets import unit
from tests.models.test_unet import FAMILIES
from tests.models.tiny_unet import as_new
from tests.torch_weights import randomize
from vrwkv_jax.checkpoint.tensors import Arrays
from vrwkv_jax.checkpoint.torch_tensors import from_tensors
from vrwkv_jax.diffusion.schedule import NoiseSchedule
from vrwkv_jax.editing.denoiser import Denoiser
from vrwkv_jax.editing.long.adaflow.features import at_levels, attention_levels, feature_block, frame_features
from vrwkv_jax.models.json_config import from_json
from vrwkv_jax.models.unet import UNet
from vrwkv_jax.models.unet_config import UNetConfig


def test_features_are_those_of_the_image_model():
    """Of three levels."""
    oracle = randomize(UNet2DConditionModel(**FAMILIES["no-middle-attention-at-the-bottom"])).double()
    config = from_json(UNetConfig, dict(oracle.config), "unet/config.json")
    graphdef, shapes = as_new(lambda rngs: UNet(config, rngs=rngs))
    tensors = {name: tensor.float().numpy() for name, tensor in oracle.state_dict().items()}
    params = {path: jnp.asarray(leaf) for path, leaf in from_tensors(Arrays(tensors), shapes, None, "oracle").items()}
    rng = np.random.default_rng(0)
    latents = rng.normal(size=(2, 5, 6, 4)).astype(np.float32)
    text = rng.normal(size=(1, 11, config.cross_attention_dim)).astype(np.float32)
    found = frame_features(Denoiser(graphdef, NoiseSchedule(), params, "float32"), latents, text)

    block = feature_block(params)
    assert block == 1
    seen = []
    oracle.up_blocks[block].register_forward_hook(lambda module, given, output: seen.append(output))
    with torch.no_grad():
        images = torch.from_numpy(latents).permute(0, 3, 1, 2).double()
        oracle(images, torch.zeros(2), torch.from_numpy(text).double().repeat(2, 1, 1))
    expected = seen[0].permute(0, 2, 3, 1).numpy()
    expected /= np.linalg.norm(expected, axis=-1, keepdims=True)
    assert found.shape == (2, 5, 6, config.block_out_channels[1])
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())  # as TOLERANCE of test_unet.py

    halved = Denoiser(graphdef, NoiseSchedule(), params, "bfloat16")
    assert frame_features(halved, latents, text).dtype == jnp.float16


def test_which_block_and_which_levels():
    sd = [f"up_blocks/{i}/upsampler/conv/kernel" for i in range(3)] + ["up_blocks/3/resnets/0/conv1/kernel"]
    sd += [f"down_blocks/{i}/attentions/0/proj_in/kernel" for i in range(3)] + ["down_blocks/3/resnets/0/conv1/kernel"]
    sd += [f"up_blocks/{i}/attentions/0/proj_in/kernel" for i in range(1, 4)]
    assert feature_block(sd) == 2 and attention_levels(sd) == (0, 1, 2)
    assert attention_levels([*sd, "mid_block/attentions/0/proj_in/kernel"]) == (0, 1, 2, 3)
    one = ["up_blocks/0/resnets/0/conv1/kernel", "down_blocks/0/resnets/0/conv1/kernel", "mid_block/attentions/0/norm"]
    assert feature_block(one) == 0 and attention_levels(one) == (0,)


@pytest.mark.parametrize(("height", "width"), [(5, 7), (8, 4), (1, 3)])
def test_means_of_places(height, width):
    features = unit(2, height, width, 6)
    found = at_levels(jnp.asarray(features), (0, 2))
    current = np.float64(features)
    for _ in range(2):
        rows, columns = (range(0, size, 2) for size in current.shape[1:3])
        current = np.stack([[f[i : i + 2, j : j + 2].mean((0, 1)) for i in rows for j in columns] for f in current])
        current = current.reshape(2, len(rows), len(columns), 6)
    current /= np.linalg.norm(current, axis=-1, keepdims=True)
    assert list(found) == [height * width, current.shape[1] * current.shape[2]]
    np.testing.assert_allclose(found[height * width], features.reshape(2, -1, 6), atol=1e-6)
    # means of up to 16 float32 numbers, whose length may be small
    np.testing.assert_allclose(list(found.values())[1], current.reshape(2, -1, 6), atol=5e-6)
