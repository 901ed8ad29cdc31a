"""Shapes and inputs that the tests and the benchmark share."""

import numpy as np

ARGUMENTS = ("x", "dt", "A", "B", "C", "D")

#       B  T     E    N
SHAPES = (
    (1, 1, 3, 1),
    (2, 2, 100, 4),
    (2, 63, 3, 16),
    (1, 64, 100, 4),
    (1, 1000, 100, 16),
)


def inputs(
    shape: tuple[int, int, int, int],
    *,
    dt: tuple[float, float] = (1e-3, 1e-1),
    A: tuple[float, float] = (1.0, 16.0),
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """float32 arguments of ``selective_scan`` and the gradient ``g`` [B, T, E] of a loss with respect to its result.

    Args:
        shape: B, T, E, N.
        dt: lies between these, evenly in its logarithm; by default as in a Mamba that begins to learn.
        A: -A does; by default as there.
    """
    rng = np.random.default_rng(seed)
    B, T, E, N = shape

    def between(ends: tuple[float, float], size: tuple[int, ...]) -> np.ndarray:
        return np.exp(rng.uniform(np.log(ends[0]), np.log(ends[1]), size=size))

    values = {
        "x": rng.normal(size=(B, T, E)),
        "dt": between(dt, (B, T, E)),
        "A": -between(A, (E, N)),
        "B": rng.normal(size=(B, T, N)),
        "C": rng.normal(size=(B, T, N)),
        "D": rng.normal(size=E),
        "g": rng.normal(size=(B, T, E)),
    }
    return {name: x.astype(np.float32) for name, x in values.items()}
