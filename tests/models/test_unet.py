"""The U-Net against diffusers' ``UNet2DConditionModel`` with random weights, as image model and as video model."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from diffusers import LatentConsistencyModelPipeline, UNet2DConditionModel
from flax import nnx

from tests.models.tiny_unet import TINY, abstract, as_new
from tests.torch_weights import randomize
from vrwkv_jax.checkpoint.tensors import Arrays
from vrwkv_jax.checkpoint.torch_names import torch_name, torch_shape
from vrwkv_jax.checkpoint.torch_tensors import from_tensors
from vrwkv_jax.models import params as P
from vrwkv_jax.models.json_config import from_json
from vrwkv_jax.models.mixers.base import Usual
from vrwkv_jax.models.mixers.registry import MIXERS
from vrwkv_jax.models.mixers.vrwkv import VRWKV, VRWKVConfig
from vrwkv_jax.models.parameter_rules import FLOAT32
from vrwkv_jax.models.unet import IMAGE, UNet
from vrwkv_jax.models.unet_config import UNetConfig
from vrwkv_jax.models.video_config import VideoConfig
from vrwkv_jax.system.errors import UserError

SD1 = {
    "block_out_channels": (32, 64),
    "attention_head_dim": 8,
    "cross_attention_dim": 24,
    "norm_num_groups": 16,
    "layers_per_block": 1,
}
SD2 = {
    "block_out_channels": (32, 48),
    "attention_head_dim": (2, 6),
    "cross_attention_dim": 40,
    "norm_num_groups": 8,
    "layers_per_block": 1,
    "use_linear_projection": True,
    "upcast_attention": True,
}
CROSS, PLAIN = ("CrossAttnDownBlock2D", "CrossAttnUpBlock2D"), ("DownBlock2D", "UpBlock2D")
CROSS_PLAIN, PLAIN_CROSS = (CROSS[0], PLAIN[0]), (PLAIN[1], CROSS[1])
FAMILIES = {
    "sd1": SD1 | {"down_block_types": CROSS_PLAIN, "up_block_types": PLAIN_CROSS, "layers_per_block": 2},
    "sd2": SD2 | {"down_block_types": CROSS_PLAIN, "up_block_types": PLAIN_CROSS},
    "attention-at-the-bottom": SD1
    | {"down_block_types": (PLAIN[0], CROSS[0]), "up_block_types": (CROSS[1], PLAIN[1])}
    | {"in_channels": 9, "out_channels": 5},
    "two-deep-transformers": SD1
    | {"down_block_types": (CROSS[0],) * 2, "up_block_types": (CROSS[1],) * 2, "transformer_layers_per_block": 2}
    | {"flip_sin_to_cos": False, "freq_shift": 1},
    # as nota-ai's bk-sdm-small and segmind's small-sd
    "no-middle": SD1 | {"down_block_types": CROSS_PLAIN, "up_block_types": PLAIN_CROSS, "mid_block_type": None},
    # as nota-ai's bk-sdm-tiny and segmind's tiny-sd
    "no-middle-attention-at-the-bottom": SD1
    | {"block_out_channels": (32, 48, 64), "down_block_types": (CROSS[0],) * 3, "up_block_types": (CROSS[1],) * 3}
    | {"mid_block_type": None},
    "told-the-guidance": SD1
    | {"down_block_types": CROSS_PLAIN, "up_block_types": PLAIN_CROSS, "time_cond_proj_dim": 23},
}
# Of the output's scale. The oracle runs in float64, since PyTorch's own float32 is up to 2e-4 away from that with these
# weights. We are 2e-6 to 4e-5 away, nearly all of it from the oracle's sinusoids, which it takes of float32 angles.
TOLERANCE = 1e-4

VIDEO_MODELS = {
    "default": ("attention-at-the-bottom", VideoConfig()),
    "no-middle": ("no-middle", VideoConfig()),
    "everywhere-joint": (
        "sd2",
        VideoConfig(placement=("skip", "mid", "transformer"), skip_gate=True, vrwkv=VRWKVConfig(token_order="joint")),
    ),
    "convolutions": (
        "sd1",
        VideoConfig(
            placement=("mid",), vrwkv=VRWKVConfig(projection="conv", init="local", first_frame="zero", decay_norm=4)
        ),
    ),
}


def load(oracle: UNet2DConditionModel, video: VideoConfig = IMAGE):
    """Our U-Net with the oracle's weights, and mixers as they start, as a function of (latents, timesteps, text)."""
    config = from_json(UNetConfig, dict(oracle.config), "unet/config.json")
    graphdef, params = as_new(lambda rngs: UNet(config, video, rngs=rngs))
    pretrained = {path: leaf for path, leaf in params.items() if "/mixer/" not in path and "/gate/" not in path}
    tensors = {name: tensor.float().numpy() for name, tensor in oracle.state_dict().items()}
    params |= from_tensors(Arrays(tensors), pretrained, None, "oracle")
    return jax.jit(lambda *args, **options: P.merge(graphdef, params)(*args, **options))


