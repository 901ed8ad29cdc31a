"""Shapes and inputs that the tests and the benchmark share."""

import numpy as np

#       B  T     C
SHAPES = (
    (1, 1, 64),
    (3, 2, 3),
    (1, 3, 1),
    (3, 63, 100),
    (1, 64, 320),
    (3, 65, 3),
    (1, 196, 100),
    (3, 1000, 64),
    (1, 4096, 320),
)


def inputs(
    shape: tuple[int, int, int], *, k_spread: float = 1.0, decay: float = 1.0, bonus: float = 0.3, seed: int = 0
) -> dict[str, np.ndarray]:
    """float32 arguments of ``bi_wkv`` and the gradient ``g`` [B, T, C] of a loss with respect to its result.

    Args:
        k_spread: k is uniform in [-k_spread, k_spread].
        decay: per step; a number is spread over the channels, from half of it to all of it.
    """
    rng = np.random.default_rng(seed)
    k, v, receptance, g = (rng.normal(size=shape) for _ in range(4))
    k = rng.uniform(-k_spread, k_spread, size=shape)
    channels = shape[2]
    values = {
        "k": k,
        "v": v,
        "decay": decay * np.linspace(0.5, 1.0, channels),
        "bonus": np.full(channels, bonus) + 0.1 * rng.normal(size=channels),
        "receptance": receptance,
        "g": g,
    }
    return {name: x.astype(np.float32) for name, x in values.items()}
