"""Attention against PyTorch's in float64; and what a frame sees, frame by frame."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from tests.models.derivatives import doubles, with_gradients
from tests.models.tiny_unet import randomized
from vrwkv_jax.models import attention
from vrwkv_jax.models import params as P
from vrwkv_jax.models.attention import FrameSelfAttention, dot_product_attention
from vrwkv_jax.parallel.frames import previous_frame

B, Q, K, N, D = 3, 7, 5, 2, 10


def qkv_and_gradient(seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    shapes = [(B, Q, N, D), (B, K, N, D), (B, K, N, D), (B, Q, N, D)]
    return [2 * rng.normal(size=shape).astype(np.float32) for shape in shapes]


def oracle(q, k, v, g) -> list[np.ndarray]:
    """The output and the gradients of ``sum(g * output)`` with respect to q, k and v."""
    tensors = [torch.tensor(np.asarray(x, np.float64)).transpose(1, 2).requires_grad_() for x in (q, k, v)]
    output = torch.nn.functional.scaled_dot_product_attention(*tensors)
    output.backward(torch.tensor(np.asarray(g, np.float64)).transpose(1, 2))
    return [x.detach().transpose(1, 2).numpy() for x in (output, *(t.grad for t in tensors))]


def ours(q, k, v, g) -> list[np.ndarray]:
    def run(q, k, v, g):
        output, vjp = jax.vjp(dot_product_attention, q, k, v)
        return output, *vjp(g)

    return list(jax.jit(run)(q, k, v, g))


# All queries at once; slices of 3, 3 and 1; one by one, where even a single query has more scores than allowed.
@pytest.mark.parametrize("queries", [None, 3, 0.5])
def test_values_and_gradients(queries, monkeypatch):
    if queries is not None:
        monkeypatch.setattr(attention, "MAX_SCORE_BYTES", int(queries * 4 * B * N * K))
    args = qkv_and_gradient()
    traced = jax.make_jaxpr(lambda *args: dot_product_attention(*args))(*args[:3])  # a function JAX hasn't traced yet
    slices = [equation.params["length"] for equation in traced.eqns if equation.primitive.name == "scan"]
    assert slices == {None: [], 3: [2], 0.5: [7]}[queries]  # the one query left over of 7 comes after the loop
    for name, actual, expected in zip(("output", "q", "k", "v"), ours(*args), oracle(*args), strict=True):
        # float32 through two short products and a softmax: a few units of 6e-8
        np.testing.assert_allclose(actual, expected, rtol=0, atol=2e-6 * np.abs(expected).max(), err_msg=name)


@pytest.fixture(params=[100, 3])
def head_by_head(request, monkeypatch):
    """As large sequences are on CPUs: with all queries of a head at once, and in slices that do not divide them."""
    for name, value in {"CPU_QUERIES": request.param, "CPU_CACHE_BYTES": 1, "CPU_LEAST_SCORES": 1}.items():
        monkeypatch.setattr(attention, name, value)
    return request.param


def test_head_by_head(head_by_head):
    args = qkv_and_gradient()
    traced = str(jax.make_jaxpr(lambda *args: dot_product_attention(*args))(*args[:3]))
    assert f"length={B * N}" in traced and f"length={3 if head_by_head == 3 else 1}" in traced
    for name, actual, expected in zip(("output", "q", "k", "v"), ours(*args), oracle(*args), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=0, atol=2e-6 * np.abs(expected).max(), err_msg=name)


def test_head_by_head_where_scores_are_extreme(head_by_head):
    """A thousand apart: all weight on one key, and gradients that are finite."""
    q, k, v, g = qkv_and_gradient()
    args = 100 * q, k, v, g
    for actual, expected in zip(ours(*args), oracle(*args), strict=True):
        assert np.isfinite(actual).all()
        # scores of 1000 are right to 6e-5 in float32, and the weights with them
        np.testing.assert_allclose(actual, expected, rtol=0, atol=2e-3 * np.abs(expected).max())


def test_head_by_head_in_bfloat16(head_by_head):
    test_bfloat16_has_a_softmax_in_float32()


def test_bfloat16_has_a_softmax_in_float32():
    args = [jnp.asarray(x, jnp.bfloat16) for x in qkv_and_gradient()]
    args[0] = args[0] * 20  # scores of several hundred: in bfloat16 these would be wrong by 1 and more
    output, expected = dot_product_attention(*args[:3]), oracle(*args)[0]
    assert output.dtype == jnp.bfloat16
    # the weights and the output are each rounded to bfloat16, right to 2**-9
    np.testing.assert_allclose(np.asarray(output, np.float64), expected, rtol=0, atol=2**-7 * np.abs(expected).max())


SEEN = {  # the frames whose tokens are keys and values for frame f of F
    "frame": lambda f, F: [f],
    "sparse_causal": lambda f, F: [0, max(f - 1, 0)],
    "extended": lambda f, F: list(range(F)),
}


@pytest.mark.parametrize("frames", [1, 5])
@pytest.mark.parametrize("scope", SEEN)
def test_what_a_frame_sees(scope, frames):
    """Values, and gradients of the clip and every parameter, against PyTorch in float64, frame by frame."""
    graphdef, shapes = P.abstract(lambda rngs: FrameSelfAttention(12, 3, scope=scope, rngs=rngs))
    rng, params = np.random.default_rng(1), randomized(shapes)
    x, cotangent = rng.normal(size=(2, 2, frames, 7, 12)).astype(np.float32)
    output, in_params, in_x = with_gradients(graphdef, params, x, cotangent)
    p = doubles(params)
    clip = torch.tensor(x, dtype=torch.float64, requires_grad=True)

    def heads(y: torch.Tensor) -> torch.Tensor:
        return y.unflatten(-1, (3, 4)).transpose(1, 2)

    seen = []
    for f in range(frames):
        context = torch.cat([clip[:, i] for i in SEEN[scope](f, frames)], 1)
        q, k, v = (heads(y @ p[f"to_{n}/kernel"]) for n, y in (("q", clip[:, f]), ("k", context), ("v", context)))
        mixed = torch.nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        seen.append(mixed @ p["to_out/kernel"] + p["to_out/bias"])
    expected = torch.stack(seen, 1)
    expected.backward(torch.tensor(cotangent, dtype=torch.float64))
    pairs = {path: (in_params[path], p[path].grad) for path in p} | {"clip": (in_x, clip.grad)}
    for name, (actual, wanted) in (pairs | {"output": (output, expected)}).items():
        wanted = wanted.detach().numpy()
        # Five short products and a softmax in float32, and sums over 70 tokens; seen: 1e-6 of the scale.
        np.testing.assert_allclose(actual, wanted, rtol=0, atol=5e-6 * np.abs(wanted).max(), err_msg=name)


@pytest.mark.parametrize("frames", [1, 4])
def test_previous_frame(frames):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, frames, 3)), jnp.float32)
    np.testing.assert_array_equal(previous_frame(x)[:, 0], x[:, 0])
    np.testing.assert_array_equal(previous_frame(x, "zero")[:, 0], np.zeros((2, 3)))
    for first in ("repeat", "zero"):
        np.testing.assert_array_equal(previous_frame(x, first)[:, 1:], x[:, :-1])
