"""What a clip is: which frames of a video, at which size. Checked before any file is opened."""

from types import SimpleNamespace
from typing import Literal, get_args

from vrwkv_jax.system.checks import Rule, at_least, check_fields, multiple_of, one_of

Fit = Literal["crop", "stretch"]
LEAST_FPS, MOST_FPS = 0.01, 1000  # of clips that are written

RULES: dict[str, Rule] = {
    "frames": at_least(1),
    "start": at_least(0),
    "stride": at_least(1),
    "width": multiple_of(8),  # the VAE's downscaling factor: any other size has no latent grid
    "height": multiple_of(8),
}


def check_clip(*, frames: int, start: int, stride: int, width: int, height: int, fit: str) -> None:
    """Check the description of a clip: ``frames`` frames from ``start`` on, ``stride`` apart, at a size in pixels.

    ``fit`` is ``"crop"`` (keep the proportions, lose the borders) or ``"stretch"`` (keep the whole picture, lose the
    proportions). There is no letterbox: an editor would repaint the black bars.

    Raises:
        UserError: names every value that cannot be right, and which are.
    """
    values = SimpleNamespace(frames=frames, start=start, stride=stride, width=width, height=height, fit=fit)
    check_fields(values, **RULES, fit=one_of(*get_args(Fit)))
