"""The VRWKV mixer against its formulas, written out in float64 numpy with loops over frames, places and tokens."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from pallas_kernels.bi_wkv.reference import bi_wkv_reference
from tests.models.tiny_unet import as_new, randomized
from vrwkv_jax.models import params as P
from vrwkv_jax.models.mixers import vrwkv
from vrwkv_jax.models.mixers.vrwkv import VRWKV, InitialValues, Recurrence, VRWKVConfig, initial_values

CHANNELS = 10  # two of them stay where they are in the shift

CASES = {
    "factorised": (VRWKVConfig(), 7),
    "factorised-conv-reference_length-zero": (
        VRWKVConfig(projection="conv", decay_norm=6, first_frame="zero"),
        7,
    ),
    "joint": (VRWKVConfig(token_order="joint"), 7),
    "joint-conv-no_norm-zero": (
        VRWKVConfig(token_order="joint", projection="conv", decay_norm="none", first_frame="zero"),
        7,
    ),
    "factorised-causal-decay_of_11_frames": (VRWKVConfig(causal=True, decay_frames=11), 7),
    "joint-causal-decay_of_2_frames": (VRWKVConfig(token_order="joint", causal=True, decay_frames=2), 7),
    "one_frame-factorised-no_norm": (VRWKVConfig(decay_norm="none"), 1),
    "one_frame-joint-zero": (VRWKVConfig(token_order="joint", first_frame="zero"), 1),
}


def make(config: VRWKVConfig, *, layer: int = 1, num_layers: int = 4, bi_wkv: str | None = None):
    depth = {"layer": layer, "num_layers": num_layers}
    return lambda rngs: VRWKV(CHANNELS, config, heads=2, **depth, bi_wkv=bi_wkv, rngs=rngs)


def clip(frames: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(2, frames, 5, 3, CHANNELS)).astype(np.float32)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def layer_norm(x, scale, bias):
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + 1e-5) * scale + bias


def shift(x):
    """Channels 0-1 from the left, 2-3 from the right, 4-5 from above, 6-7 from below; 8-9 stay."""
    out = np.zeros_like(x)
    height, width = x.shape[2:4]
    for row in range(height):
        for column in range(width):
            for group, (down, right) in enumerate([(0, -1), (0, 1), (-1, 0), (1, 0)]):
                y, z = row + down, column + right
                if 0 <= y < height and 0 <= z < width:
                    channels = slice(2 * group, 2 * group + 2)
                    out[:, :, row, column, channels] = x[:, :, y, z, channels]
    out[..., 8:] = x[..., 8:]
    return out


def interpolate(mu, x, first_frame):
    out = np.empty_like(x)
    for f in range(x.shape[1]):
        before = x[:, f - 1] if f > 0 else (x[:, 0] if first_frame == "repeat" else 0 * x[:, 0])
        out[:, f] = mu * x[:, f] + (1 - mu) * before
    return out


def project(x, kernel):
    if kernel.ndim == 2:
        return x @ kernel
    height, width = x.shape[2:4]
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1), (0, 0)))
    return sum(padded[:, :, i : i + height, j : j + width] @ kernel[i, j] for i in range(3) for j in range(3))


def bi_wkv(k, v, decay, bonus, *, causal):
    """One sequence [T, C]."""
    out = np.empty_like(v)
    for t in range(len(k)):
        seen = range(t + 1 if causal else len(k))
        weights = [np.exp(k[i] + (bonus if i == t else -(abs(t - i) - 1) * decay)) for i in seen]
        out[t] = sum(weight * v[i] for i, weight in zip(seen, weights, strict=True)) / sum(weights)
    return out


def oracle(params: P.Params, config: VRWKVConfig, x: np.ndarray) -> np.ndarray:
    p = {path: np.asarray(leaf, np.float64) for path, leaf in params.items()}
    x = x.astype(np.float64)
    clips, frames, height, width, _ = x.shape

    def recur(name, k, v):
        tokens = len(k)
        if name != "space" and config.decay_frames != "clip":
            tokens = len(k) // frames * config.decay_frames
        length = {"length": tokens, "none": 1}.get(config.decay_norm, config.decay_norm)
        w, u = p[f"spatio_temporal/{name}/w"], p[f"spatio_temporal/{name}/u"]
        strongest = 40 / min(64, -(-tokens // 8) * 8) if config.decay_norm == "length" else 2.5
        decay = np.minimum(np.exp(w) / length, strongest)
        return bi_wkv(k, v, decay, u / length, causal=config.causal and name != "space")

    normed = shift(layer_norm(x, p["norm1/scale"], p["norm1/bias"]))
    r, k, v = (
        project(
            interpolate(p[f"spatio_temporal/mu_{name}"], normed, config.first_frame),
            p[f"spatio_temporal/to_{name}/kernel"],
        )
        for name in "rkv"
    )
    y = v.copy()
    for b in range(clips):
        if config.token_order == "joint":
            y[b] = recur("joint", k[b].reshape(-1, CHANNELS), v[b].reshape(-1, CHANNELS)).reshape(v[b].shape)
            continue
        for f in range(frames):
            y[b, f] = recur("space", k[b, f].reshape(-1, CHANNELS), v[b, f].reshape(-1, CHANNELS)).reshape(
                v[b, f].shape
            )
        for row in range(height):
            for column in range(width):
                y[b, :, row, column] = recur("time", k[b, :, row, column], y[b, :, row, column])
    x = x + (sigmoid(r) * y) @ p["spatio_temporal/to_out/kernel"]

    normed = interpolate(p["channel/mu_c"], layer_norm(x, p["norm2/scale"], p["norm2/bias"]), config.first_frame)
    squared = np.maximum(normed @ p["channel/to_k/kernel"], 0) ** 2
    return x + sigmoid(normed @ p["channel/to_r/kernel"]) * (squared @ p["channel/to_v/kernel"])


@pytest.mark.parametrize("case", list(CASES)[1:])  # test_mixers.py has the default
def test_formulas(case):
    config, frames = CASES[case]
    graphdef, shapes = P.abstract(make(config))
    params, x = randomized(shapes), clip(frames)
    expected = oracle(params, config, x)
    actual = jax.jit(lambda params, x: P.merge(graphdef, params)(x))(params, x)
    # Sums of at most 105 tokens and 90 products in float32; seen: 2e-7 of the scale.
    np.testing.assert_allclose(actual, expected, rtol=0, atol=2e-6 * np.abs(expected).max())


@pytest.mark.parametrize("token_order", ["factorised", "joint"])
def test_the_implementation_of_bi_wkv_is_no_part_of_the_model(token_order, monkeypatch):
    """It reaches every recurrence; parameters and result are those of any other."""
    config, asked = VRWKVConfig(token_order=token_order), []
    original = vrwkv.bi_wkv

    def recording(*args, implementation, **options):
        asked.append(implementation)
        return original(*args, implementation=implementation, **options)

    monkeypatch.setattr(vrwkv, "bi_wkv", recording)
    (graphdef, shapes), (forced, same) = (P.abstract(make(config, bi_wkv=name)) for name in (None, "reference"))
    assert shapes == same
    params, x = randomized(shapes), clip(4)
    results = [jax.jit(lambda params, x, g=g: P.merge(g, params)(x))(params, x) for g in (graphdef, forced)]
    count = {"factorised": 2, "joint": 1}[token_order]
    assert asked == [None] * count + ["reference"] * count
    np.testing.assert_allclose(*results, rtol=0, atol=2e-6 * np.abs(results[0]).max())  # as against the formulas


def test_bfloat16():
    config, frames = CASES["factorised"]
    graphdef, shapes = P.abstract(make(config))
    params, x = (
        P.cast(jax.tree.map(jnp.asarray, randomized(shapes)), "bfloat16"),
        jnp.asarray(clip(frames), jnp.bfloat16),
    )
    expected = oracle(params, config, np.asarray(x, np.float32))
    actual = jax.jit(lambda params, x: P.merge(graphdef, params)(x))(params, x)
    assert actual.dtype == jnp.bfloat16
    # A bfloat16 is right to 2**-9, and about ten are rounded one after the other; seen: 2**-6.7 of the scale.
    np.testing.assert_allclose(np.asarray(actual, np.float64), expected, rtol=0, atol=2**-6 * np.abs(expected).max())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("config", [VRWKVConfig(projection="conv"), VRWKVConfig(token_order="joint", init="local")])
def test_new_mixer_is_the_identity(config, dtype):
    graphdef, params = as_new(make(config))
    x = jnp.asarray(clip(7), dtype)
    run = jax.jit(lambda params, x: P.merge(graphdef, params)(x))
    np.testing.assert_array_equal(run(P.cast(params, dtype), x), x)


@pytest.mark.parametrize(("layer", "num_layers"), [(0, 1), (0, 4), (1, 4), (3, 4)])
def test_fancy_initial_values_are_those_of_vision_rwkv(layer, num_layers):
    values = initial_values("fancy", CHANNELS, layer, num_layers)
    a = layer / (num_layers - 1) if num_layers > 1 else 0
    b = 1 - layer / num_layers
    for i in range(CHANNELS):
        expected = {
            "w": -5 + 8 * (i / (CHANNELS - 1)) ** (0.7 + 1.3 * a),
            "u": math.log(0.3) + 0.5 * ((i + 1) % 3 - 1),
            "mu_r": (i / CHANNELS) ** (b / 2),
            "mu_k": (i / CHANNELS) ** b,
            "mu_v": (i / CHANNELS) ** b + 0.3 * a,
        }
        for name, value in expected.items():
            assert getattr(values, name)[i] == pytest.approx(value, rel=1e-6), (name, i)


@pytest.mark.parametrize(("name", "decay"), [("local", 1.0), ("global", 0.0)])
def test_plain_initial_values_mix_both_frames(name, decay):
    values = initial_values(name, CHANNELS, 1, 4)
    for field, expected in {"w": decay, "u": decay, "mu_r": 0.5, "mu_k": 0.5, "mu_v": 0.5}.items():
        np.testing.assert_array_equal(getattr(values, field), np.full(CHANNELS, expected, np.float32), err_msg=field)


def test_initial_values_reach_the_parameters():
    params = as_new(make(VRWKVConfig(), layer=2, num_layers=3))[1]
    expected = initial_values("fancy", CHANNELS, 2, 3)
    for path, values in {
        "spatio_temporal/mu_r": expected.mu_r,
        "spatio_temporal/mu_k": expected.mu_k,
        "spatio_temporal/mu_v": expected.mu_v,
        "spatio_temporal/space/w": expected.w,
        "spatio_temporal/time/w": expected.w,
        "spatio_temporal/space/u": expected.u,
        "spatio_temporal/time/u": expected.u,
        "channel/mu_c": expected.mu_k,
    }.items():
        np.testing.assert_array_equal(params[path], values, err_msg=path)


def test_a_decay_beyond_the_strongest_still_learns():
    """It is taken for the strongest, and its gradient is that of the strongest, times its own with respect to w."""
    values = InitialValues(*np.broadcast_to(np.float32([[4.0], [0.5], [0.5], [0.5], [0.5]]), (5, 3)))
    k, v = jnp.asarray(np.random.default_rng(0).normal(size=(2, 2, 9, 3)), jnp.float32)
    graphdef, state = nnx.split(Recurrence(VRWKVConfig(decay_norm="none"), values))

    def total(state):
        return jnp.sum(nnx.merge(graphdef, state)(k, v) ** 2)

    def strongest(decay):
        return jnp.sum(bi_wkv_reference(k, v, decay, jnp.full(3, 0.5)) ** 2)

    decay = jnp.full(3, 2.5)
    np.testing.assert_allclose(total(state), strongest(decay), rtol=1e-6)
    got = jax.grad(total)(state)["w"][...]
    np.testing.assert_allclose(got, jax.grad(strongest)(decay) * np.exp(4.0), rtol=1e-4)
