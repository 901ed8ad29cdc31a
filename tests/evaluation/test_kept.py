"""PSNR and SSIM inside a mask against scikit-image."""

import numpy as np
import pytest
from scipy import ndimage
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from tests.evaluation.clips import moving
from tests.media.videos import noise
from vrwkv_jax.evaluation.kept import Kept, ssim_map
from vrwkv_jax.evaluation.psnr import MOST_DECIBELS


def clips(frames=3, height=19, width=24):
    source = moving(frames, height, width)
    return source, np.clip(source + noise(*source.shape).astype(int) // 8 - 16, 0, 255).astype(np.uint8)


def test_map_is_scikit_images():
    source, edit = (clip[0] for clip in clips())
    _, expected = structural_similarity(edit, source, channel_axis=-1, full=True)
    # Variances are differences of large numbers: 1e-16 of 255^2, over the constant (0.03 * 255)^2, or a little more.
    np.testing.assert_allclose(ssim_map(edit, source), expected[3:-3, 3:-3].mean(-1), rtol=0, atol=1e-10)
    assert 0.1 < expected.mean() < 0.9


def test_all_kept():
    source, edit = clips()
    kept = Kept()
    for frames in zip(edit, source, strict=True):
        kept.add(*frames, np.ones((19, 24), bool))
    assert kept.psnr == pytest.approx(peak_signal_noise_ratio(source, edit), abs=1e-10)
    expected = np.mean([structural_similarity(e, s, channel_axis=-1) for e, s in zip(edit, source, strict=True)])
    assert kept.ssim == pytest.approx(expected, abs=1e-10)


def test_a_mask():
    source, edit = clips()
    keep = np.ones((3, 19, 24), bool)
    keep[:, 5:9, 14:], keep[2, :, :10] = False, False
    changed = np.where(keep[..., None], edit, 255 - source)
    kept = Kept()
    for frames in zip(changed, source, keep, strict=True):
        kept.add(*frames)
    assert kept.psnr == pytest.approx(peak_signal_noise_ratio(source[keep], edit[keep]), abs=1e-10)
    values = []
    for e, s, k in zip(edit, source, keep, strict=True):  # windows that touch the rest do not count
        _, full = structural_similarity(e, s, channel_axis=-1, full=True)
        values.append(full.mean(-1)[ndimage.binary_erosion(k, np.ones((7, 7)))])
    assert kept.ssim == pytest.approx(np.concatenate(values).mean(), abs=1e-10)
    assert 0 < sum(map(len, values)) < 2 * 13 * 18


def test_equal_and_none():
    source, _ = clips()
    kept = Kept()
    assert kept.psnr is None and kept.ssim is None
    kept.add(source[0], source[0], np.zeros((19, 24), bool))
    assert kept.psnr is None and kept.ssim is None
    kept.add(source[0], source[0], np.ones((19, 24), bool))
    assert kept.psnr == pytest.approx(MOST_DECIBELS) and kept.ssim == pytest.approx(1, abs=1e-12)
    small = Kept()
    small.add(source[0, :6], source[0, :6], np.ones((6, 24), bool))
    assert small.ssim is None and small.psnr == pytest.approx(MOST_DECIBELS)
