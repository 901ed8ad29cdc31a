"""Which of the ways to edit a clip of any length, and in which parts."""

from dataclasses import dataclass
from typing import Annotated, Literal

from tyro.conf import arg

from vrwkv_jax.editing.long.streaming.modes import Streaming
from vrwkv_jax.system.checks import Rule, at_least, default_shown


@dataclass(frozen=True)
class LongConfig(Streaming):
    """Clips of any length, which are tuned on, inverted and edited in parts."""

    long: Annotated[
        Literal["stream", "adaflow"] | None, arg(metavar="{stream,adaflow}", help_behavior_hint=default_shown)
    ] = None
    """Edit a clip of any length, chunk by chunk: with mixers that are tuned on parts of it and hand on what they have
    seen (stream), or with the untuned image model and keyframes (adaflow)."""
    tuned_frames: int = 16
    """Frames in a row, drawn at random, that a step of tuning sees."""

    def _rules(self) -> dict[str, Rule]:
        return super()._rules() | {"tuned_frames": at_least(1)}
