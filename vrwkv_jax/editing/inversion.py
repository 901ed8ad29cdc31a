"""A clip as noise, and the way there."""

import tempfile
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

from vrwkv_jax.editing.kept_steps import reserve
from vrwkv_jax.system.errors import UserError
from vrwkv_jax.typing import Array, Float

LARGE = 2**30  # bytes of a trajectory from which on it is kept in a temporary file instead of in memory


@dataclass(frozen=True)
class Inversion:
    """The latents of a clip after every step of its inversion under ``prompt``.

    ``trajectory`` is float32 on the host, from the clip itself to the noise: ``num_inference_steps + 1`` entries, or
    fewer where a callback ended the inversion early. Any number of edits share it.
    """

    trajectory: Float[np.ndarray, "S F h w C"]
    prompt: str
    num_inference_steps: int

    @property
    def complete(self) -> bool:
        """Whether it has come to the noise."""
        return len(self.trajectory) == self.num_inference_steps + 1

    @property
    def source(self) -> Float[Array, "1 F h w C"]:
        """The clip's latents."""
        return jnp.asarray(self.trajectory[:1])

    @property
    def latents(self) -> Float[Array, "1 F h w C"]:
        """The noise, or how far it has come."""
        return jnp.asarray(self.trajectory[-1:])


def empty_trajectory(shape: tuple[int, ...]) -> Float[np.ndarray, "S F h w C"]:
    """Room for a trajectory: in memory, or mapped to a temporary file, which goes with the array, if it is large.

    Raises:
        UserError: there is no room for the file.
    """
    size = 4 * int(np.prod(shape))
    if size < LARGE:
        return np.empty(shape, np.float32)
    try:
        with tempfile.TemporaryFile() as file:  # the mapping keeps it
            reserve(file, size)
            return np.memmap(file, np.float32, "w+", shape=shape)
    except OSError as error:
        raise UserError(
            f"the inversion's {size / 1e9:.1f} GB can't be kept in {tempfile.gettempdir()} ({error.strerror}): make "
            "room there, or name another directory with the environment variable TMPDIR"
        ) from error
