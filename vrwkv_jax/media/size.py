"""At which size a clip is edited where none, or one of its sides alone, is given: in the proportions of the source."""

import math

UNIT = 8
"""Pixels: the VAE's downscaling factor."""
AREA = 512 * 512
"""Pixels of a frame: what Stable Diffusion 1.5 was trained on."""
FROM_SOURCE = 0
"""As a width or a height: what the source's proportions make it."""


def settled(width: int, height: int, proportion: float) -> tuple[int, int]:
    """Width and height, each a multiple of 8, with those that are ``FROM_SOURCE`` chosen.

    ``proportion`` is the source's width over its height. Of both, the largest are chosen that have up to 512 x 512
    pixels in all and crop at most 1 % of the source, or those that crop least; of one, what is nearest.
    """
    if width and height:
        return width, height
    if width:
        return width, _nearest(width / proportion)
    if height:
        return _nearest(height * proportion), height
    ideal = math.sqrt(AREA * proportion)
    least = max(UNIT, int(0.9 * ideal) // UNIT * UNIT)
    sizes = [
        (wide, high)
        for wide in range(least, int(ideal * 1.1) + UNIT, UNIT)
        for high in {_nearest(wide / proportion - UNIT / 2), _nearest(wide / proportion + UNIT / 2)}
        if wide * high <= AREA
    ]
    if not sizes:  # a strip that is hardly higher, or wider, than a place of the latents
        return max(UNIT, min(_nearest(ideal), AREA // UNIT)), max(UNIT, min(_nearest(ideal / proportion), AREA // UNIT))
    return min(sizes, key=lambda size: (max(0.01, cropped(size[0], size[1], proportion)), -size[0] * size[1]))


def cropped(width: int, height: int, proportion: float) -> float:
    """The share of a source's picture that stands over when it covers ``width x height``."""
    ratio = width / height / proportion
    return 1 - min(ratio, 1 / ratio)


def _nearest(pixels: float) -> int:
    return max(UNIT, round(pixels / UNIT) * UNIT)
