"""CLIP, DINO and the aesthetic head from files, against what transformers and PyTorch make of the same files."""

import json
import re
from itertools import pairwise

import jax
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.checkpoint.hub_cache import put_into_cache
from tests.checkpoint.vision_models import (
    PROJECTED,
    VISION,
    as_bin,
    change_config,
    save_clip,
    save_clip_vision,
    save_dino,
)
from tests.torch_weights import assert_close
from vrwkv_jax.checkpoint.vision_files import load_aesthetic, load_clip, load_dino
from vrwkv_jax.media.normalised import CLIP_NORMALISATION, IMAGENET_NORMALISATION
from vrwkv_jax.models.params import merge
from vrwkv_jax.system.errors import UserError

TOLERANCE = 1e-5  # float32 on both sides, see tests/models/test_clip_vision.py


def pictures(size=VISION["image_size"]):
    return np.random.default_rng(2).normal(size=(3, size, size, 3)).astype(np.float32)


def features(tower, *inputs):
    return jax.jit(lambda params, *inputs: merge(tower.graphdef, params).features(*inputs))(tower.params, *inputs)


@pytest.fixture
def clip(tmp_path):
    return save_clip(tmp_path / "clip"), tmp_path / "clip"


@pytest.mark.parametrize("form", ["safetensors", "bin"])
def test_clip_is_transformers(clip, form):
    oracle, directory = clip
    if form == "bin":
        as_bin(directory)
    ours = load_clip(str(directory))
    assert (ours.image.size, ours.image.width, ours.image.normalisation) == (21, PROJECTED, CLIP_NORMALISATION)
    expected = oracle.get_image_features(torch.from_numpy(pictures()).movedim(-1, 1)).pooler_output
    assert_close(features(ours.image.tower, pictures()), expected, TOLERANCE)

    prompts = ["a jeep", "a red jeep on a road"]
    ids = ours.tokenizer(prompts)
    ends = np.array([len(ours.tokenizer.tokens(prompt)) - 1 for prompt in prompts], np.int32)
    expected = oracle.get_text_features(torch.from_numpy(ids)).pooler_output
    assert_close(features(ours.text, ids, ends), expected, TOLERANCE)


def test_the_image_half_alone(tmp_path):
    oracle = save_clip_vision(tmp_path)
    ours = load_clip(str(tmp_path))
    assert ours.text is None and ours.tokenizer is None
    expected = oracle(torch.from_numpy(pictures()).movedim(-1, 1)).image_embeds
    assert_close(features(ours.image.tower, pictures()), expected, TOLERANCE)


@pytest.mark.parametrize("prefix", ["", "vit."])
def test_dino_is_transformers(tmp_path, prefix):
    oracle = save_dino(tmp_path, layer_norm_eps=1e-3)
    if prefix:  # as a classifier saves it
        tensors = {n: t for n, t in load_file(tmp_path / "model.safetensors").items() if not n.startswith("pooler")}
        tensors = {prefix + name: tensor for name, tensor in tensors.items()}
        save_file(tensors | {"classifier.weight": torch.zeros(2, 18)}, tmp_path / "model.safetensors")
    ours = load_dino(str(tmp_path))
    assert (ours.size, ours.width, ours.normalisation) == (21, 18, IMAGENET_NORMALISATION)
    expected = oracle(torch.from_numpy(pictures()).movedim(-1, 1)).last_hidden_state[:, 0]
    assert_close(features(ours.tower, pictures()), expected, TOLERANCE)


def test_the_preprocessor_says_mean_and_deviation(clip):
    _, directory = clip
    said = {"image_mean": [0.5, 0.25, 0], "image_std": [0.5, 1, 2], "size": 21}
    (directory / "preprocessor_config.json").write_text(json.dumps(said))
    normalisation = load_clip(str(directory)).image.normalisation
    assert (normalisation.mean, normalisation.deviation) == ((0.5, 0.25, 0), (0.5, 1, 2))


def test_values_that_older_files_say_twice(clip):
    _, directory = clip
    values = json.loads((directory / "config.json").read_text())
    vision = values["vision_config"] | {"hidden_size": 768}
    twice = {"vision_config": vision, "vision_config_dict": {"hidden_size": 18}, "text_config_dict": None}
    (directory / "config.json").write_text(json.dumps(values | twice))
    assert load_clip(str(directory)).image.width == PROJECTED


def test_a_repository_is_found_in_the_cache(clip, cache):
    _, directory = clip
    put_into_cache(cache, "somebody/tiny-clip", directory)
    assert load_clip("somebody/tiny-clip").image.width == PROJECTED


