"""The mask of the local blend, on maps drawn by hand."""

import jax.numpy as jnp
import numpy as np

from vrwkv_jax.editing.controls.blend import mask_from_attention, mask_in_latents, word_attention


def test_maps_of_all_sizes_are_averaged():
    coarse, fine = jnp.ones((2, 3, 2, 3)), jnp.zeros((2, 3, 4, 5)).at[0, 1, 2, 2].set(1.0)
    mean = word_attention([coarse, fine], 4, 5)
    expected = np.full((2, 3, 4, 5), 0.5)
    expected[0, 1, 2, 2] = 1.0
    np.testing.assert_allclose(mean, expected, atol=1e-6)


def test_threshold_frame_by_frame_and_union_of_both_branches():
    attention = np.zeros((2, 3, 4, 6), np.float32)
    attention[0, :, 1, 1] = [10, 10, 10]  # the source's words
    attention[0, :, 1, 2] = [2, 4, 2]
    attention[1, :, 3, 5] = 0.01  # the edit's: weaker all over, and strongest there
    mask = mask_from_attention(jnp.asarray(attention), 0.3, 0)
    expected = np.zeros((3, 4, 6), bool)
    expected[:, 1, 1] = expected[:, 3, 5] = True
    expected[1, 1, 2] = True  # (2 + 2 * 4 + 2) / 4 = 3, and 2.5 in its neighbours
    np.testing.assert_array_equal(mask, expected)


def test_attention_counts_from_the_median():
    attention = jnp.full((2, 1, 4, 4), 5.0).at[:, 0, 1, 1].set(9.0).at[:, 0, 2, 2].set(6.0)
    mask = mask_from_attention(attention, 0.3, 0)
    assert np.argwhere(mask).tolist() == [[0, 1, 1]]  # 6 is two thirds of 9, but a quarter of the way there from 5


def test_no_attention_no_mask():
    assert not mask_from_attention(jnp.full((2, 2, 3, 3), 0.7), 0.3, 1).any()
    assert not mask_from_attention(jnp.zeros((2, 2, 3, 3)), 0.3, 1).any()
    assert not mask_from_attention(jnp.zeros((2, 2, 3, 3)), 0.0, 1).any()


def test_dilation_grows_in_all_directions_and_stops_at_the_edge():
    attention = jnp.zeros((2, 1, 5, 5)).at[0, 0, 0, 2].set(1.0)
    for dilation, expected in ((0, 1), (1, 6), (2, 15)):
        assert mask_from_attention(attention, 0.5, dilation).sum() == expected


def test_a_flash_in_one_frame_is_smoothed_away():
    attention = np.full((2, 5, 4, 4), 0.0, np.float32)
    attention[:, :, 0, 0] = 1.0
    attention[0, 2, 3, 3] = 0.5  # half of it is left: 0.25
    mask = mask_from_attention(jnp.asarray(attention), 0.3, 0)
    assert mask[:, 0, 0].all() and not mask[:, 3, 3].any()


def test_mask_in_latents():
    places = np.zeros((2, 8, 12), bool)
    places[0, 5, 11] = True
    expected = np.zeros((2, 2, 3), bool)
    expected[0, 1, 2] = True
    np.testing.assert_array_equal(mask_in_latents(places, 2, 3), expected)
