"""Frames and texts as unit vectors: CLIP's, whose cosines compare both, and DINO's."""

from collections.abc import Callable, Sequence
from functools import partial

import jax
import numpy as np

from vrwkv_jax.checkpoint.vision_files import CLIP, ImageModel, Tower
from vrwkv_jax.media.normalised import centre_square, squeezed_square
from vrwkv_jax.models import params as P
from vrwkv_jax.models.params import GraphDef, Params
from vrwkv_jax.typing import Array, Float, UInt8

BATCH = 16  # frames at once, always: one program
Frame = UInt8[np.ndarray, "H W 3"]
Vectors = Float[np.ndarray, "N P"]


class Embedder:
    """Frames to unit vectors, in float64; ``square`` is how a frame becomes one of the size of the model."""

    def __init__(self, model: ImageModel, square: Callable[[Frame, int], UInt8[np.ndarray, "S S 3"]]):
        self._model, self._square = model, square

    def __call__(self, frames: Sequence[Frame]) -> Vectors:
        """At most ``BATCH`` frames."""
        size = self._model.size
        pictures = np.zeros((BATCH, size, size, 3), np.float32)
        for place, frame in zip(pictures, frames, strict=False):
            place[:] = self._model.normalisation(self._square(frame, size))
        tower = self._model.tower
        return _unit(np.asarray(features(tower.graphdef, tower.params, pictures))[: len(frames)])


def clip_embedder(clip: CLIP) -> Embedder:
    """With CLIP's own way to make a frame square: the middle of it."""
    return Embedder(clip.image, centre_square)


def dino_embedder(dino: ImageModel) -> Embedder:
    """With the whole frame in the square."""
    return Embedder(dino, squeezed_square)


def embed_text(clip: CLIP, prompt: str) -> Float[np.ndarray, " P"]:
    """A prompt as a unit vector beside those of frames.

    Raises:
        ValueError: the checkpoint has no text half.
    """
    if clip.text is None or clip.tokenizer is None:
        raise ValueError("this CLIP has no text half")
    end = np.array([len(clip.tokenizer.tokens(prompt)) - 1], np.int32)
    tower: Tower = clip.text
    found = features(tower.graphdef, tower.params, clip.tokenizer([prompt]), end)
    vector: np.ndarray = _unit(np.asarray(found))[0]
    return vector


@partial(jax.jit, static_argnames="graphdef")
def features(graphdef: GraphDef, params: Params, *inputs: Array) -> Float[Array, "B P"]:
    """What a model makes of pictures ``B S S 3``, or of texts: ids ``B L``, and where each of them ends."""
    found: Array = P.merge(graphdef, params).features(*inputs)
    return found


def _unit(vectors: np.ndarray) -> np.ndarray:
    wide = vectors.astype(np.float64)
    unit: np.ndarray = wide / np.maximum(np.linalg.norm(wide, axis=-1, keepdims=True), 1e-12)
    return unit
