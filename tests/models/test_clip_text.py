"""The text encoder against transformers' ``CLIPTextModel`` with random weights."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from transformers import CLIPTextConfig as TorchConfig
from transformers import CLIPTextModel

from tests.torch_weights import assert_close, assign, randomize
from vrwkv_jax.models.clip_text import CLIPTextConfig, CLIPTextEncoder
from vrwkv_jax.models.params import abstract, count, merge
from vrwkv_jax.system.errors import UserError

# Both sides compute in float32 (eps 6e-8); LayerNorm keeps errors from growing over the layers, and the full-size model
# differs by 7e-7.
TOLERANCE = 1e-5

TINY = {
    "vocab_size": 514,
    "hidden_size": 40,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 5,
    "max_position_embeddings": 21,
}
CLIP_L = {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12}
PAD = 513


def build(values):
    oracle = randomize(CLIPTextModel(TorchConfig(**values, attn_implementation="eager")))
    graphdef, params = abstract(lambda rngs: CLIPTextEncoder(CLIPTextConfig.from_dict(values), rngs=rngs))
    return oracle, graphdef, assign(params, oracle.state_dict())


def encode(graphdef, params, input_ids):
    return jax.jit(lambda params, ids: merge(graphdef, params)(ids))(params, np.asarray(input_ids, np.int32))


def random_ids(length, vocab_size=TINY["vocab_size"]):
    """One row full of tokens and one that is padded from the middle on."""
    ids = np.random.default_rng(0).integers(0, vocab_size, (2, length))
    ids[1, length // 2 :] = PAD
    return ids


@pytest.mark.parametrize("hidden_act", ["quick_gelu", "gelu"])
@pytest.mark.parametrize("length", [21, 13], ids=["full length", "shorter"])
def test_matches_transformers(hidden_act, length):
    oracle, graphdef, params = build({**TINY, "hidden_act": hidden_act})
    ids = random_ids(length)
    expected = oracle(torch.from_numpy(ids)).last_hidden_state
    assert_close(encode(graphdef, params, ids), expected, TOLERANCE)


def test_layer_norm_eps_is_taken_from_the_configuration():
    oracle, graphdef, params = build({**TINY, "layer_norm_eps": 0.5})
    ids = random_ids(9)
    assert_close(encode(graphdef, params, ids), oracle(torch.from_numpy(ids)).last_hidden_state, TOLERANCE)


def test_no_token_sees_a_later_one():
    _, graphdef, params = build(TINY)
    ids = random_ids(21)[:1]
    changed = ids.copy()
    changed[0, 11] += 1
    before, after = encode(graphdef, params, ids), encode(graphdef, params, changed)
    differs = np.abs(before - after)[0].max(-1) > 0
    np.testing.assert_array_equal(differs, np.arange(21) >= 11)


def test_more_tokens_than_positions_are_refused():
    _, graphdef, params = build(TINY)
    with pytest.raises(ValueError, match="22 tokens, but there are only 21"):
        encode(graphdef, params, random_ids(22))


def test_bfloat16_stays_bfloat16():
    graphdef, params = abstract(lambda rngs: CLIPTextEncoder(CLIPTextConfig(**TINY), rngs=rngs))
    half = {path: jax.ShapeDtypeStruct(leaf.shape, jnp.bfloat16) for path, leaf in params.items()}
    ids = jax.ShapeDtypeStruct((2, 7), jnp.int32)
    assert jax.eval_shape(lambda params, ids: merge(graphdef, params)(ids), half, ids).dtype == jnp.bfloat16


@pytest.mark.parametrize("hidden_act", ["quick_gelu", "gelu"])
def test_two_models_of_one_configuration_share_one_compilation(hidden_act):
    config = CLIPTextConfig(**TINY, hidden_act=hidden_act)
    first, _ = abstract(lambda rngs: CLIPTextEncoder(config, rngs=rngs))
    second, _ = abstract(lambda rngs: CLIPTextEncoder(config, rngs=rngs))
    assert first == second and hash(first) == hash(second)


def test_size_of_clip_l():
    config = CLIPTextConfig.from_dict({**CLIP_L, "architectures": ["CLIPTextModel"], "eos_token_id": 2})
    _, params = abstract(lambda rngs: CLIPTextEncoder(config, rngs=rngs))
    assert (count(params), len(params)) == (123_060_480, 196)


def test_defaults_are_those_of_transformers():
    theirs, ours = TorchConfig(), CLIPTextConfig.from_dict({})
    assert {key: getattr(theirs, key) for key in vars(ours)} == vars(ours)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"hidden_act": "gelu_new"}, 'text_encoder/config.json: hidden_act is "gelu_new"'),
        ({"hidden_size": 100, "num_attention_heads": 12}, "expected a multiple of num_attention_heads, which is 12"),
    ],
)
def test_unsupported_configuration_is_refused(values, message):
    with pytest.raises(UserError, match=re.escape(message)):
        CLIPTextConfig.from_dict(values)


@pytest.mark.slow
def test_full_size_matches_transformers():
    oracle, graphdef, params = build(CLIP_L)
    ids = random_ids(77, vocab_size=49408)
    assert_close(encode(graphdef, params, ids), oracle(torch.from_numpy(ids)).last_hidden_state, TOLERANCE)
