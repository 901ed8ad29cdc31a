"""Computing blocks again for the gradient: the same gradient from less memory."""

import jax
import jax.numpy as jnp
import numpy as np

from tests.models.tiny_unet import abstract, fast_jit, inputs, randomized
from vrwkv_jax.models import params as P
from vrwkv_jax.models.mixers.config import VideoConfig


def test_same_gradient_from_less_memory():
    graphdef, shapes = abstract(VideoConfig(placement=("mid",), token_order="joint"))
    params, args = randomized(shapes), [jnp.asarray(x) for x in inputs(4, 15, 13)]

    def compiled(remat: bool):
        def loss(params):
            return jnp.mean(P.merge(graphdef, params)(*args, remat=remat) ** 2)

        return fast_jit(jax.grad(loss)).lower(params).compile()

    kept, forgotten = compiled(remat=False), compiled(remat=True)
    expected, actual = kept(params), forgotten(params)
    for path, gradient in expected.items():
        # The same sums in float32; the compiler may join and order them otherwise.
        np.testing.assert_allclose(
            actual[path], gradient, rtol=0, atol=1e-4 * np.abs(gradient).max() + 1e-7, err_msg=path
        )
    memory = [program.memory_analysis().temp_size_in_bytes for program in (forgotten, kept)]
    assert memory[0] < 0.6 * memory[1], memory
