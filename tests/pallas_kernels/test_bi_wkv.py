"""One suite for every implementation of Bi-WKV, against the dense formula in float64."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pallas_kernels import implementation as choice
from pallas_kernels.bi_wkv import bi_wkv, free_decay, implementation_for
from pallas_kernels.bi_wkv.cases import SHAPES, inputs
from pallas_kernels.device import Device
from tests.pallas_kernels.implementations import implementations
from tests.pallas_kernels.oracle import GRADIENTS, dense

EPS = float(np.finfo(np.float32).eps)


def run(values, implementation, *, bounded=True):
    """y and all gradients of one implementation, which may know how strong the decay is."""
    max_decay = float(np.abs(np.asarray(values["decay"], np.float32)).max()) if bounded else None
    return _run(values, implementation, max_decay)


@partial(jax.jit, static_argnames=("implementation", "max_decay"))
def _run(values, implementation, max_decay):
    arguments = [values[name] for name in GRADIENTS]

    def op(k, v, decay, bonus, receptance):
        return bi_wkv(k, v, decay, bonus, receptance=receptance, max_decay=max_decay, implementation=implementation)

    y, vjp = jax.vjp(op, *arguments)
    return {"y": y, **dict(zip(GRADIENTS, vjp(values["g"].astype(y.dtype)), strict=True))}


def errors(got, want):
    """The largest error of every result, relative to its largest value, or to the size of the terms it is summed from.

    Those are about 1, and distances of up to T for the gradient with respect to decay: where they cancel (a bonus of
    30 makes y = v, whatever k is), what is left of them is not a scale.
    """
    terms = {name: 1.0 for name in want} | {"decay": want["y"].shape[1]}

    def error(name):
        scale = max(np.abs(want[name]).max(), terms[name])
        return float(np.abs(np.asarray(got[name], np.float64) - want[name]).max() / scale)

    return {name: error(name) for name in want}


def tolerance(values):
    """float32 rounding of sums, plus what a few last digits of ``decay`` are worth over the whole sequence."""
    return 1e-5 + 8 * EPS * np.abs(values["decay"]).max() * values["k"].shape[1]


def some_channels(values, count=4):
    """Channels don't mix: the oracle needs only a few of them."""
    pick = np.unique(np.linspace(0, values["k"].shape[2] - 1, count).astype(int))
    return {name: x[..., pick] for name, x in values.items()}


@implementations
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_shapes(implementation, shape):
    T = shape[1]
    values = inputs(shape, decay=3.0 / T)
    if implementation == "reference" and T >= 1000:
        values = some_channels(values, 1)
    got = run(values, implementation)
    assert got["y"].shape == values["k"].shape
    count = 4 if T <= 1000 else 1
    worst = errors(some_channels(got, count), dense(**some_channels(values, count)))
    assert max(worst.values()) < tolerance(values), worst


@implementations
@pytest.mark.parametrize("k_spread", [1, 20, 80])
@pytest.mark.parametrize("decay", [0.0, 1e-6, -5 / 67, 3 / 67, 0.9, -0.9, 7.0, -7.0, 50.0, -50.0])
@pytest.mark.parametrize("bonus", [0.3, 30, -30])
def test_ranges(implementation, k_spread, decay, bonus):
    values = inputs((2, 67, 5), k_spread=k_spread, decay=decay, bonus=bonus)
    got, want = run(values, implementation), dense(**values)
    worst = errors(got, want)
    assert max(worst.values()) < tolerance(values), worst


@implementations
@pytest.mark.parametrize("decay", [0.0, 3 / 67, -0.9, 7.0, 50.0, -50.0])
@pytest.mark.parametrize("bonus", [0.3, -30])
def test_unbounded_decays(implementation, decay, bonus):
    values = inputs((2, 67, 5), k_spread=80, decay=decay, bonus=bonus)
    worst = errors(run(values, implementation, bounded=False), dense(**values))
    assert max(worst.values()) < tolerance(values), worst


