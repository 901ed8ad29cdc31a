"""Unit vectors of frames and prompts against transformers' own way from pixels and text."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from tests.checkpoint.vision_models import VISION, save_clip, save_dino
from tests.media.videos import noise
from vrwkv_jax.checkpoint.vision_files import load_clip, load_dino
from vrwkv_jax.evaluation.embedding import BATCH, clip_embedder, dino_embedder, embed_text, features

TOLERANCE = 1e-5  # of unit vectors: float32 on both sides
SIZE = VISION["image_size"]


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    directory = tmp_path_factory.mktemp("clip")
    return save_clip(directory), load_clip(str(directory))


def unit(tensor):
    vectors = tensor.numpy().astype(np.float64)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


@pytest.mark.parametrize("number", [1, 5, BATCH])
def test_frames_by_clip(clip, number):
    oracle, ours = clip
    frames = list(noise(number, 33, 50, 3))
    processor = CLIPImageProcessorPil(size={"shortest_edge": SIZE}, crop_size={"height": SIZE, "width": SIZE})
    pixels = torch.from_numpy(np.stack(processor(frames, return_tensors="np").pixel_values))
    actual = clip_embedder(ours)(frames)
    np.testing.assert_allclose(actual, unit(oracle.get_image_features(pixels).pooler_output), rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(np.linalg.norm(actual, axis=-1), 1, rtol=1e-12)


def test_prompts_by_clip(clip):
    oracle, ours = clip
    for prompt in ("a jeep", "", "a red jeep on a road in the sun"):
        expected = unit(oracle.get_text_features(torch.from_numpy(ours.tokenizer([prompt]))).pooler_output)[0]
        np.testing.assert_allclose(embed_text(ours, prompt), expected, rtol=0, atol=TOLERANCE)


def test_a_prompt_that_is_too_long_is_cut_with_a_warning(clip):
    oracle, ours = clip
    with pytest.warns(UserWarning, match="cut off"):
        actual = embed_text(ours, "a jeep " * 60)
    with pytest.warns(UserWarning, match="cut off"):
        ids = ours.tokenizer(["a jeep " * 60])
    expected = unit(oracle.get_text_features(torch.from_numpy(ids)).pooler_output)[0]
    np.testing.assert_allclose(actual, expected, rtol=0, atol=TOLERANCE)


def test_frames_by_dino(tmp_path):
    oracle, ours = save_dino(tmp_path), load_dino(str(tmp_path))
    frames = list(noise(3, 33, 50, 3))
    mean, deviation = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    processor = ViTImageProcessorPil(size={"height": SIZE, "width": SIZE}, image_mean=mean, image_std=deviation)
    pixels = torch.from_numpy(np.stack(processor(frames, return_tensors="np").pixel_values))
    expected = unit(oracle(pixels).last_hidden_state[:, 0])
    np.testing.assert_allclose(dino_embedder(ours)(frames), expected, rtol=0, atol=TOLERANCE)


def test_the_program_lowers_for_gpus(clip):
    tower = clip[1].image.tower
    pictures = jax.ShapeDtypeStruct((BATCH, SIZE, SIZE, 3), jnp.float32)
    lowered = features.trace(tower.graphdef, tower.params, pictures).lower(lowering_platforms=("cuda",))
    assert "callback" not in lowered.as_text()
