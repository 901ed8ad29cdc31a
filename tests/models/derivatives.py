"""What tests of gradients share: a module's own, and the parameters for an oracle in PyTorch and float64."""

import jax
import jax.numpy as jnp
import numpy as np
import torch
from flax import nnx

from vrwkv_jax.models import params as P


def with_gradients(graphdef: nnx.GraphDef, params: P.Params, x: np.ndarray, cotangent: np.ndarray):
    """What a module says of ``x``; and of that times ``cotangent``, summed, the gradients of ``params`` and ``x``."""

    @jax.jit
    def run(params, x):
        output, back = jax.vjp(lambda params, x: P.merge(graphdef, params)(x), params, x)
        return output, *back(jnp.asarray(cotangent))

    return run(params, x)


def doubles(params: P.Params) -> dict[str, torch.Tensor]:
    """In PyTorch and float64, for a gradient of each."""
    return {path: torch.tensor(leaf, dtype=torch.float64, requires_grad=True) for path, leaf in params.items()}
