"""Computing blocks again for the gradient: the same gradient, from less that is kept for it."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from tests.models.tiny_unet import abstract, inputs, randomized
from vrwkv_jax.models import params as P
from vrwkv_jax.models.video_config import VideoConfig


def setup(video: VideoConfig):
    """A loss of (parameters, remat), and parameters."""
    graphdef, shapes = abstract(video)
    args = [jnp.asarray(x) for x in inputs(4, 15, 13)]

    def loss(params, remat: bool):
        return jnp.mean(P.merge(graphdef, params)(*args, remat=remat) ** 2)

    return loss, randomized(shapes)


def test_same_gradient():
    loss, params = setup(VideoConfig(mixer="none"))
    expected, actual = (jax.jit(jax.grad(lambda p, remat=remat: loss(p, remat)))(params) for remat in (False, True))
    for path, gradient in expected.items():
        # The same sums in float32; the compiler may join and order them otherwise.
        limit = 1e-4 * np.abs(gradient).max() + 1e-7
        np.testing.assert_allclose(actual[path], gradient, rtol=0, atol=limit, err_msg=path)


def test_less_is_kept_for_the_backward_pass():
    """Counted before compilation: XLA's CPU compiler joins what is computed again with what it was computed from."""
    loss, params = setup(VideoConfig(placement=("skip", "mid", "transformer")))

    def kept(remat: bool) -> int:
        backward = jax.eval_shape(lambda p: jax.vjp(lambda q: loss(q, remat), p)[1], params)
        return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(backward))

    assert kept(True) < 0.25 * kept(False), (kept(True), kept(False))
