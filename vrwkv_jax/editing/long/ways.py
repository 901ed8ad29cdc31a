"""What the two ways to edit a clip of any length have in common: each inverts it and samples it back, chunk by chunk,
from store to store.

``streaming.way.Streamed``: the tuned video U-Net, whose mixers carry their states from chunk to chunk.
``adaflow.way.AdaFlow``: the image U-Net, with keyframes that all others take their self-attention from.
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol, runtime_checkable

from vrwkv_jax.diffusion.samplers.registry import SamplerName
from vrwkv_jax.editing.editor import Editor
from vrwkv_jax.editing.long.latents import KeptStore, Latents
from vrwkv_jax.editing.sampling import FromSource, asks_of
from vrwkv_jax.editing.settings import Sampling
from vrwkv_jax.typing import Array, Float

AfterChunk = Callable[[int, int], object]
"""Called with (step, chunk) when what they gave is written."""


class LongInversion(NamedTuple):
    """How a clip is inverted: as ``Editor.invert`` is told."""

    prompt: str
    num_inference_steps: int
    iterations: int
    sampler: SamplerName


class LongEdit(NamedTuple):
    """How an inverted clip is sampled. ``text`` are the rows of each step, or (S = 1) of all."""

    num_inference_steps: int
    text: Float[Array, "S B L E"]
    source: FromSource | None
    sampling: Sampling
    seed: int

    @property
    def sampled(self) -> int:
        """How many steps there are."""
        return self.sampling.steps_of(self.num_inference_steps)

    @property
    def rows_asked(self) -> int:
        """For how many rows all of them together ask the model."""
        has = {"has_source": self.source is not None, "has_negative": self.sampling.is_guided}
        return sum(len(asks.rows(**has)) for asks in asks_of(self.sampling, self.source, self.sampled))


class LongSampled(NamedTuple):
    """The step of the store that is the edited clip, and the row-calls of all of them (``runs.row_calls``)."""

    step: int
    row_calls: float


@runtime_checkable
class Way(Protocol):
    """One of the ways, for a clip of so many frames. What it keeps beside the latents lies in its directory."""

    @property
    def editor(self) -> Editor: ...

    @property
    def size(self) -> tuple[int, int, int]:
        """``h w C`` of the latents of a frame."""

    def invert(self, trajectory: KeptStore, settings: LongInversion, after_chunk: AfterChunk) -> float:
        """Fills ``trajectory``, which has the clip's latents at step 0; goes on where an earlier call was ended.

        Returns the row-calls of all steps, those of the earlier call included.

        Raises:
            UserError: latents are not all finite.
        """

    def sample(self, trajectory: Latents, edited: KeptStore, edit: LongEdit, after_chunk: AfterChunk) -> LongSampled:
        """Samples into ``edited``, likewise."""

    def disk_bytes(self, rows: int) -> int:
        """How much it takes on disk beside the latents, for edits of so many ``rows`` at most."""


def steps_done(store: KeptStore) -> int:
    """How many steps are there as a whole, without that at the beginning."""
    return max(0, store.next_step() - 1)
