"""The devices as a grid with three axes, by name:

- ``data``: clips, or draws of noise of one clip, side by side;
- ``fsdp``: parameters and optimizer state in pieces, which are put together where they are needed;
- ``frame``: the frames of a clip, a run of neighbours on each device.
"""

import math

import jax
from jax.sharding import AxisType, Mesh

from vrwkv_jax.system.errors import UserError, setting

AXES = DATA, FSDP, FRAME = ("data", "fsdp", "frame")


def parse_mesh(text: str) -> dict[str, int]:
    """``"data=1,fsdp=2,frame=4"`` as a size for each axis; an axis that is not named has one device.

    Raises:
        ValueError: says what the text is instead.
    """
    sizes = dict.fromkeys(AXES, 1)
    named = [part.partition("=")[::2] for part in text.replace(" ", "").split(",")]
    for axis, size in named:
        if axis not in AXES:
            raise ValueError(f"has no axis {axis!r}: use {', '.join(AXES)}, such as data=1,fsdp=2,frame=4")
        if not size.isdecimal() or int(size) < 1:
            raise ValueError(f"gives {axis} {size or 'no number of devices'!r}, expected a whole number from 1 on")
        sizes[axis] = int(size)
    if len({axis for axis, _ in named}) < len(named):
        raise ValueError("names an axis twice")
    return sizes


def make_mesh(text: str | None, frames: int, batch_size: int = 1) -> Mesh | None:
    """The mesh of ``mesh_sizes``; None: a single device.

    Raises:
        UserError: as ``mesh_sizes``.
    """
    sizes = mesh_sizes(text, frames, batch_size)
    count = math.prod(sizes.values())
    if count == 1:
        return None
    devices = jax.devices()[:count]
    return jax.make_mesh(tuple(sizes.values()), AXES, axis_types=(AxisType.Auto,) * len(AXES), devices=devices)


def mesh_sizes(text: str | None, frames: int, batch_size: int) -> dict[str, int]:
    """The sizes that ``text`` gives (see ``parse_mesh``), or those that suit the devices that there are.

    By default as many devices as possible share the frames, then as many of the others as possible the batch, and the
    rest the parameters.

    Raises:
        UserError: there are not as many devices, or they can't share the frames or the batch evenly.
    """
    count = jax.device_count()
    if text is None:
        frame = math.gcd(frames, count)
        data = math.gcd(batch_size, count // frame)
        return {DATA: data, FSDP: count // frame // data, FRAME: frame}
    sizes = parse_mesh(text)
    wanted = math.prod(sizes.values())
    if wanted > count or (jax.process_count() > 1 and wanted != count):
        raise UserError(
            f"{setting('mesh')} {text} is for {wanted} devices, and {count} {'is' if count == 1 else 'are'} here "
            f"({jax.devices()[0].device_kind}): choose data x fsdp x frame to be {count}"
        )
    for axis, number, name in ((FRAME, frames, "frames"), (DATA, batch_size, "batch_size")):
        if number % sizes[axis]:
            raise UserError(
                f"{setting(name)} {number} can't be shared evenly by {sizes[axis]} devices: choose a multiple of "
                f"{sizes[axis]}, or another {axis} for {setting('mesh')}"
            )
    return sizes
