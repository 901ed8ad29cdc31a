"""The size at which a run edits its clip, and what of the source that leaves."""

from dataclasses import replace

from vrwkv_jax.config import ClipConfig
from vrwkv_jax.media.size import cropped, settled
from vrwkv_jax.media.video import proportion
from vrwkv_jax.system.errors import printable


def sized(clip: ClipConfig) -> ClipConfig:
    """``clip`` with the sides that the source is to say. The clip that the package renders is square.

    Raises:
        UserError: a side is missing and the source is not a readable video.
    """
    if clip.width and clip.height:
        return clip
    width, height = settled(clip.width, clip.height, 1.0 if clip.video is None else proportion(clip.video))
    return replace(clip, width=width, height=height)


def in_words(clip: ClipConfig) -> str:
    """One line about a clip that is ``sized`` and has a source: its size, and what is cut off or distorted.

    Raises:
        UserError: the source is not a readable video.
    """
    assert clip.video is not None
    source = proportion(clip.video)
    share = cropped(clip.width, clip.height, source)
    sides = "left and right" if clip.width / clip.height < source else "top and bottom"
    line = f"{printable(clip.video)} is edited at {clip.width} x {clip.height}"
    if share < 0.005:
        return f"{line}, whole"
    if clip.fit == "stretch":
        return f"{line}, stretched out of proportion by {1 / (1 - share) - 1:.0%}"
    return f"{line}; {share:.0%} of the picture is cut off, at {sides}"
