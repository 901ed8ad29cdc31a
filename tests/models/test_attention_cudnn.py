"""Attention by cuDNN's kernel: what surrounds it, anywhere; that programs for GPUs call it; on a GPU, what it gives."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractDevice, AbstractMesh

from benchmarks.gpu_target import describing
from pallas_kernels.device import Device, compiling_for
from tests.injections import EVERYWHERE, injection
from tests.models.test_attention import oracle
from vrwkv_jax.models import attention
from vrwkv_jax.models.attention import dot_product_attention
from vrwkv_jax.models.control import Control, Words

LENGTHS = [(25, 77), (6, 77), (7, 4), (1, 1), (1, 5), (6, 4)]  # of queries and keys
NAMES = ("output", "q", "k", "v")
FORWARD, BACKWARD = "__cudnn$fmhaSoftmax", "__cudnn$fmhaSoftmaxBackward"


def q_k_v_gradient(queries, keys, head_channels=10, heads=2, outer=()):
    rng = np.random.default_rng(0)
    shapes = [(*outer, 3, length, heads, head_channels) for length in (queries, keys, keys, queries)]
    return [2 * rng.normal(size=shape).astype(np.float32) for shape in shapes]


def output_and_gradients(q, k, v, g, attend=dot_product_attention):
    output, vjp = jax.vjp(attend, q, k, v)
    return output, *vjp(g)


def spoiled(x, lengths):
    return jnp.where(jnp.arange(x.shape[1])[:, None, None] < lengths[:, None, None, None], x, jnp.nan)


@jax.custom_vjp
def spoil_gradient(x, lengths):
    return x


spoil_gradient.defvjp(lambda x, lengths: (x, lengths), lambda lengths, gradient: (spoiled(gradient, lengths), None))


@pytest.fixture
def stand_in(monkeypatch):
    """JAX's own attention in place of cuDNN's: in float32, as picky, and with NaN for the padding in all it returns."""
    xla = jax.nn.dot_product_attention
    calls = []

    def picky(q, k, v, *, implementation, query_seq_lengths=None, key_value_seq_lengths=None):
        assert implementation == "cudnn" and q.shape[1] % 2 == k.shape[1] % 2 == v.shape[1] % 2 == 0
        calls.append(query_seq_lengths is not None)
        if query_seq_lengths is None and key_value_seq_lengths is None:
            return xla(q, k, v, implementation="xla")
        q = spoil_gradient(q, query_seq_lengths)
        k, v = (spoil_gradient(x, key_value_seq_lengths) for x in (k, v))
        lengths = {"query_seq_lengths": query_seq_lengths, "key_value_seq_lengths": key_value_seq_lengths}
        return spoiled(xla(q, k, v, implementation="xla", **lengths), query_seq_lengths)

    monkeypatch.setattr(jax.nn, "dot_product_attention", picky)
    monkeypatch.setattr(attention, "_cudnn_can", lambda dtype, head_channels: True)
    return calls


def assert_equal(actual, expected):
    for name, ours, theirs in zip(NAMES, actual, expected, strict=True):
        # float32 through two short products and a softmax: a few units of 6e-8, of terms that cancel for a single key
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-6 * max(1, np.abs(theirs).max()), err_msg=name)


@pytest.mark.parametrize(("queries", "keys"), LENGTHS)
def test_padding(queries, keys, stand_in):
    args = q_k_v_gradient(queries, keys)
    assert_equal(jax.jit(lambda *args: output_and_gradients(*args))(*args), oracle(*args))
    assert stand_in == [bool(queries % 2 or keys % 2)]


def test_padding_under_remat_and_vmap(stand_in):
    args = q_k_v_gradient(5, 7, outer=(2,))
    attend = jax.checkpoint(dot_product_attention)
    outputs = jax.jit(jax.vmap(lambda *args: output_and_gradients(*args, attend=attend)))(*args)
    for clip in range(2):
        assert_equal([x[clip] for x in outputs], oracle(*(x[clip] for x in args)))
    assert stand_in == [True]


def test_padding_in_controls(stand_in, monkeypatch):
    """Three rows of 5x5 places that attend to 7 words; the last takes half of its attention over from the first."""
    q, k, v, _ = map(jnp.asarray, q_k_v_gradient(25, 7))
    rng = np.random.default_rng(1)
    tokens, weights, words = (np.float32(rng.uniform(size=shape)) for shape in ((7, 7), 7, (2, 7)))
    given = injection(7, cross_attention=Words(tokens, np.arange(7) < 4, weights), blend=words, self_attention=True)

    def all_attentions():
        control = Control(given, EVERYWHERE, rows=3)
        results = control.cross_attention(q, k, v, (1, 5, 5)), control.self_attention(q, q, q), control.maps[0]
        return [np.asarray(result) for result in results]

    padded = all_attentions()
    assert stand_in == [True] * 4
    monkeypatch.undo()
    for actual, expected in zip(padded, all_attentions(), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=0, atol=2e-6 * np.abs(expected).max())


def custom_calls(function, *shapes):
    """Those of the program for the device that is described."""
    fresh = jax.jit(lambda *args: function(*args))
    return re.findall(r"custom_call @([\w$]+)", fresh.trace(*shapes).lower(lowering_platforms=("cuda",)).as_text())


@pytest.mark.parametrize(("queries", "keys"), [*LENGTHS, (40 * 72, 40 * 72), (45 * 80, 77), (16 * 64 * 64, 77)])
@pytest.mark.parametrize("target", ["sm_80", "sm_90"])
def test_lowers_for_every_length(target, queries, keys):
    q, k = (jax.ShapeDtypeStruct((2, length, 8, 40), jnp.bfloat16) for length in (queries, keys))
    with describing(target):
        assert custom_calls(dot_product_attention, q, k, k) == [FORWARD]
        assert custom_calls(output_and_gradients, q, k, k, q) == [FORWARD, BACKWARD]
        remat = jax.checkpoint(dot_product_attention)
        of_remat = custom_calls(lambda *args: output_and_gradients(*args, attend=remat), q, k, k, q)
        assert of_remat == [FORWARD, FORWARD, BACKWARD]


def test_lowers_under_vmap():
    q, k = (jax.ShapeDtypeStruct((3, 2, length, 8, 40), jnp.bfloat16) for length in (25, 77))
    with describing("sm_90"):
        assert custom_calls(jax.vmap(output_and_gradients), q, k, k, q) == [FORWARD, BACKWARD]


@pytest.mark.parametrize(
    ("capability", "dtype", "head_channels", "expected"),
    [
        ((9, 0), "bfloat16", 40, "cudnn"),
        ((9, 0), "bfloat16", 160, "cudnn"),
        ((9, 0), "bfloat16", 256, "cudnn"),
        ((9, 0), "bfloat16", 264, "xla"),
        ((9, 0), "float32", 40, "xla"),
        ((9, 0), "bfloat16", 12, "xla"),
        ((8, 0), "float16", 128, "cudnn"),
        ((8, 9), "bfloat16", 160, "xla"),
        ((10, 0), "bfloat16", 80, "cudnn"),
        ((10, 0), "bfloat16", 160, "xla"),
        ((12, 0), "bfloat16", 8, "cudnn"),
        ((12, 0), "bfloat16", 160, "xla"),
        ((7, 5), "float16", 64, "xla"),
        (None, "bfloat16", 64, "xla"),
    ],
)
def test_who_computes_it(capability, dtype, head_channels, expected, monkeypatch):
    asked = []
    monkeypatch.setattr(
        jax.nn, "dot_product_attention", lambda q, k, v, implementation: asked.append(implementation) or q
    )
    q = jnp.zeros((1, 4, 2, head_channels), dtype)
    abstract = AbstractDevice(device_kind=f"described {capability}", num_cores=1, platform="gpu")
    with compiling_for(Device("gpu", "described", capability), AbstractMesh((), (), abstract_device=abstract)):
        dot_product_attention(q, q, q)
    assert asked == [expected]


def test_cpus_have_no_cudnn():
    if jax.default_backend() == "gpu":
        pytest.skip("there is a GPU")
    q = jax.ShapeDtypeStruct((1, 4, 2, 40), jnp.bfloat16)
    assert "cudnn" not in jax.jit(dot_product_attention).lower(q, q, q).as_text()


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("head_channels", [40, 64, 80, 160])
@pytest.mark.parametrize(("queries", "keys"), [*LENGTHS, (40 * 72, 40 * 72), (45 * 80, 77)])
def test_on_a_gpu(queries, keys, head_channels, dtype):
    if jax.default_backend() != "gpu":
        pytest.skip("needs an NVIDIA GPU")
    args = [jnp.asarray(x, dtype) for x in q_k_v_gradient(queries, keys, head_channels, heads=8)]
    ours = jax.jit(lambda *args: output_and_gradients(*args)).lower(*args)
    if head_channels <= 128 or jax.devices()[0].compute_capability == "9.0":
        assert FORWARD in ours.as_text() and BACKWARD in ours.as_text()

    def xla(q, k, v):
        return jax.nn.dot_product_attention(q, k, v, implementation="xla")

    naive = jax.jit(lambda *args: output_and_gradients(*args, attend=xla))(*args)
    for name, actual, other, exact in zip(NAMES, ours.compile()(*args), naive, oracle(*args), strict=True):
        error, usual = (np.abs(np.asarray(x, np.float64) - exact).max() for x in (actual, other))
        # As good as the same formula in the same type, give or take a last digit of the largest value. For a single key
        # the gradients with respect to q and k are zero: terms of about 8 cancel.
        assert error <= 2 * usual + float(jnp.finfo(dtype).eps) * max(8, np.abs(exact).max()), (name, error, usual)
