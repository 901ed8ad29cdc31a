"""The released temporal block and what it is compared with, against dense formulas in PyTorch and float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from torch.nn.functional import elu, layer_norm, relu, scaled_dot_product_attention, softplus

from tests.models.derivatives import doubles, with_gradients
from tests.models.tiny_unet import TINY, randomized
from vrwkv_jax.models import params as P
from vrwkv_jax.models.chunk import MixerChunk
from vrwkv_jax.models.mixers.released import CORES, Released, ReleasedConfig

CHANNELS, HEADS = 10, TINY.num_heads[0]
Tensors = dict[str, torch.Tensor]


def make(core: str):
    place = {"heads": HEADS, "layer": 1, "num_layers": 4}
    return lambda rngs: Released(CHANNELS, ReleasedConfig(core), **place, rngs=rngs)


def clip(frames: int = 6) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(2, frames, 2, 3, CHANNELS)).astype(np.float32)


def mixed(logit: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """``x`` is ``[places, F, C]``, here and below."""
    before = torch.cat([torch.zeros_like(x[:, :1]), x[:, :-1]], 1)
    return logit.sigmoid() * x + (1 - logit.sigmoid()) * before


def time_mix(p: Tensors, x: torch.Tensor) -> torch.Tensor:
    r, k, v = (mixed(p[f"mu_{name}"], x) @ p[f"to_{name}/kernel"] for name in "rkv")
    return (r.sigmoid() * weighted(p, k, v)) @ p["to_out/kernel"]


def weighted(p: Tensors, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    frames, width = k.shape[1], k.shape[2] // HEADS
    result = []
    for t in range(frames):
        exponents = []
        for s in range(frames):
            by_head = p["log_u"].exp() if s == t else -abs(t - s) * p["log_w"].exp()
            exponents.append(by_head.repeat_interleave(width) + k[:, s])
        weights = torch.stack(exponents, 1).softmax(1)
        result.append((weights * v).sum(1))
    return torch.stack(result, 1)


def channel_mix(p: Tensors, x: torch.Tensor) -> torch.Tensor:
    x = mixed(p["mu"], x)
    return (x @ p["to_r/kernel"]).sigmoid() * (relu(x @ p["to_k/kernel"]) ** 2 @ p["to_v/kernel"])


def compared(core: str, p: Tensors, x: torch.Tensor) -> torch.Tensor:
    q, k, v = (x @ p[f"to_{name}/kernel"] for name in "qkv")
    if core == "state_space":
        dt = softplus(x @ p["to_dt/kernel"] + p["to_dt/bias"])
        rate = -dt * p["log_a"].exp()
        state, states = torch.zeros_like(x[:, 0]), []
        for t in range(x.shape[1]):
            state = rate[:, t].exp() * state - rate[:, t].expm1() * k[:, t].sigmoid() * v[:, t]
            states.append(q[:, t].sigmoid() * state)
        return torch.stack(states, 1) @ p["to_out/kernel"]
    if core == "wkv":
        return (q.sigmoid() * weighted(p, k, v)) @ p["to_out/kernel"]
    q, k, v = (y.unflatten(-1, (HEADS, -1)).transpose(1, 2) for y in (q, k, v))
    if core == "attention":
        y = scaled_dot_product_attention(q, k, v)
    else:
        scores = (elu(q) + 1) @ (elu(k) + 1).mT
        y = scores @ v / (scores.sum(-1, keepdim=True) + 1e-6)
    return y.transpose(1, 2).flatten(2) @ p["to_out/kernel"]


def in_torch(p: Tensors, core: str, x: torch.Tensor) -> torch.Tensor:
    """``x`` is ``B F H W C``."""
    batch, frames, height, width, channels = x.shape
    y = x.permute(0, 2, 3, 1, 4).reshape(-1, frames, channels)
    for half in range(2 if core == "time_mix" else 1):
        own = {path.split("/", 2)[2]: leaf for path, leaf in p.items() if path.startswith(f"halves/{half}/")}
        inner = {path.removeprefix("core/"): leaf for path, leaf in own.items()}
        normed = layer_norm(y, (channels,), own["norm/scale"], own["norm/bias"])
        change = channel_mix(inner, normed) if half else None
        if change is None:
            change = time_mix(inner, normed) if core == "time_mix" else compared(core, inner, normed)
        y = y + own["gain"] * change
    return y.reshape(batch, height, width, frames, channels).permute(0, 3, 1, 2, 4)


def oracle(params: P.Params, config: ReleasedConfig, x: np.ndarray) -> np.ndarray:
    return in_torch(doubles(params), config.temporal_core, torch.tensor(x, dtype=torch.float64)).detach().numpy()


@pytest.mark.parametrize("core", CORES)
def test_starts_as_released(core):
    """Gains of 0.1, halves of both frames, decays and bonuses of 1; projections are drawn, none is zero."""
    params = jax.jit(lambda: P.split(make(core)(nnx.Rngs(0)))[1])()
    ends = {path.rsplit("/", 1)[1] for path in params}
    for path, leaf in params.items():
        name = path.rsplit("/", 1)[1]
        if name == "gain":
            np.testing.assert_array_equal(leaf, np.float32(0.1))
        elif name.startswith("mu"):
            np.testing.assert_array_equal(jax.nn.sigmoid(leaf), 0.5)
        elif name in ("log_w", "log_u"):
            np.testing.assert_array_equal(jnp.exp(leaf), 1)
            assert leaf.shape == (HEADS,)
        elif name == "kernel":
            assert 0.5 < np.std(leaf) * np.sqrt(leaf.shape[0]) < 1.5, path
    assert "gain" in ends and ({"mu_r", "mu"} <= ends) == (core == "time_mix")
    assert ({"log_w", "log_u"} <= ends) == (core in ("time_mix", "wkv"))


@pytest.mark.parametrize("core", CORES)
def test_gradients(core):
    """Of every parameter and the clip; test_mixers.py compares the values."""
    graphdef, shapes = P.abstract(make(core))
    params, x = randomized(shapes), clip()
    cotangent = np.random.default_rng(2).normal(size=x.shape).astype(np.float32)
    _, actual, of_clip = with_gradients(graphdef, params, x, cotangent)
    p, clip_in_torch = doubles(params), torch.tensor(x, dtype=torch.float64, requires_grad=True)
    in_torch(p, core, clip_in_torch).backward(torch.tensor(cotangent, dtype=torch.float64))
    expected = {path: leaf.grad.numpy() for path, leaf in p.items()} | {"clip": clip_in_torch.grad.numpy()}
    for path, leaf in (actual | {"clip": of_clip}).items():
        # Sums over 72 tokens in float32; seen: 2e-6 of the scale.
        limit = 1e-5 * np.abs(expected[path]).max()
        np.testing.assert_allclose(leaf, expected[path], rtol=0, atol=limit, err_msg=path)


@pytest.mark.parametrize("core", ["time_mix", "wkv", "linear_attention"])  # the others divide by nothing of their own
def test_keys_of_any_size(core):
    """Where e^k alone would be infinite, or zero for all frames."""
    graphdef, shapes = P.abstract(make(core))
    params, x = randomized(shapes), clip()
    params["halves/0/core/to_k/kernel"] *= 1000
    expected = oracle(params, ReleasedConfig(core), x)

    @jax.jit
    def run(params, x):
        return jax.vjp(lambda params: P.merge(graphdef, params)(x), params)

    actual, back = run(params, x)
    # One key outweighs the others nearly everywhere; seen: 2e-7 of the scale.
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(jax.jit(lambda back, y: back(y))(back, actual)))


def test_both_halves_look_back_into_the_chunk_before():
    """With decays that leave each frame to itself, so that it matters to neither half where chunks end."""
    graphdef, shapes = P.abstract(make("time_mix"))
    params, x = randomized(shapes), clip()
    params["halves/0/core/log_w"] += 5
    expected = oracle(params, ReleasedConfig(), x)

    @jax.jit
    def run(params, x, past):
        chunk = MixerChunk(jnp.int32(3), jnp.asarray(past is None), past, None)
        return P.merge(graphdef, params).mix_chunk(x, None, chunk)

    first, past = run(params, x[:, :3], None)
    second, _ = run(params, x[:, 3:], past)
    # As in the whole clip; seen: 2e-7 of the scale.
    np.testing.assert_allclose(np.concatenate([first, second], 1), expected, rtol=0, atol=2e-6 * np.abs(expected).max())


@pytest.mark.parametrize("bias", [-120, -50, -9, 50])
def test_states_that_hardly_change_and_such_that_do_at_once(bias):
    """Values and gradients of the state space model, with steps down to those of which float32 has none."""
    graphdef, shapes = P.abstract(make("state_space"))
    params, x = randomized(shapes), clip()
    params["halves/0/core/to_dt/bias"] += bias
    p = doubles(params)
    expected = in_torch(p, "state_space", torch.tensor(x, dtype=torch.float64))
    expected.sum().backward()
    output, gradients, _ = with_gradients(graphdef, params, x, np.ones_like(x))
    np.testing.assert_allclose(output, expected.detach(), rtol=0, atol=2e-6 * expected.abs().max().item())
    for path, leaf in gradients.items():
        wanted = p[path].grad.numpy()
        # As in test_gradients; float32 has nothing below 1e-38, and with large steps terms of order 1 cancel.
        limit = 1e-5 * max(np.abs(wanted).max(), 1e-32 if bias < 0 else 1)
        np.testing.assert_allclose(leaf, wanted, rtol=0, atol=limit, err_msg=path)


@pytest.mark.parametrize("core", ["time_mix", "state_space"])
def test_bfloat16(core):
    graphdef, shapes = P.abstract(make(core))
    params = P.cast(jax.tree.map(jnp.asarray, randomized(shapes)), "bfloat16")
    x = jnp.asarray(clip(), jnp.bfloat16)
    expected = oracle({path: np.asarray(leaf, np.float32) for path, leaf in params.items()}, ReleasedConfig(core), x)
    actual = jax.jit(lambda params, x: P.merge(graphdef, params)(x))(params, x)
    assert actual.dtype == jnp.bfloat16
    # A bfloat16 is right to 2**-9, and about ten are rounded one after the other; seen: 2**-6.1.
    np.testing.assert_allclose(np.asarray(actual, np.float64), expected, rtol=0, atol=2**-5 * np.abs(expected).max())
