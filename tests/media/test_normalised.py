"""Pictures for CLIP and DINO, against the image processors of transformers."""

import numpy as np
import pytest
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from tests.media.videos import noise
from vrwkv_jax.media.normalised import CLIP_NORMALISATION, IMAGENET_NORMALISATION, centre_square, squeezed_square

SIZES = [(32, 48), (61, 37), (224, 224), (225, 224), (301, 500), (50, 50)]
ROUNDING = 1e-6  # of float32 values up to 3: they divide by 255 in another order


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_clip(height, width):
    picture = noise(height, width, 3)
    expected = CLIPImageProcessorPil()(picture, return_tensors="np").pixel_values[0]
    actual = CLIP_NORMALISATION(centre_square(picture, 224))
    assert actual.dtype == np.float32
    np.testing.assert_allclose(actual, np.moveaxis(expected, 0, -1), rtol=0, atol=ROUNDING)


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_dino(height, width):
    picture = noise(height, width, 3)
    processor = ViTImageProcessorPil(image_mean=[0.485, 0.456, 0.406], image_std=[0.229, 0.224, 0.225])
    expected = processor(picture, return_tensors="np").pixel_values[0]
    actual = IMAGENET_NORMALISATION(squeezed_square(picture, 224))
    np.testing.assert_allclose(actual, np.moveaxis(expected, 0, -1), rtol=0, atol=ROUNDING)
