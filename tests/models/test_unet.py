"""The U-Net against diffusers' ``UNet2DConditionModel`` with random weights, as image model and as video model."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from flax import nnx

from tests.torch_weights import randomize
from vrwkv_jax.checkpoint.load import from_tensors
from vrwkv_jax.models import params as P
from vrwkv_jax.models.config import from_json
from vrwkv_jax.models.mixers.config import VideoConfig
from vrwkv_jax.models.unet import UNet
from vrwkv_jax.models.unet_config import UNetConfig

SD1 = {"block_out_channels": (32, 64), "attention_head_dim": 8, "cross_attention_dim": 24, "norm_num_groups": 16}
SD2 = {
    "block_out_channels": (32, 64, 96),
    "attention_head_dim": (2, 4, 6),
    "cross_attention_dim": 40,
    "norm_num_groups": 8,
    "use_linear_projection": True,
    "upcast_attention": True,
}
CROSS, PLAIN = ("CrossAttnDownBlock2D", "CrossAttnUpBlock2D"), ("DownBlock2D", "UpBlock2D")
FAMILIES = {
    "sd1": SD1 | {"down_block_types": (CROSS[0], PLAIN[0]), "up_block_types": (PLAIN[1], CROSS[1])},
    "sd2": SD2 | {"down_block_types": (CROSS[0], CROSS[0], PLAIN[0]), "up_block_types": (PLAIN[1], CROSS[1], CROSS[1])},
    "attention-at-the-bottom": SD1
    | {"down_block_types": (PLAIN[0], CROSS[0]), "up_block_types": (CROSS[1], PLAIN[1]), "layers_per_block": 1},
    "two-deep-transformers": SD1
    | {"down_block_types": (CROSS[0],) * 2, "up_block_types": (CROSS[1],) * 2, "transformer_layers_per_block": 2}
    | {"flip_sin_to_cos": False, "freq_shift": 1},
}
# Of the output's scale. The oracle runs in float64, since PyTorch's own float32 is up to 2e-4 away from that with these
# weights. We are 2e-6 to 4e-5 away, nearly all of it from the oracle's sinusoids, which it takes of float32 angles.
TOLERANCE = 1e-4

VIDEO_MODELS = {
    "default": VideoConfig(),
    "everywhere-joint": VideoConfig(placement=("skip", "mid", "transformer"), token_order="joint", skip_gate=True),
    "convolutions": VideoConfig(projection="conv", init="local", first_frame="zero", decay_norm=4),
}


def load(oracle: UNet2DConditionModel, video: VideoConfig = VideoConfig(mixer="none"), seed: int = 0):
    """Our U-Net with the oracle's weights, and mixers as they start, as a function of (latents, timesteps, text)."""
    config = from_json(UNetConfig, dict(oracle.config), "unet/config.json")
    graphdef, params = P.split(UNet(config, video, rngs=nnx.Rngs(seed)))
    pretrained = {path: leaf for path, leaf in params.items() if "/mixer/" not in path and "/gate/" not in path}
    tensors = {name: tensor.float().numpy() for name, tensor in oracle.state_dict().items()}
    params |= from_tensors(tensors, pretrained, None, "oracle")
    return jax.jit(lambda *args: P.merge(graphdef, params)(*args))


def inputs(channels: int, text_width: int, *, clips: int, frames: int, height: int, width: int, seed: int = 0):
    rng = np.random.default_rng(seed)
    latents = rng.normal(size=(clips, frames, height, width, channels)).astype(np.float32)
    text = rng.normal(size=(clips, 11, text_width)).astype(np.float32)
    return latents, rng.integers(0, 1000, clips).astype(np.int32), text


def run_oracle(oracle, latents, timesteps, text) -> np.ndarray:
    """The image model on every frame by itself."""
    clips, frames = latents.shape[:2]
    images = torch.from_numpy(latents.reshape(-1, *latents.shape[2:])).permute(0, 3, 1, 2)
    with torch.no_grad():
        output = oracle.double()(
            images.double(),
            torch.from_numpy(timesteps).repeat_interleave(frames),
            torch.from_numpy(text).double().repeat_interleave(frames, dim=0),
        ).sample
    return output.permute(0, 2, 3, 1).numpy().reshape(clips, frames, *latents.shape[2:4], -1)


def assert_equal(actual, expected, tolerance=TOLERANCE):
    assert actual.shape == expected.shape
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * np.abs(expected).max())


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("height", "width"), [(16, 16), (13, 18)], ids=["even", "odd"])
def test_image_model(family, height, width):
    oracle = randomize(UNet2DConditionModel(**FAMILIES[family]))
    args = inputs(4, oracle.config.cross_attention_dim, clips=3, frames=1, height=height, width=width)
    assert_equal(load(oracle)(*args), run_oracle(oracle, *args))


@pytest.mark.parametrize("family", ["sd1", "sd2"])
@pytest.mark.parametrize("video", VIDEO_MODELS)
def test_video_model_before_tuning_is_the_image_model_on_every_frame(family, video):
    oracle = randomize(UNet2DConditionModel(**FAMILIES[family]))
    args = inputs(4, oracle.config.cross_attention_dim, clips=2, frames=7, height=12, width=20)
    assert_equal(load(oracle, VIDEO_MODELS[video])(*args), run_oracle(oracle, *args))


def test_other_channel_counts():
    oracle = randomize(UNet2DConditionModel(**FAMILIES["sd1"], in_channels=9, out_channels=5))
    args = inputs(9, 24, clips=1, frames=2, height=8, width=8)
    assert_equal(load(oracle)(*args), run_oracle(oracle, *args))


def test_bfloat16_stays_bfloat16():
    oracle = randomize(UNet2DConditionModel(**FAMILIES["sd1"]))
    config = from_json(UNetConfig, dict(oracle.config), "unet/config.json")
    graphdef, params = P.split(UNet(config, VideoConfig(), rngs=nnx.Rngs(0)))
    params = {path: leaf.astype(jnp.bfloat16) for path, leaf in params.items()}
    latents, timesteps, text = inputs(4, 24, clips=1, frames=2, height=8, width=8)
    output = jax.jit(P.merge(graphdef, params))(latents.astype(jnp.bfloat16), timesteps, text.astype(jnp.bfloat16))
    assert output.dtype == jnp.bfloat16
