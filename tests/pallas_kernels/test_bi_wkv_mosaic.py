"""The GPU kernels without a GPU: their arithmetic in interpret mode, and that the compiled program calls them."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from benchmarks.gpu_target import describing
from pallas_kernels.bi_wkv import State, bi_wkv, bi_wkv_context_parallel, bi_wkv_with_states, mosaic
from pallas_kernels.bi_wkv.cases import inputs
from pallas_kernels.bi_wkv.piece import Piece, bi_wkv_piece
from tests.pallas_kernels.interpreting import interpret_params, interpreted
from tests.pallas_kernels.lowered import calls_in_text, four_gpus, kernels, with_gradients
from tests.pallas_kernels.oracle import GRADIENTS, dense
from tests.pallas_kernels.test_bi_wkv import errors, tolerance


def interpreting(**piece):
    return Piece("mosaic", interpret=interpret_params(), **piece)


@interpreted
@pytest.mark.parametrize(
    ("T", "k_spread", "decay", "bounded"),
    [
        (30, 5, 0.05, True),  # two chunks, so that states are carried
        (30, 80, -2.0, True),
        (13, 80, 1.0, True),  # one chunk, which nothing enters
        (5, 80, 50.0, False),  # chunks of one token
        (6, 80, -50.0, False),
    ],
    ids=str,
)
def test_interpreted_kernels(T, k_spread, decay, bounded, monkeypatch):
    """Odd in every size: filler tokens and channels."""
    monkeypatch.setattr(mosaic, "LONGEST_CHUNK", 16)
    values = inputs((1, T, 3), k_spread=k_spread, decay=decay)
    arguments = [jnp.asarray(values[name]) for name in GRADIENTS]
    piece = interpreting(max_decay=abs(decay) if bounded else None)
    with describing("sm_90"):
        got = with_gradients(lambda *x: bi_wkv_piece(*x, None, piece)[0], arguments, jnp.asarray(values["g"]))
    worst = errors(dict(zip(("y", *GRADIENTS), got, strict=True)), dense(**values))
    assert max(worst.values()) < tolerance(values), worst


@interpreted
@pytest.mark.parametrize("causal", [False, True], ids=["both ways", "causal"])
def test_interpreted_pieces(causal, monkeypatch):
    """Between states, with gradients through all that goes in and comes out, as ``scan`` has it."""
    monkeypatch.setattr(mosaic, "LONGEST_CHUNK", 16)
    values = inputs((2, 19, 3), k_spread=3, decay=0.3)
    rng = np.random.default_rng(1)
    states = [State(*(jnp.asarray(x, jnp.float32) for x in rng.uniform(0.5, 2, size=(3, 2, 3)))) for _ in range(2)]
    if causal:
        states[1] = State(jnp.full((2, 3), -1e30), jnp.zeros((2, 3)), jnp.zeros((2, 3)))
    arguments = [jnp.asarray(values[name]) for name in GRADIENTS] + [tuple(states)]

    def run(piece):
        out, vjp = jax.vjp(lambda *x: bi_wkv_piece(*x, piece), *arguments)
        _, (forward, backward) = out
        weights = [State(jnp.zeros((2, 3)), *jnp.asarray(rng2.normal(size=(2, 2, 3)), jnp.float32)) for _ in "ab"]
        if causal:
            weights[1] = jax.tree.map(jnp.zeros_like, backward)
        # The states stand for exp(m) (a, b), whatever m is.
        values = [jnp.exp(x.m)[None] * jnp.stack([x.a, x.b]) for x in (forward, backward)]
        scaled = [State(w.m, *(jnp.exp(s.m) * x for x in (w.a, w.b))) for w, s in zip(weights, out[1], strict=True)]
        return out[0], values, vjp((jnp.asarray(g), tuple(scaled)))

    g = values["g"]
    with describing("sm_90"):
        rng2 = np.random.default_rng(2)
        got = run(interpreting(max_decay=0.3, causal=causal))
    rng2 = np.random.default_rng(2)
    want = run(Piece("scan", max_decay=0.3, causal=causal))
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        # 2e-5 of the largest: two float32 computations, each summing some 40 terms of that size.
        np.testing.assert_allclose(a, b, atol=2e-5 * max(1.0, np.abs(b).max()))


TOKENS = jax.ShapeDtypeStruct((2, 256, 320), jnp.bfloat16)
SHORT = jax.ShapeDtypeStruct((4096, 16, 320), jnp.bfloat16)
CHANNELS = jax.ShapeDtypeStruct((320,), jnp.float32)
STATE = State(*(jax.ShapeDtypeStruct((2, 320), jnp.float32),) * 3)


def arguments(tokens, gated=False):
    return tokens, tokens, CHANNELS, CHANNELS, tokens if gated else None


@pytest.mark.parametrize("gated", [False, True], ids=["plain", "gated"])
def test_lowered_program_calls_the_kernels(gated):
    """Nothing is asked for by name. Sums, carry, outputs forward; sums, carry, gradients backward."""

    def op(k, v, decay, bonus, receptance):
        return bi_wkv(k, v, decay, bonus, receptance=receptance, max_decay=0.5)

    assert kernels(op, *arguments(TOKENS, gated)) == 3
    assert kernels(partial(with_gradients, op), arguments(TOKENS, gated), TOKENS) == 6
    # Along time there is one chunk, which nothing enters: no sums, no carry.
    assert kernels(op, *arguments(SHORT, gated)) == 1
    assert kernels(partial(with_gradients, op), arguments(SHORT, gated), SHORT) == 2


def test_equal_calls_are_lowered_once():
    def three(k, v, decay, bonus):
        k, v, decay, bonus = (x + 0 for x in (k, v, decay, bonus))
        for _ in range(3):
            v = bi_wkv(k, v, decay, bonus, max_decay=0.5)
        return v

    assert calls_in_text(three, *arguments(TOKENS)[:4]) == 3
    assert kernels(three, *arguments(TOKENS)[:4]) == 9


def test_every_path_takes_the_kernels():
    """Pieces with states, causal ones, many at once, spread over devices, and what is computed again for a gradient."""
    k, v, decay, bonus, _ = arguments(TOKENS)

    def piece(k, v, decay, bonus, forward, backward):
        return bi_wkv_with_states(k, v, decay, bonus, forward=forward, backward=backward, max_decay=0.5)

    def causal(k, v, decay, bonus, forward):
        return bi_wkv_with_states(k, v, decay, bonus, forward=forward, causal=True, max_decay=0.5)

    def again(k, v, decay, bonus):
        op = jax.checkpoint(lambda v: jnp.sum(bi_wkv(k, v, decay, bonus, max_decay=0.5).astype(jnp.float32)))
        return jax.grad(op)(v)

    many = jax.ShapeDtypeStruct((3, *TOKENS.shape), TOKENS.dtype)
    assert kernels(piece, k, v, decay, bonus, STATE, STATE) == 3
    assert kernels(causal, k, v, decay, bonus, STATE) == 3
    assert kernels(jax.vmap(lambda k: bi_wkv(k, k, *jnp.ones((2, 320)), max_decay=0.5)), many) == 3
    assert kernels(again, k, v, decay, bonus) == 5  # y itself is not asked for


def test_devices_that_share_a_sequence_take_the_kernels():
    mesh = four_gpus()
    tokens, alike = PartitionSpec(None, "t"), PartitionSpec()

    def shared(k, v, decay, bonus):
        op = partial(bi_wkv_context_parallel, axis_name="t", max_decay=0.5)
        specs = (tokens, tokens, alike, alike)
        return jax.shard_map(op, mesh=mesh, in_specs=specs, out_specs=tokens, check_vma=False)(k, v, decay, bonus)

    # The loops are over the states of the four devices, from both sides.
    assert kernels(shared, *arguments(TOKENS)[:4], mesh=mesh, loops=2) == 3
