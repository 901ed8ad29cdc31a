"""The counter of operations on programs whose operations can be counted by hand."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from vrwkv_jax.system.operations import count_operations

MATRIX, VECTOR = jnp.ones((3, 5)), jnp.ones(5)
BATCHED, IMAGES, KERNEL = jnp.ones((2, 3, 4)), jnp.ones((2, 7, 9, 4)), jnp.ones((3, 3, 4, 6))
PRODUCT = 2 * 3 * 5


@jax.custom_vjp
def custom(x):
    return MATRIX @ x


custom.defvjp(lambda x: (MATRIX @ x, None), lambda _, g: (g @ MATRIX,))

PROGRAMS = {
    "elementwise": (lambda x: x * x, 5),
    "reduction": (lambda x: lax.reduce_max(x, (0,)), 5),
    "matrix-vector": (lambda x: MATRIX @ x, PRODUCT),
    "batched": (lambda x: jnp.einsum("bij,bkj->bik", BATCHED, BATCHED), 2 * 2 * 3 * 4 * 3),
    "convolution": (
        lambda x: lax.conv_general_dilated(
            IMAGES,
            KERNEL,
            (2, 2),
            ((1, 1), (1, 1)),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        ),
        2 * (2 * 4 * 5 * 6) * (3 * 3 * 4),
    ),
    "scan": (lambda x: lax.scan(lambda c, _: (c * c, None), x, None, length=11)[0], 11 * 5),
    "scan in scan": (
        lambda x: lax.fori_loop(0, 4, lambda _, c: lax.fori_loop(0, 3, lambda _, d: d * d, c), x),
        4 * (3 * (5 + 1) + 1),  # one more for each counter
    ),
    "jit": (lambda x: jax.jit(lambda y: MATRIX @ y)(x), PRODUCT),
    "checkpoint": (lambda x: jax.checkpoint(lambda y: MATRIX @ y)(x), PRODUCT),
    "custom_vjp": (custom, PRODUCT),
    "gradient of custom_vjp": (lambda x: jax.vjp(custom, x)[1](x[:3]), 2 * PRODUCT + 3),
    "cond": (lambda x: lax.cond(x[0] > 0, lambda y: y * y * y, lambda y: y, x), 1 + 1 + 1 + 1 + 2 * 5),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_known_programs(name):
    program, expected = PROGRAMS[name]
    constants = count_operations(lambda x: x, VECTOR)
    assert constants == 0
    assert count_operations(program, VECTOR) == expected


def test_a_loop_without_a_known_end_is_refused():
    with pytest.raises(NotImplementedError, match="while"):
        count_operations(lambda x: lax.while_loop(lambda c: c[0] < 9, lambda c: c + 1, x), VECTOR)
