"""Sequences in pieces, causal sequences, sequences spread over devices: all equal to the whole."""

import subprocess
import sys
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pallas_kernels.bi_wkv import State, bi_wkv, bi_wkv_with_states, empty_state, merge
from pallas_kernels.bi_wkv.cases import inputs

NAMES = ("k", "v", "decay", "bonus", "receptance")


def by_pieces(k, v, decay, bonus, receptance, cuts):
    """A sequence in pieces: a sweep from the right for the backward states, then one from the left."""
    k, v, receptance = (jnp.split(x, cuts, axis=1) for x in (k, v, receptance))
    behind = [None]
    for i in reversed(range(1, len(k))):
        behind.append(bi_wkv_with_states(k[i], v[i], decay, bonus, backward=behind[-1])[2])
    before, y = None, []
    for i in range(len(k)):
        piece, before, _ = bi_wkv_with_states(
            k[i], v[i], decay, bonus, receptance=receptance[i], forward=before, backward=behind[-1 - i]
        )
        y.append(piece)
    return jnp.concatenate(y, axis=1)


@pytest.mark.parametrize("decay", [0.03, -0.05, 3.0], ids=str)
def test_pieces_equal_the_whole(decay):
    """Values and gradients, through the states; 3.0 is too strong for chunks. Odd pieces, one of a single token."""
    values = inputs((2, 47, 3), k_spread=5, decay=decay)
    arguments = [jnp.asarray(values[name]) for name in NAMES]

    @partial(jax.jit, static_argnames="op")
    def gradients(op):
        y, vjp = jax.vjp(op, *arguments)
        return y, *vjp(jnp.asarray(values["g"]))

    whole = gradients(lambda *x: bi_wkv(*x[:4], receptance=x[4]))
    pieces = gradients(partial(by_pieces, cuts=(19, 20)))
    for name, a, b in zip(("y", *NAMES), whole, pieces, strict=True):
        # 2e-5 of the largest: two float32 computations, each summing 94 terms of that size.
        np.testing.assert_allclose(a, b, atol=2e-5 * max(1.0, np.abs(a).max()), err_msg=name)


@pytest.mark.parametrize("op", ["pieces", "scan", "reference"])
def test_causal_equals_the_formula_without_the_later_tokens(op):
    values = inputs((2, 37, 3), k_spread=5, decay=0.3)
    k, v, decay, bonus, receptance = (values[name] for name in NAMES)

    def dense(k, v, decay, bonus, receptance):
        steps = jnp.arange(37)[:, None] - jnp.arange(37)
        exponent = jnp.where(steps[..., None] == 0, bonus, (1 - steps[..., None]) * decay)
        exponent = jnp.where(steps[..., None] < 0, -jnp.inf, exponent)
        p = jax.nn.softmax(exponent + k[:, None], axis=2)
        return jax.nn.sigmoid(receptance) * jnp.einsum("btic,bic->btc", p, v)

    def causal(k, v, decay, bonus, receptance):
        if op != "pieces":
            return bi_wkv(k, v, decay, bonus, receptance=receptance, causal=True, implementation=op)
        first, state, _ = bi_wkv_with_states(
            k[:, :20], v[:, :20], decay, bonus, receptance=receptance[:, :20], causal=True
        )
        rest, _, nothing = bi_wkv_with_states(
            k[:, 20:], v[:, 20:], decay, bonus, receptance=receptance[:, 20:], forward=state, causal=True
        )
        return jnp.concatenate([first, rest], axis=1) + jnp.sum(nothing.b)

    arguments = k, v, decay, bonus, receptance
    with jax.enable_x64(True):
        want, vjp = jax.vjp(dense, *(jnp.asarray(x, jnp.float64) for x in arguments))
        wanted = [np.asarray(x) for x in (want, *vjp(jnp.asarray(values["g"], jnp.float64)))]
    got, vjp = jax.vjp(jax.jit(causal), *arguments)
    for name, a, b in zip(("y", *NAMES), (got, *vjp(values["g"])), wanted, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5 * max(1.0, np.abs(b).max()), err_msg=name)


def test_causal_takes_no_backward_state():
    values = {name: jnp.asarray(x) for name, x in inputs((1, 4, 2)).items()}
    arguments = [values[name] for name in NAMES[:4]]
    with pytest.raises(ValueError, match="backward is a state"):
        bi_wkv_with_states(*arguments, backward=empty_state(1, 2), causal=True)


@pytest.mark.parametrize("decay", [0.4, -0.4], ids=str)
def test_merge_is_associative(decay):
    rng = np.random.default_rng(0)
    a, b, c = (State(*rng.normal(size=(3, 2, 4)) * [[[30]], [[1]], [[1]]]) for _ in range(3))
    with jax.enable_x64(True):
        decay = jnp.full(4, decay)
        one_way = merge(merge(a, b, decay, 5), c, decay, 7)
        other_way = merge(a, merge(b, c, decay, 7), decay, 12)
        for x in ("a", "b"):
            values = [np.asarray(getattr(s, x) * jnp.exp(s.m)) for s in (one_way, other_way)]
            np.testing.assert_allclose(*values, rtol=1e-12)


def test_context_parallel_on_four_devices():
    """In a process of its own, because the number of devices is fixed at a process's start."""
    script = Path(__file__).with_name("context_parallel_on_four_devices.py")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