def inputs(oracle: UNet2DConditionModel, *, clips: int, frames: int, height: int, width: int):
    rng = np.random.default_rng(0)
    latents = rng.normal(size=(clips, frames, height, width, oracle.config.in_channels)).astype(np.float32)
    text = rng.normal(size=(clips, 11, oracle.config.cross_attention_dim)).astype(np.float32)
    return latents, rng.integers(0, 1000, clips).astype(np.int32), text


def run_oracle(oracle, latents, timesteps, text, **options) -> np.ndarray:
    """The image model on every frame by itself."""
    clips, frames = latents.shape[:2]
    images = torch.from_numpy(latents.reshape(-1, *latents.shape[2:])).permute(0, 3, 1, 2)
    with torch.no_grad():
        output = oracle.double()(
            images.double(),
            torch.from_numpy(timesteps).repeat_interleave(frames),
            torch.from_numpy(text).double().repeat_interleave(frames, dim=0),
            **options,
        ).sample
    return output.permute(0, 2, 3, 1).numpy().reshape(clips, frames, *latents.shape[2:4], -1)


def assert_equal(actual, expected, tolerance=TOLERANCE):
    assert actual.shape == expected.shape
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * np.abs(expected).max())


@pytest.mark.parametrize("family", FAMILIES)
def test_image_model(family):
    oracle = randomize(UNet2DConditionModel(**FAMILIES[family]))
    args = inputs(oracle, clips=3, frames=1, height=13, width=18)  # on the way down 13 -> 7 and 18 -> 9
    assert_equal(load(oracle)(*args), run_oracle(oracle, *args))


@pytest.mark.parametrize("name", VIDEO_MODELS)
def test_video_model_before_tuning_is_the_image_model_on_every_frame(name):
    family, video = VIDEO_MODELS[name]
    oracle = randomize(UNet2DConditionModel(**FAMILIES[family]))
    args = inputs(oracle, clips=2, frames=3, height=8, width=12)
    assert_equal(load(oracle, video)(*args), run_oracle(oracle, *args))


def test_a_latent_consistency_model_is_told_the_guidance_scale():
    """``timestep_cond`` as diffusers' pipeline for these models makes it."""
    oracle = randomize(UNet2DConditionModel(**FAMILIES["told-the-guidance"]))
    args, guidance = inputs(oracle, clips=3, frames=1, height=8, width=8), np.array([1, 4.5, 8.5], np.float32)
    w = torch.from_numpy(guidance - 1)
    told = LatentConsistencyModelPipeline.get_guidance_scale_embedding(None, w, 23)
    expected = run_oracle(oracle, *args, timestep_cond=told.double())
    found = load(oracle)(*args, guidance=guidance)
    assert_equal(found, expected)
    assert np.abs(expected - run_oracle(oracle, *args)).max() > 100 * TOLERANCE * np.abs(expected).max()


def test_another_unet_refuses_to_be_told_the_guidance_scale():
    oracle = randomize(UNet2DConditionModel(**FAMILIES["no-middle"]))
    args = inputs(oracle, clips=1, frames=1, height=8, width=8)
    with pytest.raises(ValueError, match="takes no guidance scale"):
        load(oracle)(*args, guidance=np.array([4], np.float32))


