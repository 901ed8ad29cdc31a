"""One suite for every implementation of the selective scan, against its recurrence in float64."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pallas_kernels.selective_scan import scan, selective_scan, selective_scan_with_state
from pallas_kernels.selective_scan.cases import ARGUMENTS, SHAPES, inputs
from tests.pallas_kernels.implementations import implementations
from tests.pallas_kernels.selective_scan_oracle import oracle

# float32 rounding of sums whose terms are about as large as the largest result; the longest sums are over 1000 tokens,
# or over 16 states and 100 channels. On GPUs a power of two is off by up to 2 units in the last place, 2.4e-7, and a
# state takes part in 32 of them within its chunk and in 31 chunks behind: 1.5e-5.
TOLERANCE = 2e-5


@partial(jax.jit, static_argnames=("implementation", "reverse"))
def run(values, implementation, *, reverse=False):
    """y and all gradients of one implementation."""
    op = partial(selective_scan, implementation=implementation, reverse=reverse)
    y, vjp = jax.vjp(op, *(values[name] for name in ARGUMENTS))
    return {"y": y, **dict(zip(ARGUMENTS, vjp(values["g"].astype(y.dtype)), strict=True))}


def errors(got, want):
    """The largest error of every result, relative to its largest value, or to 1."""

    def error(name):
        scale = max(np.abs(want[name]).max(), 1.0)
        return float(np.abs(np.asarray(got[name], np.float64) - want[name]).max() / scale)

    return {name: error(name) for name in want}


def check(got, want):
    worst = errors(got, want)
    assert max(worst.values()) < TOLERANCE, worst  # which NaN is not


@implementations
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_shapes(implementation, shape):
    values = inputs(shape)
    got = run(values, implementation)
    assert got["y"].shape == values["x"].shape
    check(got, oracle(values))


@implementations
@pytest.mark.parametrize("shape", [(2, 63, 3, 16)], ids=str)
def test_from_the_last_token_to_the_first(implementation, shape):
    values = inputs(shape)
    check(run(values, implementation, reverse=True), oracle(values, reverse=True))
    flipped = {name: x[:, ::-1] if x.ndim == 3 else x for name, x in values.items()}
    got = run(flipped, implementation)
    check({name: x[:, ::-1] if x.ndim == 3 else x for name, x in got.items()}, oracle(values, reverse=True))


@implementations
@pytest.mark.parametrize("dt", [(1e-6, 2e-6), (1e-6, 50), (49, 50)], ids=str)
@pytest.mark.parametrize("A", [(1e-9, 2e-9), (1e-9, 1e3), (999, 1e3)], ids=str)
def test_ranges(implementation, dt, A):
    """Steps and decays of every size: states that nothing leaves, states that nothing stays in."""
    values = inputs((2, 67, 3, 4), dt=dt, A=A)
    check(run(values, implementation), oracle(values))


@implementations
def test_growing_states_are_right_while_they_fit(implementation):
    """A above 0: by e^20 over the sequence."""
    values = inputs((1, 40, 3, 2), dt=(0.4, 0.6))
    values["A"] = np.full_like(values["A"], 1.0)
    check(run(values, implementation), oracle(values))


@implementations
def test_tokens_without_a_step_leave_the_state_alone(implementation):
    values = inputs((1, 40, 3, 2))
    values["dt"][:, 7:25] = 0
    shorter = {name: np.delete(x, np.s_[7:25], axis=1) if x.ndim == 3 else x for name, x in values.items()}
    got = np.delete(run(values, implementation)["y"], np.s_[7:25], axis=1)
    np.testing.assert_allclose(got, oracle(shorter)["y"], atol=TOLERANCE * np.abs(got).max())


@implementations
@pytest.mark.parametrize("dtype", [jnp.bfloat16, pytest.param(jnp.float16, marks=pytest.mark.long)])
def test_half_precision_is_as_good_as_plain_code(implementation, dtype):
    """Both are computed in float32 and rounded at the end."""
    values = {name: jnp.asarray(x, dtype) for name, x in inputs((2, 65, 7, 4)).items()}
    got, plain, want = run(values, implementation), run(values, "reference"), oracle(values)
    assert all(got[name].dtype == dtype for name in got)
    worst, plain_worst = errors(got, want), errors(plain, want)
    for name in want:
        assert worst[name] <= 2 * plain_worst[name], name


@implementations
def test_of_different_dtypes(implementation):
    """Steps stay in float32 where the rest is bfloat16."""
    values = {
        name: jnp.asarray(x, jnp.float32 if name in "dtAD" else jnp.bfloat16) for name, x in inputs(SHAPES[1]).items()
    }
    got = run(values, implementation)
    assert {name: x.dtype for name, x in got.items()} == {name: values[name.replace("y", "x")].dtype for name in got}
    worst = errors(got, oracle(values))
    assert max(worst.values()) < 2**-8, worst  # bfloat16 has 8 bits


@implementations
def test_transformations(implementation):
    """vmap over clips and over decays, and rematerialisation, equal the loop and the plain gradient."""
    many = [inputs((2, 33, 3, 2), A=A, seed=seed) for seed, A in enumerate([(1, 2), (5, 100), (0.1, 0.2)])]
    stacked = {name: np.stack([values[name] for values in many]) for name in many[0]}
    mapped = jax.vmap(partial(run, implementation=implementation))(stacked)
    for i, values in enumerate(many):
        check({name: x[i] for name, x in mapped.items()}, oracle(values))

    values, want = many[0], oracle(many[0])
    arguments = [jnp.asarray(values[name]) for name in ARGUMENTS]
    op = partial(selective_scan, implementation=implementation)
    again = jax.jit(jax.grad(lambda *x: jnp.sum(jax.checkpoint(op)(*x) * values["g"]), argnums=tuple(range(6))))
    check(dict(zip(ARGUMENTS, again(*arguments), strict=True)), {name: want[name] for name in ARGUMENTS})


@pytest.mark.parametrize(("runs", "reverse"), [(2, False), (7, True)], ids=["forward", "reverse"])
def test_runs_side_by_side(runs, reverse, monkeypatch):
    """As accelerators do it, runs that end in filler among them."""
    monkeypatch.setattr(scan, "_runs", lambda T: runs)
    values = inputs((2, 131, 3, 2))
    got = jax.jit(lambda values: run.__wrapped__(values, "scan", reverse=reverse))(values)
    check(got, oracle(values, reverse=reverse))


@pytest.mark.parametrize("runs", [1, 3])
def test_runs_and_blocks_in_half_precision(runs, monkeypatch):
    """Computed in float32 all the way: the gradient of A, which is not rounded to bfloat16, shows it."""
    monkeypatch.setattr(scan, "_runs", lambda T: runs)
    monkeypatch.setattr(scan, "CPU_BLOCK", 2 * 16 * 12)  # two of five sequences
    values = {name: jnp.asarray(x, jnp.bfloat16) for name, x in inputs((5, 70, 3, 4)).items()}
    values["A"] = values["A"].astype(jnp.float32)
    got, want = jax.jit(lambda values: run.__wrapped__(values, "scan"))(values), oracle(values)
    check({"A": got["A"]}, {"A": want["A"]})
    worst = errors(got, want)
    assert max(worst.values()) < 2**-8, worst  # bfloat16 has 8 bits


def test_many_short_sequences_need_little_memory():
    """Beside arguments and results, in arrays of float32, though one chunk is all of a sequence."""
    shapes = {name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in inputs((1024, 16, 32, 16)).items()}
    both = run.lower(shapes, "scan").compile().memory_analysis()
    assert both.temp_size_in_bytes < 8 * 4 * np.prod(shapes["x"].shape)


def test_equal_calls_are_lowered_once():
    shapes = {name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in inputs((1, 40, 3, 2)).items()}
    op = partial(selective_scan, implementation="scan")

    def loops(calls):
        def repeated(x, *others):
            for _ in range(calls):
                x = op(x + 0, *others)
            return x

        return jax.jit(repeated).lower(*(shapes[name] for name in ARGUMENTS)).as_text().count("stablehlo.while")

    assert loops(3) == loops(1) > 0


def test_scan_in_float64():
    values = inputs((1, 200, 3, 4))
    with jax.enable_x64(True):
        got = run({name: jnp.asarray(x, jnp.float64) for name, x in values.items()}, "scan")
    worst = errors(got, oracle(values))
    assert max(worst.values()) < 1e-12, worst


def test_no_drift_over_many_tokens():
    """States that hardly fade: the same code in float64 agrees with the recurrence, so it can stand in for it here."""
    values = inputs((1, 65_536, 2, 1), dt=(1e-3, 1e-2), A=(1e-3, 1e-2))
    op = partial(selective_scan, implementation="scan")
    got = op(*(jnp.asarray(values[name]) for name in ARGUMENTS))
    with jax.enable_x64(True):
        want = np.asarray(op(*(jnp.asarray(values[name], jnp.float64) for name in ARGUMENTS)))
    # Each of 65,536 steps rounds the state: if all to the same side, by 65,536 x 6e-8; at random by the root of that.
    assert np.abs(np.asarray(got, np.float64) - want).max() <= 2e-5 * np.abs(want).max()


def test_memory_is_not_that_of_all_states():
    """Beside arguments and results, in arrays of float32: with all states it would be N = 16 and more."""
    shapes = {name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in inputs((1, 4096, 64, 16)).items()}
    arguments = [shapes[name] for name in ARGUMENTS]
    array = 4 * np.prod(shapes["x"].shape)
    forward = jax.jit(partial(selective_scan, implementation="scan")).lower(*arguments).compile().memory_analysis()
    both = run.lower(shapes, "scan").compile().memory_analysis()
    assert forward.temp_size_in_bytes < 6 * array
    assert both.temp_size_in_bytes < 12 * array


def test_as_transformers_has_it():
    """Values, state and gradients of the recurrence in Mamba of transformers, in PyTorch."""
    torch = pytest.importorskip("torch")
    from transformers.models.mamba.modeling_mamba import mamba_selective_scan

    values = inputs((2, 45, 6, 4))
    x, dt, A, B, C, D = tensors = [torch.tensor(values[name], requires_grad=True) for name in ARGUMENTS]
    across = (y.transpose(1, 2) for y in (x, dt, B, C))
    x_, dt_, B_, C_ = across
    y, state = mamba_selective_scan(x_, dt_, A, B_, C_, D=D, return_last_state=True)
    y = y.transpose(1, 2)
    torch.sum(y * torch.tensor(values["g"])).backward()
    want = {"y": y, **{name: tensor.grad for name, tensor in zip(ARGUMENTS, tensors, strict=True)}}
    want = {name: tensor.detach().numpy() for name, tensor in want.items()}
    check(run(values, "scan"), want)
    _, got = selective_scan_with_state(*(jnp.asarray(values[name]) for name in ARGUMENTS))
    np.testing.assert_allclose(got, state.detach().numpy(), atol=TOLERANCE)


@pytest.mark.gpu
@pytest.mark.parametrize("shape", [(2, 4096, 320, 16), (3, 1000, 100, 4)], ids=str)
def test_repeats_are_equal_bit_for_bit(shape):
    """A race between warps would show as a difference."""
    values = {name: jnp.asarray(x, jnp.bfloat16) for name, x in inputs(shape).items()}
    first = run(values, "mosaic")
    for _ in range(20):
        again = run(values, "mosaic")
        for name, x in first.items():
            np.testing.assert_array_equal(np.asarray(x, np.float32), np.asarray(again[name], np.float32), err_msg=name)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": jnp.zeros((4, 2), jnp.float32)}, "x has shape"),
        ({"dt": jnp.zeros((1, 3, 2), jnp.float32)}, "dt has shape"),
        ({"A": jnp.zeros((3, 2), jnp.float32)}, r"A has shape \(3, 2\); expected \[2, N\]"),
        ({"B": jnp.zeros((1, 4, 2), jnp.float32)}, r"B has shape \(1, 4, 2\); expected \(1, 4, 3\)"),
        ({"D": jnp.zeros(2, jnp.int32)}, "D has dtype"),
        ({"state": jnp.zeros((1, 3, 2), jnp.float32)}, "state has shape"),
        ({"implementation": "fast"}, "choose one of reference, scan, mosaic"),
    ],
)
def test_wrong_arguments_are_named(change, message):
    values = {name: jnp.asarray(x) for name, x in inputs((1, 4, 2, 3)).items()}
    arguments = {name: values[name] for name in ARGUMENTS} | change
    with pytest.raises(ValueError, match=message):
        selective_scan_with_state(**arguments)