@pytest.mark.parametrize(
    ("load", "architecture", "message"),
    [
        (load_clip, ["BertModel"], "describes ['BertModel']; expected CLIPModel or CLIPVisionModelWithProjection"),
        (load_clip, None, "describes None; expected CLIPModel or CLIPVisionModelWithProjection"),
        (load_dino, ["CLIPModel"], "describes ['CLIPModel']; expected ViTModel: a DINO model in the layout of"),
    ],
)
def test_another_model_is_refused(clip, load, architecture, message):
    _, directory = clip
    change_config(directory, architectures=architecture)
    with pytest.raises(UserError, match=re.escape(message)):
        load(str(directory))


def test_what_else_is_no_clip(clip, tmp_path, cache):
    _, directory = clip
    for model, message in (
        (tmp_path / "none", "there is no directory"),
        (directory / "config.json", "is a file; expected the directory of a CLIP model in the layout of transformers"),
        ("somebody/nothing", "the Hugging Face hub did not deliver it"),
    ):
        with pytest.raises(UserError, match=re.escape(message)):
            load_clip(str(model))
    for change, message in (
        ({"projection_dim": 12}, "visual_projection.weight: [11, 18], expected [12, 18]"),
        ({"projection_dim": -1}, "projection_dim is -1; expected 1 to 8192"),
        ({"projection_dim": 11, "vision_config": VISION | {"patch_size": 3}}, "patch_embedding.weight: [18, 3, 7, 7]"),
        ({"vision_config": [1]}, "vision_config in config.json is no object"),
    ):
        change_config(directory, **change)
        with pytest.raises(UserError, match=re.escape(message)):
            load_clip(str(directory))


def test_a_vocabulary_without_its_tokenizer_is_refused(clip):
    _, directory = clip
    for file in [*directory.glob("*vocab*"), *directory.glob("merges*"), *directory.glob("tokenizer*")]:
        file.unlink()
    with pytest.raises(UserError, match="its vocabulary of 514 tokens is not CLIP's own of 49408"):
        load_clip(str(directory))


@pytest.mark.parametrize("values", [[0.5, 0.5], [0.5, "a", 0.5], "x"])
def test_a_mean_that_is_none_is_refused(clip, values):
    _, directory = clip
    (directory / "preprocessor_config.json").write_text(json.dumps({"image_mean": values}))
    with pytest.raises(UserError, match=r"image_mean is .*; expected three numbers"):
        load_clip(str(directory))


def head(*widths):
    """LAION's: linear layers with dropout in between, of which two are not behind the last."""
    layers = []
    for index, (before, after) in enumerate(pairwise(widths)):
        layers.append(torch.nn.Linear(before, after))
        if index < 3 and len(widths) > 2:
            layers.append(torch.nn.Dropout(0.2))
    return torch.nn.Sequential(*layers).eval().requires_grad_(False)


@pytest.mark.parametrize("widths", [(11, 1), (11, 9, 7, 5, 3, 1)], ids=["linear", "five layers"])
def test_the_aesthetic_head_is_its_layers(tmp_path, widths):
    torch.manual_seed(0)
    oracle = head(*widths)
    state = oracle[0].state_dict() if len(widths) == 2 else {f"layers.{n}": t for n, t in oracle.state_dict().items()}
    torch.save(state, tmp_path / "head.pth")
    weight, bias = load_aesthetic(str(tmp_path / "head.pth"))
    features = np.random.default_rng(0).normal(size=(6, 11))
    expected = oracle.double()(torch.from_numpy(features))[:, 0].numpy()
    np.testing.assert_allclose(features @ weight + bias, expected, rtol=1e-12)  # float64 on both sides


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"weight": torch.zeros(1, 11)}, "holds weight, ...; expected LAION's aesthetic predictor"),
        ({"weight": torch.zeros(2, 11), "bias": torch.zeros(2)}, "have the shapes [(2, 11)]; expected LAION's"),
        ({"weight": torch.zeros(1, 11), "bias": torch.zeros(2)}, "have the shapes [(1, 11)]; expected LAION's"),
        ({"layers.0.weight": torch.zeros(1, 11), "layers.3.bias": torch.zeros(1)}, "holds layers.0.weight, layers.3"),
    ],
)
def test_another_head_is_refused(tmp_path, state, message):
    torch.save(state, tmp_path / "head.pth")
    with pytest.raises(UserError, match=re.escape(message)):
        load_aesthetic(str(tmp_path / "head.pth"))


def test_no_head_at_all(tmp_path):
    with pytest.raises(UserError, match="is not there"):
        load_aesthetic(str(tmp_path / "head.pth"))


def test_a_tokenizer_of_another_model_is_refused(clip):
    _, directory = clip
    values = json.loads((directory / "config.json").read_text())
    change_config(directory, text_config=values["text_config"] | {"max_position_embeddings": 21})
    with pytest.raises(UserError, match="has 514 tokens and texts of 77, and its text encoder takes 514 and 21: copy"):
        load_clip(str(directory))