WHOLE = {"block_out_channels": (320, 640, 1280, 1280), "cross_attention_dim": 768, "attention_head_dim": 8}
THREE = {"down_block_types": (CROSS[0],) * 3, "up_block_types": (CROSS[1],) * 3, "block_out_channels": (320, 640, 1280)}
DISTILLED = {  # what the published unet/config.json say of the shape
    "bk-sdm-base": WHOLE | {"layers_per_block": 1},
    "bk-sdm-small": WHOLE | {"layers_per_block": 1, "mid_block_type": None},
    "bk-sdm-tiny": WHOLE | THREE | {"layers_per_block": 1, "mid_block_type": None},
    "lcm-dreamshaper-v7": WHOLE | {"time_cond_proj_dim": 256},
}


@pytest.mark.parametrize("name", DISTILLED)
def test_distilled_models_of_full_size_have_the_parameters_of_diffusers(name):
    with torch.device("meta"):
        oracle = UNet2DConditionModel(**DISTILLED[name])
    config = from_json(UNetConfig, dict(oracle.config), "unet/config.json")
    _, params = abstract(IMAGE, config)
    ours = {torch_name(path): torch_shape(path, leaf.shape) for path, leaf in params.items()}
    theirs = {key: tuple(tensor.shape) for key, tensor in oracle.state_dict().items()}
    assert ours.keys() == theirs.keys()
    assert {key: math.prod(shape) for key, shape in ours.items()} == {
        key: math.prod(shape) for key, shape in theirs.items()
    }


def test_a_place_that_the_unet_lacks_is_refused_where_it_is_the_only_one():
    config = from_json(UNetConfig, FAMILIES["no-middle"], "unet/config.json")
    with pytest.raises(
        UserError, match="placement is mid, which this model's U-Net does not have; expected skip or tr"
    ):
        abstract(VideoConfig(placement=("mid",)), config)
    paths = abstract(VideoConfig(placement=("mid", "skip")), config)[1]
    assert {path.split("/")[0] for path in paths if "/mixer/" in path} == {"up_blocks"}


GATED = {"skip_gate": True, "placement": ("skip", "mid", "transformer")}
IN_BFLOAT16 = {name: (TINY, VideoConfig(mixer=name)) for name in MIXERS} | {
    "vrwkv": (
        from_json(UNetConfig, FAMILIES["sd2"], "unet/config.json"),
        VideoConfig(**GATED, vrwkv=VRWKVConfig(projection="conv")),
    )
}


@pytest.mark.parametrize("case", IN_BFLOAT16)
def test_bfloat16_stays_bfloat16(case):
    """With remat and for the gradient, too."""
    config, video = IN_BFLOAT16[case]
    graphdef, params = abstract(video, config)
    half = partial(jax.ShapeDtypeStruct, dtype=jnp.bfloat16)

    def run(params, *args):
        output, back = jax.vjp(lambda params: P.merge(graphdef, params)(*args, remat=True), params)
        return output, back(output)

    output, _ = jax.eval_shape(
        run,
        {path: leaf if FLOAT32.search(path) else half(leaf.shape) for path, leaf in params.items()},
        half((1, 2, 8, 8, config.in_channels)),
        jax.ShapeDtypeStruct((1,), jnp.int32),
        half((1, 11, config.cross_attention_dim)),
    )
    assert output.dtype == jnp.bfloat16


def test_mixers_count_their_depth_in_the_order_of_the_forward_pass(monkeypatch):
    ran = []

    class Recorder(nnx.Module):
        usual = Usual(placement=("skip", "mid"))
        bypass = VRWKV.bypass

        def __init__(self, channels, config, *, heads, layer, num_layers, bi_wkv, rngs):
            self.layer, self.num_layers = layer, num_layers

        def __call__(self, x, control):
            ran.append((self.layer, self.num_layers))
            return x

    monkeypatch.setitem(MIXERS, "vrwkv", Recorder)
    config = from_json(UNetConfig, FAMILIES["sd1"], "unet/config.json")
    args = [jnp.zeros(shape, dtype) for shape, dtype in (((1, 2, 8, 8, 4), float), ((1,), int), ((1, 11, 24), float))]
    # Two levels of three skip connections each; transformers: 2 down, 1 in the middle, 3 up.
    for placement, count in {("skip", "mid"): 7, ("transformer",): 6}.items():
        ran.clear()
        graphdef, params = abstract(VideoConfig(placement=placement), config)
        jax.eval_shape(lambda graphdef, params: P.merge(graphdef, params)(*args), graphdef, params)
        assert ran == [(layer, count) for layer in range(count)]
