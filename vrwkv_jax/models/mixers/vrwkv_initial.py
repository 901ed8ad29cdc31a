"""What a new VRWKV mixer starts from: Vision-RWKV's decay, bonus and token shift."""

from typing import NamedTuple

import numpy as np


class InitialValues(NamedTuple):
    """What a new mixer starts from, float32 ``[C]`` each; ``w`` is the logarithm of the decay."""

    w: np.ndarray
    u: np.ndarray
    mu_r: np.ndarray
    mu_k: np.ndarray
    mu_v: np.ndarray


def initial_values(name: str, channels: int, layer: int, num_layers: int) -> InitialValues:
    """Vision-RWKV's initial values for layer l of L, with a = l/(L-1) and b = 1 - l/L.

    Its "local" has mu = 1, which would switch the interpolation between frames off; here it is 0.5, as in "global".
    """
    i = np.arange(channels)
    values: tuple[np.ndarray | float, ...]
    if name == "fancy":
        a = layer / max(num_layers - 1, 1)
        b = 1 - layer / num_layers
        w = -5 + 8 * (i / max(channels - 1, 1)) ** (0.7 + 1.3 * a)
        u = np.log(0.3) + 0.5 * ((i + 1) % 3 - 1)
        mu_k = (i / channels) ** b
        values = (w, u, (i / channels) ** (b / 2), mu_k, mu_k + 0.3 * a)
    else:
        decay = {"local": 1.0, "global": 0.0}[name]
        values = (decay, decay, 0.5, 0.5, 0.5)
    return InitialValues(*(np.broadcast_to(value, channels).astype(np.float32) for value in values))
