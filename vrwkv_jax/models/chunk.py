"""A clip of any length in chunks of frames: what mixers know of the frames before the chunk they see, and behind it.

A mixer looks at other frames by a recurrence over time, and at the frame before or the tokens before. So it is told
the state of the recurrence, from either side where it runs in both directions, and what it made of what comes last in
the chunk before. Mixers go by their places, as ``Control.place`` names them.
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from pallas_kernels.bi_wkv import State, nothing_like
from vrwkv_jax.parallel.frames import FirstFrame
from vrwkv_jax.typing import Array, Bool, Float, Int

MixerPast = Any
"""What one mixer hands on to the next chunk: a tree of arrays, and of states of Bi-WKV, of a type of its own. Before
the clip begins arrays are zero, and states those of no tokens."""


class MixerChunk(NamedTuple):
    """What one mixer is told beside the frames of a chunk."""

    frames: Int[Array, ""]
    """How many of them are the clip's. The others come last, fill up the chunk, and nothing reads them."""
    is_first: Bool[Array, ""]
    """Whether the clip begins here."""
    past: MixerPast
    """None: as if the clip began here, to find shapes and what lies behind a chunk."""
    future: State | None
    """The backward state of all that lies behind; None: nothing does, or the mixer is not told."""

    def previous_frame(
        self, x: Float[Array, "B F H W C"], last: Float[Array, "B 1 H W C"] | None, first: FirstFrame
    ) -> Float[Array, "B F H W C"]:
        """``parallel.frames.previous_frame``, with ``last`` before a chunk that is not the first."""
        before = x[:, :1] if first == "repeat" else jnp.zeros_like(x[:, :1])
        if last is not None:
            before = jnp.where(self.is_first, before, last)
        return jnp.concatenate([before, x[:, :-1]], axis=1)

    def only_counted(self, k: Float[Array, "B F H W C"]) -> Float[Array, "B F H W C"]:
        """Keys of a recurrence over frames that leave out those that fill up the chunk."""
        return jnp.where(self.counts(k)[..., None], k, -jnp.inf)

    def counts(self, x: Float[Array, "B F H W C"]) -> Bool[Array, "F H W"]:
        """Which tokens of ``x`` are the clip's."""
        of_frames = jnp.arange(x.shape[1]) < self.frames
        return jnp.broadcast_to(of_frames[:, None, None], x.shape[1:4])


class Past(NamedTuple):
    """What goes from a chunk to the next one: of each mixer, by its place; and whether there was no chunk yet."""

    is_first: Bool[Array, ""]
    mixers: dict[str, MixerPast]


def nothing_before(past: MixerPast) -> MixerPast:
    """What mixers are told at the first chunk, in the shapes of ``past``."""

    def nothing(leaf: Any) -> Any:
        if isinstance(leaf, State):
            return nothing_like(leaf)
        return jnp.zeros(leaf.shape, leaf.dtype)

    return jax.tree.map(nothing, past, is_leaf=lambda leaf: isinstance(leaf, State))


@dataclass(frozen=True)
class Chunk:
    """A chunk of a clip on its way through the U-Net to the mixers. Made and used within one trace."""

    frames: Int[Array, ""]
    """How many frames of it are the clip's."""
    past: Past | None
    """None: as if the clip began here."""
    future: dict[str, State] | None
    """Of each mixer, by its place, the backward state of all that lies behind; None: nothing does, or they are not
    told."""
    left: dict[str, MixerPast] = field(default_factory=dict)
    """What each mixer so far hands on to the next chunk."""

    def of(self, place: str) -> MixerChunk:
        """What the mixer at ``place`` is told."""
        is_first = jnp.asarray(True) if self.past is None else self.past.is_first
        past = None if self.past is None else self.past.mixers[place]
        return MixerChunk(self.frames, is_first, past, None if self.future is None else self.future[place])