@pytest.mark.parametrize("T", [1, 2, 7, 8, 9, 33, 64, 65, 4096])
def test_free_decays_are_right(T):
    """At the bound up to which chunks are as long as they can be, in float32."""
    values = inputs((1, T, 3), k_spread=20, decay=free_decay(T))
    count = 1 if T > 1000 else 3
    worst = errors(some_channels(run(values, "scan"), count), dense(**some_channels(values, count)))
    assert max(worst.values()) < tolerance(values), worst


@implementations
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_is_as_good_as_plain_code(implementation, dtype):
    values = {name: jnp.asarray(x, dtype) for name, x in inputs((3, 65, 7), decay=0.05).items()}
    got, plain = run(values, implementation), run(values, "reference")
    assert all(got[name].dtype == dtype for name in got)
    want = dense(**values)
    worst, plain_worst = errors(got, want), errors(plain, want)
    for name in want:
        assert worst[name] <= 2 * plain_worst[name], name


@implementations
def test_masked_tokens_are_left_out(implementation):
    values = inputs((2, 70, 3), decay=0.05)
    keep = np.r_[0:33]  # a masked tail is longer than a chunk
    values["k"][:, 33:] = -np.inf
    got = run(values, implementation)
    want = dense(**{n: x[:, keep] if x.ndim == 3 else x for n, x in values.items()})
    np.testing.assert_allclose(got["y"][:, keep], want["y"], atol=1e-5)
    assert all(np.isfinite(x).all() for x in got.values())


@implementations
def test_transformations(implementation):
    """vmap over clips and over decays, and rematerialisation, equal the loop and the plain gradient."""
    many = [inputs((2, 33, 3), decay=decay, seed=seed) for seed, decay in enumerate((0.02, 4.0, -0.1))]
    stacked = {name: np.stack([values[name] for values in many]) for name in many[0]}
    mapped = jax.vmap(partial(_run, implementation=implementation, max_decay=4.0))(stacked)
    for i, values in enumerate(many):
        got = {name: x[i] for name, x in mapped.items()}
        worst = errors(got, dense(**values))
        assert max(worst.values()) < tolerance(values), worst

    values = many[0]
    channels = {name: jnp.asarray(values[name]) for name in ("decay", "bonus")}
    op = partial(bi_wkv, **channels, max_decay=0.1, implementation=implementation)
    for f in (jax.checkpoint(lambda k, v: op(k, v)), jax.jit(jax.remat(lambda k, v: op(k, v)))):
        dk, dv = jax.grad(lambda k, v, f=f: jnp.sum(f(k, v) * values["g"]), argnums=(0, 1))(values["k"], values["v"])
        want = dense(**{**values, "receptance": np.full_like(values["k"], 60.0)})  # sigmoid(60) is 1
        np.testing.assert_allclose(dk, want["k"], atol=1e-5)
        np.testing.assert_allclose(dv, want["v"], atol=1e-5)


def test_no_drift_over_a_quarter_of_a_million_tokens():
    """The same code in float64 agrees with the dense formula (test_scan_in_float64), so it can stand in for it here."""
    names = ("k", "v", "decay", "bonus")
    values = inputs((1, 262_144, 2), decay=3 / 262_144)
    op = jax.jit(lambda k, v, d, u: bi_wkv(k, v, d, u, max_decay=1e-4, implementation="scan"))
    got = op(*(values[name] for name in names))
    with jax.enable_x64(True):
        want = np.asarray(op(*(jnp.asarray(values[name], jnp.float64) for name in names)))
    assert np.abs(np.asarray(got, np.float64) - want).max() <= 2e-5


def test_scan_in_float64():
    values = inputs((1, 200, 3), decay=3 / 200)
    with jax.enable_x64(True):
        got = _run({name: jnp.asarray(x, jnp.float64) for name, x in values.items()}, "scan", 0.02)
    worst = errors(got, dense(**values))
    assert max(worst.values()) < 1e-12, worst


