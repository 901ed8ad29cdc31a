"""The VAE against diffusers' ``AutoencoderKL`` with random weights."""

import re

import jax
import jax.numpy as jnp
import pytest
import torch
from diffusers import AutoencoderKL as TorchVAE

from tests.torch_weights import assert_close, assign, randomize
from vrwkv_jax.models.params import abstract, count, merge
from vrwkv_jax.models.vae import AutoencoderKL, VAEConfig
from vrwkv_jax.system.errors import UserError

# Both sides compute in float32 (eps 6e-8) and sum up to 9 * 512 products in different orders, some twenty layers deep;
# the full-size model differs by 4e-6.
TOLERANCE = 2e-5

SD15 = {
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
}
CASES = {
    "two levels": {"block_out_channels": (32, 64)},
    "three levels": {"block_out_channels": (32, 64, 64), "layers_per_block": 2, "norm_num_groups": 8},
    "neither attention nor 1x1 convolutions": {
        "block_out_channels": (16, 24),
        "norm_num_groups": 4,
        "latent_channels": 3,
        "in_channels": 1,
        "out_channels": 2,
        "mid_block_add_attention": False,
        "use_quant_conv": False,
        "use_post_quant_conv": False,
    },
}


@pytest.fixture(params=CASES, scope="module")
def pair(request):
    return build(CASES[request.param])


def build(values):
    """diffusers' model, our graph and our parameters for one configuration."""
    levels = len(values["block_out_channels"])
    values = {
        "down_block_types": ["DownEncoderBlock2D"] * levels,
        "up_block_types": ["UpDecoderBlock2D"] * levels,
        **values,
    }
    oracle = randomize(TorchVAE(**values))
    return oracle, *load(oracle)


def load(oracle):
    """Our graph and parameters for diffusers' model."""
    config = VAEConfig.from_dict(oracle.config)
    graphdef, params = abstract(lambda rngs: AutoencoderKL(config, rngs=rngs))
    return graphdef, assign(params, oracle.state_dict())


def images(oracle, height, width):
    return torch.rand(2, oracle.config.in_channels, height, width, generator=torch.Generator().manual_seed(1)) * 2 - 1


def encode(graphdef, params, x):
    return jax.jit(lambda params, x: merge(graphdef, params).encode(x))(params, x.movedim(1, -1).numpy())


def decode(graphdef, params, x):
    return jax.jit(lambda params, x: merge(graphdef, params).decode(x))(params, x.movedim(1, -1).numpy())


@pytest.mark.parametrize(("height", "width"), [(40, 56), (23, 37)], ids=["40x56", "23x37, rounds down"])
def test_encode_matches_diffusers(pair, height, width):
    oracle, graphdef, params = pair
    x = images(oracle, height, width)
    expected = oracle.encode(x).latent_dist
    mean, logvar = encode(graphdef, params, x)
    assert_close(mean, expected.mean, TOLERANCE)
    assert_close(logvar, expected.logvar, TOLERANCE)


def test_decode_matches_diffusers(pair):
    oracle, graphdef, params = pair
    latents = torch.randn(2, oracle.config.latent_channels, 5, 7, generator=torch.Generator().manual_seed(2))
    assert_close(decode(graphdef, params, latents), oracle.decode(latents).sample, TOLERANCE)


def test_logvar_is_clamped_as_in_diffusers():
    oracle, *_ = build(CASES["two levels"])
    oracle.quant_conv.bias.copy_(torch.tensor([0, 0, 0, 0, 50, -50, 0, 0]))  # mean, then log variance
    x = images(oracle, 8, 8)
    _, logvar = encode(*load(oracle), x)
    assert logvar.max() == 20 and logvar.min() == -30
    assert_close(logvar, oracle.encode(x).latent_dist.logvar, TOLERANCE)


def test_eps_of_every_norm():
    """Against inputs of ordinary size, an eps of 1e-5 in place of 1e-6 would pass."""
    oracle, *_ = build(CASES["two levels"])
    for name, parameter in oracle.named_parameters():
        if re.search(r"conv(_in|_shortcut|1|2|)\.|to_out", name) and "quant" not in name:  # all that ends before a norm
            parameter.mul_(1e-3)
    graphdef, params = load(oracle)
    x = images(oracle, 8, 8)
    expected = oracle.encode(x).latent_dist
    mean, logvar = encode(graphdef, params, x)
    assert_close(mean, expected.mean, TOLERANCE)
    assert_close(logvar, expected.logvar, TOLERANCE)
    assert_close(decode(graphdef, params, expected.mean), oracle.decode(expected.mean).sample, TOLERANCE)


def test_bfloat16_stays_bfloat16():
    config = VAEConfig(**CASES["two levels"])
    graphdef, params = abstract(lambda rngs: AutoencoderKL(config, rngs=rngs))
    half = {path: jax.ShapeDtypeStruct(leaf.shape, jnp.bfloat16) for path, leaf in params.items()}
    latents = jax.ShapeDtypeStruct((1, 3, 5, 4), jnp.bfloat16)
    decoded = jax.eval_shape(lambda params, x: merge(graphdef, params).decode(x), half, latents)
    encoded = jax.eval_shape(lambda params, x: merge(graphdef, params).encode(x), half, decoded)
    assert [out.dtype for out in (decoded, *encoded)] == [jnp.bfloat16] * 3


def test_two_models_of_one_configuration_share_one_compilation():
    first, _ = abstract(lambda rngs: AutoencoderKL(VAEConfig(), rngs=rngs))
    second, _ = abstract(lambda rngs: AutoencoderKL(VAEConfig(), rngs=rngs))
    assert first == second and hash(first) == hash(second)


def test_size_of_sd15():
    config = VAEConfig.from_dict({**SD15, "_class_name": "AutoencoderKL", "sample_size": 512})
    _, params = abstract(lambda rngs: AutoencoderKL(config, rngs=rngs))
    assert (count(params), len(params), config.downscale) == (83_653_863, 248, 8)


def test_defaults_are_those_of_diffusers():
    theirs = TorchVAE().config
    ours = VAEConfig.from_dict({})
    assert {key: theirs[key] for key in vars(ours)} == vars(ours)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"act_fn": "relu"}, 'vae/config.json: act_fn is "relu", which is not supported; expected "silu" or "swish"'),
        ({"down_block_types": ["AttnDownEncoderBlock2D"]}, "DownEncoderBlock2D"),
        ({"block_out_channels": [32, 64]}, "down_block_types has 1 entries and block_out_channels has 2"),
        ({"block_out_channels": [40]}, "multiples of norm_num_groups, which is 32"),
    ],
)
def test_unsupported_configuration_is_refused(values, message):
    with pytest.raises(UserError, match=re.escape(message)):
        VAEConfig.from_dict(values)


@pytest.mark.slow
def test_full_size_matches_diffusers():
    oracle, graphdef, params = build(SD15)
    x = images(oracle, 64, 72)
    expected = oracle.encode(x).latent_dist
    mean, logvar = encode(graphdef, params, x)
    assert_close(mean, expected.mean, TOLERANCE)
    assert_close(logvar, expected.logvar, TOLERANCE)
    assert_close(decode(graphdef, params, expected.mean), oracle.decode(expected.mean).sample, TOLERANCE)
