"""Pictures and animations that Pillow reads, known by what they hold, whatever their names."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from vrwkv_jax.system.errors import UserError, printable

LOSSLESS = ("PNG", "GIF", "TIFF", "BMP", "PPM")
LOSSY = ("JPEG", "MPO", "WEBP", "AVIF", "JPEG2000")
HEIF = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
MOST_PIXELS = 2**28  # of one picture: 16384x16384


@contextmanager
def opened_picture(path: str | Path, name: str) -> Iterator[Image.Image | None]:
    """The picture at ``path``, called ``name`` in messages, or None where it isn't one.

    Raises:
        UserError: it can't be read, here or in the block.
    """
    picture = _recognised(path, name)
    if picture is None:
        yield None
        return
    with picture, _as_user_errors(name):
        if picture.width * picture.height > MOST_PIXELS:
            raise UserError(
                f"{name} is too large ({picture.width}x{picture.height}): make it at most 16384x16384 first"
            )
        yield picture


def _recognised(path: str | Path, name: str) -> Image.Image | None:
    with open(path, "rb") as file:
        head = file.read(12)
    Image.init()
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None  # MOST_PIXELS is checked instead
    try:
        with _as_user_errors(name):
            return Image.open(path, formats=[name for name in (*LOSSLESS, *LOSSY) if name in Image.OPEN])
    except UnidentifiedImageError:
        if head[4:8] == b"ftyp" and head[8:] in HEIF:  # of which FFmpeg would give a tile
            raise UserError(f"{name} is a HEIC picture, which is not supported: save it as PNG") from None
        return None
    finally:
        Image.MAX_IMAGE_PIXELS = limit


@contextmanager
def _as_user_errors(name: str) -> Iterator[None]:
    try:
        yield
    except (UnidentifiedImageError, UserError):
        raise
    except (OSError, SyntaxError, EOFError, ValueError) as error:  # ValueError: of a TIFF, before Pillow 13
        reason = printable(" ".join(str(error).split()) or type(error).__name__)
        raise UserError(f"{name} cannot be read as a picture ({reason}): it may be damaged or cut off") from error


def count(picture: Image.Image) -> int:
    """How many frames or pages it has.

    Not counted is what a camera's MPO holds besides its picture, and what a TIFF does if it is of several sizes.
    """
    frames = getattr(picture, "n_frames", 1)
    if picture.format == "MPO" or (picture.format == "TIFF" and frames > 1 and len(set(_sizes(picture))) > 1):
        return 1
    return frames


def _sizes(picture: Image.Image) -> Iterator[tuple[int, int]]:
    for index in range(getattr(picture, "n_frames", 1)):
        picture.seek(index)
        yield picture.size


def pictures(picture: Image.Image) -> Iterator[np.ndarray]:
    """Each frame as it is shown: grey numbers ``H W`` as they stand in the file, or RGB, or RGBA, of 8 bits."""
    for index in range(count(picture)):
        picture.seek(index)
        yield _numbers(ImageOps.exif_transpose(picture))


def fps(picture: Image.Image) -> float | None:
    """The mean number of frames per second, if it has any."""
    if count(picture) == 1:
        return None
    seconds = []
    for index in range(count(picture)):
        picture.seek(index)
        picture.load()  # only then does every format say it
        seconds.append(shown_for(picture))
    if not any(seconds):
        return None
    return len(seconds) / sum(time or 0.1 for time in seconds)


def shown_for(picture: Image.Image) -> float:
    """The seconds for which the frame that was loaded is shown: less than 0.02 mean 0.1, as to browsers; 0: unknown."""
    milliseconds: float = picture.info.get("duration", 0)
    return 0.1 if 0 < milliseconds < 20 else milliseconds / 1000


def shown_size(picture: Image.Image) -> tuple[int, int]:
    """Width and height as it is shown, by what stands before its pixels."""
    turned = "exif" in picture.info and picture.getexif().get(0x0112, 1) >= 5
    return (picture.height, picture.width) if turned else picture.size


def full_scale(numbers: np.ndarray) -> float:
    """What stands for white: the most that 8 or 16 bits hold; else 1 (of floats), 255 or 65535, whichever is enough."""
    if numbers.dtype in (np.uint8, np.uint16):
        return float(np.iinfo(numbers.dtype).max)
    most = float(numbers.max())
    usual = (1.0, 255.0, 65535.0) if numbers.dtype.kind == "f" else (255.0, 65535.0)
    return next((white for white in usual if most <= white), most)


def as_bytes(numbers: np.ndarray) -> np.ndarray:
    """Grey numbers as levels from 0 to 255."""
    if numbers.dtype == np.uint8:
        return numbers
    return np.rint(np.clip(numbers / full_scale(numbers), 0, 1) * 255).astype(np.uint8)


def _numbers(picture: Image.Image) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of palettes whose transparency stands in two places
        if picture.has_transparency_data:
            return np.asarray(picture.convert("RGBA"))
    if picture.mode == "1":
        return np.asarray(picture).astype(np.uint8) * 255
    if picture.mode == "L":
        return np.asarray(picture)
    if picture.mode == "F":
        numbers: np.ndarray = np.nan_to_num(np.asarray(picture))
        return numbers
    if picture.mode.startswith("I"):
        numbers = np.asarray(picture)
        return numbers.astype(np.uint16) if numbers.dtype.itemsize == 2 else np.maximum(numbers, 0)
    if picture.mode == "P":
        indices, colours = np.asarray(picture), np.asarray(picture.convert("RGB"))
        # A palette that shows all alike is none; what was meant are the numbers.
        return indices if np.ptp(indices) and not np.ptp(colours, axis=(0, 1)).any() else colours
    return np.asarray(picture.convert("RGB"))