def test_many_short_sequences_need_little_memory():
    """Beside arguments and results, in arrays of float32: filling up to 64 tokens would need 4x."""
    shape = (4096, 16, 320)
    k = jax.ShapeDtypeStruct(shape, jnp.bfloat16)
    c = jax.ShapeDtypeStruct(shape[2:], jnp.float32)
    array = 4 * np.prod(shape)

    def loss(*arguments):
        return jnp.sum(op(*arguments).astype(jnp.float32))

    op = partial(bi_wkv, max_decay=free_decay(16), implementation="scan")
    forward = jax.jit(op).lower(k, k, c, c).compile().memory_analysis()
    both = jax.jit(jax.grad(loss, argnums=(0, 1, 2, 3))).lower(k, k, c, c).compile().memory_analysis()
    assert forward.temp_size_in_bytes < 4 * array
    assert both.temp_size_in_bytes < 8 * array


@pytest.mark.gpu
@pytest.mark.parametrize("shape", [(2, 4096, 320), (3, 1000, 100)], ids=str)
def test_repeats_are_equal_bit_for_bit(shape):
    """A race between warps would show as a difference."""
    values = {name: jnp.asarray(x, jnp.bfloat16) for name, x in inputs(shape, decay=3 / shape[1]).items()}
    first = run(values, "mosaic")
    for _ in range(20):
        again = run(values, "mosaic")
        for name, x in first.items():
            np.testing.assert_array_equal(np.asarray(x, np.float32), np.asarray(again[name], np.float32), err_msg=name)


@pytest.mark.parametrize(
    ("device", "dtype", "chosen"),
    [
        (Device("gpu", "NVIDIA H200", (9, 0)), "bfloat16", "mosaic"),
        (Device("gpu", "NVIDIA H200", (9, 0)), "float64", "scan"),
        (Device("gpu", "NVIDIA A100", (8, 0)), "float32", "mosaic" if jax.__version_info__ >= (0, 11) else "scan"),
        (Device("gpu", "Tesla T4", (7, 5)), "float16", "scan"),
        (Device("gpu", "AMD Instinct MI300X"), "bfloat16", "scan"),
        (Device("cpu", "cpu"), "float32", "scan"),
    ],
)
def test_what_runs_by_itself(device, dtype, chosen, monkeypatch):
    monkeypatch.setattr(choice, "target_device", lambda: device)
    assert implementation_for(None, dtype) == implementation_for("auto", dtype) == chosen
    assert implementation_for("scan", dtype) == "scan"


def test_kernels_that_cannot_run_say_why():
    values = {name: jnp.asarray(x) for name, x in inputs((1, 64, 2)).items()}
    if jax.default_backend() == "gpu":
        pytest.skip("here they can")
    with pytest.raises(ValueError, match=r"'mosaic' can't run: it needs an NVIDIA GPU.*'scan' and 'reference' can"):
        bi_wkv(*(values[name] for name in ("k", "v", "decay", "bonus")), implementation="mosaic")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"v": jnp.zeros((1, 3, 2), jnp.float32)}, "v has shape"),
        ({"decay": jnp.zeros((1, 2), jnp.float32)}, "decay has shape"),
        ({"bonus": jnp.zeros(2, jnp.int32)}, "bonus has dtype"),
        ({"k": jnp.zeros((4, 2), jnp.float32)}, "k has shape"),
        ({"implementation": "fast"}, "choose one of reference, scan, mosaic"),
    ],
)
def test_wrong_arguments_are_named(change, message):
    values = {name: jnp.asarray(x) for name, x in inputs((1, 4, 2)).items()}
    arguments = {name: values[name] for name in ("k", "v", "decay", "bonus")} | change
    with pytest.raises(ValueError, match=message):
        bi_wkv(**arguments)
