"""What a clip is: which frames of a video, at which size. Checked before any file is opened."""

import math
import re
from types import SimpleNamespace
from typing import Any, Literal, get_args

from vrwkv_jax.system.checks import Rule, at_least, check_fields, multiple_of, one_of
from vrwkv_jax.system.errors import UserError

Fit = Literal["crop", "stretch"]
ALL = "all"  # frames, to the end
LEAST_FPS, MOST_FPS = 0.01, 1000  # of clips that are written
_SECONDS = re.compile(r"(\d+(?:\.\d*)?|\.\d+)s")


def seconds(value: int | str) -> float | None:
    """The time that a setting such as ``"1.5s"`` is; None of one that counts frames, and of ``"all"``."""
    found = _SECONDS.fullmatch(value) if isinstance(value, str) else None
    return float(found[1]) if found else None


def _frames_or_seconds(least: int, what: str, *others: str) -> Rule:
    """Frames, ``least`` of them or more; or seconds, more than 0 unless ``least`` is."""
    number = at_least(least)

    def rule(value: Any) -> str | None:
        if not isinstance(value, str):
            return number(value)
        time = seconds(value)
        if time is None:
            return None if value in others else f"is neither a number of frames nor a time: write {what}"
        return None if math.isfinite(time) and (time > 0 or not least) else "is not above 0s"

    return rule


RULES: dict[str, Rule] = {
    "frames": _frames_or_seconds(1, "24, 1.5s or all", ALL),
    "start": _frames_or_seconds(0, "12 or 1.5s"),
    "stride": _frames_or_seconds(1, "2 or 0.5s"),
    "width": multiple_of(8),  # the VAE's downscaling factor: any other size has no latent grid
    "height": multiple_of(8),
}


def check_clip(*, frames: int | str, start: int | str, stride: int | str, width: int, height: int, fit: str) -> None:
    """Check the description of a clip: ``frames`` frames from ``start`` on, ``stride`` apart, at a size in pixels.

    Each of the first three counts frames, as 12, or is a time, as ``"1.5s"``; ``frames`` may be ``"all"``, too. ``fit``
    is ``"crop"`` (keep the proportions, lose the borders) or ``"stretch"`` (keep the whole picture, lose the
    proportions). There is no letterbox: an editor would repaint the black bars.

    Raises:
        UserError: names every value that cannot be right, and which are.
    """
    values = SimpleNamespace(frames=frames, start=start, stride=stride, width=width, height=height, fit=fit)
    check_fields(values, **RULES, fit=one_of(*get_args(Fit)))


def check_fps(fps: int | float, what_to_do: str = f"use {LEAST_FPS} to {MOST_FPS} frames per second") -> None:
    """Raise ``UserError`` where no clip is written at ``fps``, with ``what_to_do``."""
    if not LEAST_FPS <= fps <= MOST_FPS:
        raise UserError(f"fps {fps:g} is not a frame rate that clips are written at: {what_to_do}")
