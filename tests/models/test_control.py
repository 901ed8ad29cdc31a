"""What an edit takes over from its source inside the U-Net, against the formulas it stands for."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.injections import EVERYWHERE, injection
from tests.models.tiny_unet import abstract, as_new, inputs, randomized
from vrwkv_jax.editing.controls.registry import CONTROLS
from vrwkv_jax.models import params as P
from vrwkv_jax.models.control import Acting, Control, Words
from vrwkv_jax.models.mixers.vrwkv import SpatioTemporalMix, VRWKVConfig, initial_values
from vrwkv_jax.models.resnet import ResnetBlock
from vrwkv_jax.models.video_config import VideoConfig

ROWS, FRAMES, LENGTH = 3, 2, 5
RNG = np.random.default_rng(0)


def normal(*shape: int) -> jax.Array:
    return jnp.asarray(RNG.normal(size=shape), jnp.float32)


def softmax(scores: np.ndarray) -> np.ndarray:
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


def maps(q: jax.Array, k: jax.Array) -> np.ndarray:
    """Attention of each query and head, in float64: ``B N Q L``."""
    q, k = np.float64(q), np.float64(k)
    return softmax(np.einsum("bqnd,bknd->bnqk", q, k) / np.sqrt(q.shape[-1]))


@pytest.mark.parametrize("rows", [2, 3])
def test_attention_to_the_text_is_mixed_from_two_maps(rows):
    q, k, v = normal(rows, 7, 2, 8), normal(rows, LENGTH, 2, 8), normal(rows, LENGTH, 2, 8)
    tokens = np.eye(LENGTH, dtype=np.float32)
    tokens[2] = [0, 0, 0.5, 0.5, 0]
    taken, weights = np.array([True, False, True, True, False]), np.array([1, 2, 1, 0.25, -1], np.float32)
    words = np.array([[0, 1, 0, 0, 0], [0, 0, 1, 1, 0]], np.float32)
    given = injection(LENGTH, cross_attention=Words(tokens, taken, weights), blend=words)
    control = Control(given, EVERYWHERE, rows)
    found = jax.jit(partial(control.cross_attention, shape=(1, 1, 7)))(q, k, v)

    attention, values = maps(q, k), np.float64(v)
    mixed = np.where(taken, attention[0] @ tokens, attention[-1]) * weights
    expected = np.einsum("bnqk,bknd->bqnd", attention, values)
    expected[-1] = np.einsum("nqk,knd->qnd", mixed, values[-1])
    np.testing.assert_allclose(found, expected, atol=2e-6)

    control.maps.clear()
    control.cross_attention(q, k, v, (1, 7, 1))
    both = np.stack([attention[0] @ words[0], attention[-1] @ words[1]]).mean(1)
    np.testing.assert_allclose(control.maps[0], both.reshape(2, 1, 7, 1), atol=1e-6)


def test_self_attention_reads_the_map_of_the_source():
    q, k, v = (normal(ROWS * FRAMES, 6, 2, 8) for _ in range(3))
    control = Control(injection(LENGTH, self_attention=True), EVERYWHERE, ROWS)
    attention = np.tile(maps(q, k)[:FRAMES], (ROWS, 1, 1, 1))
    expected = np.einsum("bnqk,bknd->bqnd", attention, np.float64(v))
    np.testing.assert_allclose(control.self_attention(q, k, v), expected, atol=2e-6)


def test_features_are_a_block_s_own_contribution():
    x, time = normal(ROWS, FRAMES, 4, 4, 8), normal(ROWS, 6)
    graphdef, params = as_new(lambda rngs: ResnetBlock(8, 8, groups=2, eps=1e-5, time_channels=6, rngs=rngs))
    block = P.merge(graphdef, params)
    control = Control(injection(LENGTH, features=True), EVERYWHERE, ROWS)
    own = block(x, time) - x
    np.testing.assert_allclose(block(x, time, control), x + own[:1], atol=1e-5)


@pytest.mark.parametrize("token_order", ["factorised", "joint"])
def test_mixers_read_what_the_source_reads(token_order):
    """With the source's receptance and keys, the output is linear in the edit's own values."""
    config = VRWKVConfig(token_order=token_order)
    initial = initial_values("fancy", 8, 1, 3)
    graphdef, shapes = P.abstract(lambda rngs: SpatioTemporalMix(8, config, initial, None, rngs=rngs))
    mixer = P.merge(graphdef, jax.tree.map(jnp.asarray, randomized(shapes)))
    control = Control(injection(LENGTH, mixer_keys=True), EVERYWHERE, ROWS)
    x, other = normal(ROWS, FRAMES, 3, 4, 8), normal(ROWS, FRAMES, 3, 4, 8)
    x, other = (jnp.concatenate([x[:1], clip[1:]]) for clip in (x, other))
    run = jax.jit(partial(mixer, control=control))
    np.testing.assert_allclose(run(x)[0], jax.jit(mixer)(x)[0], atol=1e-6)
    np.testing.assert_allclose(run((x + other) / 2), (run(x) + run(other)) / 2, atol=2e-5)
    assert np.abs(jax.jit(mixer)((x + other) / 2) - (jax.jit(mixer)(x) + jax.jit(mixer)(other)) / 2).max() > 1e-2


@pytest.mark.parametrize("placement", [("skip", "mid"), ("transformer",)], ids="-".join)
def test_a_neutral_control_changes_no_bit(placement):
    graphdef, shapes = abstract(VideoConfig(placement=placement))
    params = jax.tree.map(jnp.asarray, randomized(shapes))
    latents, timesteps, text = (jnp.tile(jnp.asarray(x), (ROWS, *(1,) * (x.ndim - 1))) for x in inputs(FRAMES, 3, 4))
    latents, text = latents + normal(*latents.shape), text + normal(*text.shape)

    def run(control):
        return P.merge(graphdef, params)(latents, timesteps, text, control=control)

    plain = run(None)
    neutral = injection(LENGTH)
    # Operation by operation: compiled as a whole, another program may round otherwise.
    np.testing.assert_array_equal(run(Control(neutral, EVERYWHERE, ROWS)), plain)
    controlled = jax.jit(lambda values: run(Control(values, EVERYWHERE, ROWS)))
    plain = controlled(neutral)
    words = neutral["cross_attention"]
    changes = [
        ("self_attention", True),
        ("features", True),
        ("mixer_keys", True),
        ("cross_attention", words._replace(taken=jnp.ones(LENGTH, bool))),
        ("cross_attention", words._replace(weights=words.weights.at[1].set(3.0))),
    ]
    assert {name for name, _ in changes} == CONTROLS.keys() - {"blend"}  # which reads
    for name, values in changes:
        changed = controlled(injection(LENGTH, **{name: values}))
        np.testing.assert_array_equal(changed[0], plain[0])
        assert (changed[-1] != plain[-1]).any(), name


def test_places():
    def acting(*places):
        control = Control(injection(LENGTH), (Acting("features", "residual", places),), ROWS)
        found = []
        for place in ("down_blocks/1/resnets/0", "up_blocks/1/resnets/0", "up_blocks/11/resnets/0"):
            inner = control
            for part in place.split("/"):
                inner = inner.at(part)
            assert inner.place == place
            found.append(bool(inner.of("residual").layers))
            assert not inner.of("mixer").layers
        return found

    assert acting("") == [True] * 3
    assert acting("up_blocks") == [False, True, True]
    assert acting("up_blocks/1") == [False, True, False]
    assert acting("up_blocks/1/resnets/0", "down_blocks") == [True, True, False]
    assert acting() == [False] * 3
