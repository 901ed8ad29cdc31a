"""PyTorch models with weights that matter, as oracles for the models here."""

import math
from collections.abc import Mapping

import numpy as np
import torch

from vrwkv_jax.checkpoint.torch_names import from_torch, torch_name
from vrwkv_jax.models.params import Params


def randomize(module: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Draws all parameters anew, in evaluation mode: with the usual initialisation (unit scales, zero biases, small
    weights) a term that is missing or misplaced would hide below the tolerance."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if parameter.ndim > 1:  # embeddings by their width, matrices and kernels by what they sum over
                fan_in = 1 if "embedding" in name else math.prod(parameter.shape[1:])
                parameter.normal_(0, 1.2 / math.sqrt(fan_in), generator=generator)
            elif name.endswith("weight"):
                parameter.uniform_(0.5, 1.5, generator=generator)
            else:
                parameter.normal_(0, 0.3, generator=generator)
    return module.eval().requires_grad_(False)


def assign(abstract: Params, tensors: Mapping[str, torch.Tensor]) -> Params:
    """The parameters for ``abstract`` out of a state dict; every tensor has to find its place."""
    left, params = dict(tensors), {}
    for path, leaf in abstract.items():
        params[path] = from_torch(path, left.pop(torch_name(path)).numpy())
        assert params[path].shape == leaf.shape, path
    assert not left, f"tensors without a place: {sorted(left)}"
    return params


def assert_close(actual: np.ndarray, oracle: torch.Tensor, tolerance: float) -> None:
    """Largest absolute difference at most ``tolerance`` times the largest value of the channels-first ``oracle``."""
    expected = oracle.movedim(1, -1).numpy() if oracle.ndim > 3 else oracle.numpy()
    assert actual.shape == expected.shape
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * np.abs(expected).max())
