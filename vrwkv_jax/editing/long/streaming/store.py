"""Where the latents of a clip are kept while it is streamed: by step and chunk."""

from typing import Protocol, runtime_checkable

import numpy as np

from vrwkv_jax.typing import Float


@runtime_checkable
class Store(Protocol):
    """Latents of every chunk after every step, float32, on the host. What was written can be read again."""

    def read(self, step: int, chunk: int) -> Float[np.ndarray, "..."]: ...

    def write(self, step: int, chunk: int, latents: Float[np.ndarray, "..."]) -> None: ...


class InMemory:
    """A ``Store`` of clips that are short enough."""

    def __init__(self) -> None:
        self._kept: dict[tuple[int, int], np.ndarray] = {}

    def read(self, step: int, chunk: int) -> Float[np.ndarray, "..."]:
        return self._kept[step, chunk]

    def write(self, step: int, chunk: int, latents: Float[np.ndarray, "..."]) -> None:
        self._kept[step, chunk] = latents
