"""Image encoders against transformers' ``CLIPModel`` and ``ViTModel`` with random weights."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from transformers import CLIPConfig, CLIPModel
from transformers import CLIPVisionConfig as TorchVisionConfig
from transformers import ViTConfig as TorchViTConfig

from tests.torch_weights import assert_close, assign, randomize
from vrwkv_jax.models.clip_text import CLIPTextConfig, CLIPTextTower
from vrwkv_jax.models.clip_vision import DINO, CLIPVisionConfig, CLIPVisionTower, DINOConfig
from vrwkv_jax.models.params import abstract, count, merge
from vrwkv_jax.system.errors import UserError

# As for the text encoder: float32 on both sides, and LayerNorm keeps errors from growing over the layers.
TOLERANCE = 1e-5

TEXT = {"vocab_size": 514, "hidden_size": 40, "intermediate_size": 96, "num_hidden_layers": 2}
TEXT |= {"num_attention_heads": 5, "max_position_embeddings": 21}
VISION = {"hidden_size": 36, "intermediate_size": 52, "num_hidden_layers": 3, "num_attention_heads": 3}
VISION |= {"image_size": 35, "patch_size": 7}
PROJECTED = 17
END = 513


def clip(hidden_act="quick_gelu", **vision):
    """The oracle; eos_token_id as today's files have it."""
    config = CLIPConfig(
        text_config=TEXT | {"eos_token_id": END, "hidden_act": hidden_act},
        vision_config=VISION | {"hidden_act": hidden_act} | vision,
        projection_dim=PROJECTED,
        attn_implementation="eager",
    )
    return randomize(CLIPModel(config))


def state(oracle, *prefixes):
    """The tensors of one half by the names of ours."""
    named = {name: tensor for name, tensor in oracle.state_dict().items() if name.startswith(prefixes)}
    return {re.sub(r"^(text|vision)_model\.", "", name): tensor for name, tensor in named.items()}


def pictures(size=35, number=4):
    return np.random.default_rng(1).normal(size=(number, size, size, 3)).astype(np.float32)


def features(graphdef, params, *inputs):
    return jax.jit(lambda params, *inputs: merge(graphdef, params).features(*inputs))(params, *inputs)


@pytest.mark.parametrize("hidden_act", ["quick_gelu", "gelu"])
def test_image_features_match_transformers(hidden_act):
    oracle = clip(hidden_act)
    config = CLIPVisionConfig.from_dict(VISION | {"hidden_act": hidden_act})
    graphdef, shapes = abstract(lambda rngs: CLIPVisionTower(config, PROJECTED, rngs=rngs))
    params = assign(shapes, state(oracle, "vision_model.", "visual_projection."))
    expected = oracle.get_image_features(torch.from_numpy(pictures()).movedim(-1, 1)).pooler_output
    assert expected.shape == (4, PROJECTED)
    assert_close(features(graphdef, params, pictures()), expected, TOLERANCE)


def test_text_features_match_transformers():
    oracle = clip()
    graphdef, shapes = abstract(lambda rngs: CLIPTextTower(CLIPTextConfig.from_dict(TEXT), PROJECTED, rngs=rngs))
    params = assign(shapes, state(oracle, "text_model.", "text_projection."))
    ids = np.random.default_rng(0).integers(0, 512, (3, 21)).astype(np.int32)
    ends = np.array([20, 4, 11], np.int32)
    for row, end in zip(ids, ends, strict=True):
        row[end:] = END  # which is the padding, too
    expected = oracle.get_text_features(torch.from_numpy(ids)).pooler_output
    assert_close(features(graphdef, params, ids, ends), expected, TOLERANCE)


def test_layer_norm_eps_is_taken_from_the_configuration():
    oracle = clip(layer_norm_eps=0.5)
    config = CLIPVisionConfig.from_dict(VISION | {"layer_norm_eps": 0.5})
    graphdef, shapes = abstract(lambda rngs: CLIPVisionTower(config, PROJECTED, rngs=rngs))
    params = assign(shapes, state(oracle, "vision_model.", "visual_projection."))
    expected = oracle.get_image_features(torch.from_numpy(pictures()).movedim(-1, 1)).pooler_output
    assert_close(features(graphdef, params, pictures()), expected, TOLERANCE)


@pytest.mark.parametrize(
    ("model", "config", "values", "size"),
    [
        # As transformers counts them (CLIPVisionModelWithProjection; ViTModel without its pooler).
        (
            lambda config, rngs: CLIPVisionTower(config, 768, rngs=rngs),
            CLIPVisionConfig,
            {
                "hidden_size": 1024,
                "intermediate_size": 4096,
                "num_hidden_layers": 24,
                "num_attention_heads": 16,
                "patch_size": 14,
            },
            303_966_208,
        ),
        (
            lambda config, rngs: DINO(config, rngs=rngs),
            DINOConfig,
            {"hidden_size": 384, "intermediate_size": 1536, "num_attention_heads": 6},
            21_665_664,
        ),
    ],
    ids=["CLIP ViT-L/14", "DINO ViT-S/16"],
)
def test_sizes_of_the_released_models(model, config, values, size):
    _, shapes = abstract(lambda rngs: model(config.from_dict(values), rngs))
    assert count(shapes) == size


def test_defaults_are_those_of_transformers():
    for theirs, ours in (
        (TorchVisionConfig(), CLIPVisionConfig.from_dict({})),
        (TorchViTConfig(), DINOConfig.from_dict({})),
    ):
        assert {key: getattr(theirs, key) for key in vars(ours)} == vars(ours)


@pytest.mark.parametrize(
    ("config", "values", "message"),
    [
        (CLIPVisionConfig, {"num_channels": 1}, "config.json: num_channels is 1, which is not supported; expected 3"),
        (CLIPVisionConfig, {"image_size": 225}, "image_size is 225; expected a multiple of patch_size, which is 32"),
        (
            DINOConfig,
            {"hidden_size": 385},
            "hidden_size is 385; expected a multiple of num_attention_heads, which",
        ),
        (DINOConfig, {"qkv_bias": False}, "qkv_bias is false, which is not supported; expected true"),
    ],
)
def test_unsupported_configuration_is_refused(config, values, message):
    with pytest.raises(UserError, match=re.escape(message)):
        config.from_dict(values)


def test_lowers_for_gpus():
    config = CLIPVisionConfig.from_dict(VISION)
    graphdef, shapes = abstract(lambda rngs: CLIPVisionTower(config, PROJECTED, rngs=rngs))
    program = jax.jit(lambda params, x: merge(graphdef, params).features(x))
    lowered = program.trace(shapes, jax.ShapeDtypeStruct((2, 35, 35, 3), jnp.float32)).lower(
        lowering_platforms=("cuda",)
    )
    assert "callback" not in lowered.as_text()
