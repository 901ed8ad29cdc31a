"""Where the latents of a clip are kept while it is edited: by step and chunk."""

from typing import Protocol, runtime_checkable

import numpy as np

from vrwkv_jax.typing import Float


@runtime_checkable
class Latents(Protocol):
    """Latents of every chunk after every step, ``f h w C``, float32, on the host."""

    def read(self, step: int, chunk: int) -> Float[np.ndarray, "..."]: ...


@runtime_checkable
class Store(Latents, Protocol):
    """Latents to which others are added. What was written can be read again."""

    def write(self, step: int, chunk: int, latents: Float[np.ndarray, "..."]) -> object: ...


@runtime_checkable
class KeptStore(Store, Protocol):
    """One that knows how far it has come, for work that was ended to go on."""

    def missing(self, step: int) -> list[int]:
        """The chunks of a step that are not written, in their order."""

    def next_step(self) -> int:
        """The step to go on with: the one before is whole, unless this is step 0."""


class InMemory:
    """A ``Store`` of clips that are short enough."""

    def __init__(self) -> None:
        self._kept: dict[tuple[int, int], np.ndarray] = {}

    def read(self, step: int, chunk: int) -> Float[np.ndarray, "..."]:
        return self._kept[step, chunk]

    def write(self, step: int, chunk: int, latents: Float[np.ndarray, "..."]) -> None:
        self._kept[step, chunk] = latents


class Blank:
    """A ``KeptStore`` that keeps nothing, for who rehearses (``system.compiling``): every chunk has the same ``shape``,
    and one of them is to be made."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._ones = np.ones(shape, np.float32)

    def read(self, step: int, chunk: int) -> Float[np.ndarray, "..."]:
        return self._ones

    def write(self, step: int, chunk: int, latents: Float[np.ndarray, "..."]) -> None:
        pass

    def missing(self, step: int) -> list[int]:
        return [0]

    def next_step(self) -> int:
        return 0


def filled(frames: np.ndarray, length: int, axis: int = 0) -> np.ndarray:
    """``length`` frames along ``axis``: the last one stands for those that are missing, for every chunk to have one
    program."""
    missing = length - frames.shape[axis]
    last = np.take(frames, [-1], axis)
    return np.concatenate([frames, *[last] * missing], axis) if missing else frames
