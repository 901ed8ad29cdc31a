"""What is carried between the chunks of a clip, and which video models can do that.

| mode       | before the chunk | behind the chunk                                  | the clip at once?           |
|------------|------------------|---------------------------------------------------|-----------------------------|
| exact      | carried          | all of it: a sweep back over the clip comes first | to rounding                 |
| look_ahead | carried          | the next ``look_ahead`` frames                    | error ~ exp(-w n)           |
| forward    | carried          | nothing                                           | if no mixer looks behind    |
| reset      | nothing          | nothing                                           | no: each by itself          |
| causal     | carried          | nothing, and the model was tuned so               | to rounding                 |
"""

import warnings
from dataclasses import dataclass, replace
from typing import Literal

from vrwkv_jax.editing.denoiser import Denoiser
from vrwkv_jax.models.mixers.registry import MIXERS
from vrwkv_jax.models.video_config import VideoConfig
from vrwkv_jax.system.checks import Rule, at_least, check_fields
from vrwkv_jax.system.errors import UserError, setting

Mode = Literal["exact", "look_ahead", "forward", "reset", "causal"]


@dataclass(frozen=True)
class Streaming:
    """How a clip is taken through the model in chunks.

    Raises:
        FieldErrors: a value is not possible.
    """

    stream_mode: Mode = "exact"
    """What chunks hand on: states in both directions (exact); onwards, and back from the next frames (look_ahead), or
    not at all (forward); nothing (reset); or those of mixers that were tuned to look at nothing behind (causal)."""
    chunk_frames: int = 16
    """Frames that the model sees at once."""
    look_ahead: int = 16
    """Frames behind a chunk that mode look_ahead takes into account."""

    def __post_init__(self) -> None:
        check_fields(self, **self._rules())

    @property
    def looks_behind(self) -> bool:
        """Whether mixers are told what lies behind a chunk."""
        return self.stream_mode in ("exact", "look_ahead")

    def _rules(self) -> dict[str, Rule]:
        return {"chunk_frames": at_least(1), "look_ahead": at_least(1)}


def check_mode(video: VideoConfig, mode: Mode) -> None:
    """Raises UserError where a model of ``video`` can't be streamed in ``mode``; the message says in which it can."""
    chosen, mixer = video.chosen, video.mixer
    asked, reset = (setting("stream_mode", name) for name in (mode, "reset"))
    for name in ("attention", "groupnorm_scope"):
        if (value := getattr(chosen, name)) != "frame":
            raise UserError(
                f"{setting(name)} is {value}, by which frames see others outside of the mixers, and that can't be "
                "carried from chunk to chunk: tune with frame"
            )
    if mixer == "none":
        if mode == "reset":
            return
        raise UserError(f"{setting('mixer')} is none, so {asked} has nothing to carry: use {reset}")
    carries = MIXERS[mixer].carries(getattr(video, mixer))
    if carries == "nothing":
        raise UserError(
            f"{setting('mixer')} is {mixer}, in which frames see each other at once, with no state to carry "
            "from chunk to chunk: tune vrwkv"
        )
    if carries == "onwards":
        if mode in ("forward", "reset"):
            return
        raise UserError(
            f"{setting('mixer')} is {mixer}, whose states are carried onwards alone: instead of {asked} use "
            f"{setting('stream_mode', 'forward')}, or {reset}"
        )
    causal = mixer == "vrwkv" and video.vrwkv.causal
    if mode == "causal" and not causal:
        raise UserError(f"{asked} is for a model that was tuned with causal; use another, or tune such a model")
    if mode in ("exact", "look_ahead", "forward") and causal:
        raise UserError(
            f"the model is causal, so {asked} has nothing to look at: use {setting('stream_mode', 'causal')}, which is "
            "exact"
        )
    if mode in ("exact", "look_ahead") and "transformer" in chosen.placement:
        raise UserError(
            f"{setting('placement')} is {' '.join(chosen.placement)}: mixers in the transformers see what others have "
            f"mixed, so the states that {asked} needs can't be had in one sweep back: use "
            f"{setting('stream_mode', 'forward')}, or {reset}"
        )


def fixed_decay(video: VideoConfig, frames: int) -> VideoConfig:
    """The same mixers with a decay per frame that does not depend on the clip's length: that of a clip of ``frames``.

    A model that was tuned on so many has the same parameters, and gives the same on them.
    """
    if video.vrwkv.decay_norm != "length" or video.vrwkv.decay_frames != "clip":
        return video
    return replace(video, vrwkv=replace(video.vrwkv, decay_frames=frames))


def with_fixed_decay(denoiser: Denoiser, video: VideoConfig, frames: int) -> Denoiser:
    """The model of ``fixed_decay``, of one of ``video`` that was tuned on ``frames``; warns where it is another."""
    fixed = fixed_decay(video, frames)
    if video.mixer != "vrwkv" or fixed == video:
        return denoiser
    warnings.warn(
        f"the model was tuned with a decay that depends on the number of frames, which is now that of the {frames} it "
        f"was tuned on; for long clips, tune with {setting('decay_frames', frames)}",
        stacklevel=2,
    )
    return denoiser.with_recurrences(decay_frames=fixed.vrwkv.decay_frames)
