"""Clips from video files and back, through PyAV (FFmpeg's libraries)."""

import warnings
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace

from vrwkv_jax.media.clip import LEAST_FPS, MOST_FPS, Fit, check_clip
from vrwkv_jax.media.colour import BT709, HLG, SCALER, to_bt709
from vrwkv_jax.media.files import replacing
from vrwkv_jax.media.fitting import fitted
from vrwkv_jax.media.opened import Frame, opened
from vrwkv_jax.media.stills import as_bytes
from vrwkv_jax.system.errors import UserError, printable
from vrwkv_jax.typing import UInt8

# For equal bytes from equal frames: x264's output depends on its number of threads, so that must not follow the
# machine's, and with its macroblock tree smooth pictures came out different from run to run, in one thread too.
X264 = {"crf": "16", "threads": "4", "x264-params": "mbtree=0"}


def read_video(
    path: str | Path,
    *,
    frames: int,
    start: int = 0,
    stride: int = 1,
    width: int,
    height: int,
    fit: Fit = "crop",
) -> UInt8[np.ndarray, "F H W 3"]:
    """Read frames ``start, start + stride, ...`` of a video (``frames`` of them), as RGB from 0 to 255.

    Any container and codec of FFmpeg will do (mp4, webm, mkv, avi), and animations and pictures (GIF, WebP, AVIF, PNG,
    TIFF, JPEG). Frames are counted as they are shown, whatever the time between them, and look as in a player: turned
    and mirrored, with non-square pixels, of the film where there are previews and covers besides, interlaced ones made
    whole, wide colours as BT.709. A warning says where HDR is mapped to SDR, and where transparent places are shown, on
    white. Decoding stops at the last frame needed, and only the resized frames are kept.

    Args:
        width: of the result, in pixels; a multiple of 8, as is ``height``.
        fit: ``"crop"`` scales the picture, in proportion, until it covers the size and cuts what stands over, half on
            either side; ``"stretch"`` scales the whole picture to the size, out of proportion if need be.

    Raises:
        UserError: a value that ``check_clip`` refuses, a file that is not a readable video, or one that is too short.
    """
    check_clip(frames=frames, start=start, stride=stride, width=width, height=height, fit=fit)
    try:
        clip = np.empty((frames, height, width, 3), np.uint8)
    except (MemoryError, ValueError) as error:
        raise UserError(f"{frames} frames of {width}x{height} do not fit into memory: use fewer or smaller") from error

    found, told = 0, set[str]()
    with opened(path) as file:
        for index, frame in enumerate(file.frames):
            found = index + 1
            taken, between = divmod(index - start, stride)
            if taken < 0 or between:
                continue
            if frame.damaged:
                raise UserError(
                    f"frame {index} of {printable(path)} is damaged: choose other frames, or get the file again"
                )
            told |= _changes(frame)
            clip[taken] = _shown(frame, width, height, fit)
            if taken == frames - 1:
                break
        else:
            raise UserError(f"{printable(path)} {too_short(found, frames, start, stride)}")
    for change in sorted(told):
        warnings.warn(f"{printable(path)} {change}", stacklevel=2)
    return clip


def video_fps(path: str | Path) -> float:
    """The mean number of frames per second of a video.

    Raises:
        UserError: the file is not a readable video.
    """
    with opened(path) as file:
        return file.fps() or 25.0  # FFmpeg's own when a file has no clock


def length(path: str | Path, what: str = "video") -> int:
    """About how many frames a video has; of a few codecs some that are never shown count, too.

    Raises:
        UserError: the file is not a readable video.
    """
    with opened(path, what) as file:
        return file.length()


def proportion(path: str | Path) -> float:
    """The width of a video over its height, as it is shown.

    Raises:
        UserError: the file is not a readable video.
    """
    with opened(path) as file:
        for frame in file.frames:
            return frame.proportion
    raise UserError(f"{printable(path)} {too_short(0, 1, 0, 1)}")


def check_fps(fps: int | float, what_to_do: str = f"use {LEAST_FPS} to {MOST_FPS} frames per second") -> None:
    """Raise ``UserError`` where ``write_video`` would refuse ``fps``, with ``what_to_do``."""
    if not LEAST_FPS <= fps <= MOST_FPS:
        raise UserError(f"fps {fps:g} is not a frame rate that clips are written at: {what_to_do}")


def write_video(path: str | Path, frames: UInt8[np.ndarray, "F H W 3"], fps: int | float = 8) -> None:
    """Write RGB frames as an mp4 that browsers play: H.264, 4:2:0, BT.709, index first, visually lossless (CRF 16).

    4:2:0 needs even sizes: an odd width or height grows by one pixel, a copy of the last column or row. The file
    appears under its name only when complete, and equal frames make equal bytes (of the same version of PyAV).

    Raises:
        UserError: ``fps`` makes no sense, or the file cannot be written.
        ValueError: no frames.
    """
    check_fps(fps)
    if not len(frames):
        raise ValueError("a video needs at least one frame")
    height, width = frames.shape[1:3]
    # bitexact: without it the muxer writes its version into the file.
    muxer = {"movflags": "+faststart", "fflags": "+bitexact"}
    with replacing(path) as part, av.open(f"file:{part}", "w", format="mp4", options=muxer) as container:
        rate = Fraction(fps).limit_denominator(1001)  # 29.97 becomes 30000/1001
        stream = container.add_stream("libx264", rate=rate, options=X264)
        stream.width, stream.height, stream.pix_fmt = width + width % 2, height + height % 2, "yuv420p"
        coder = stream.codec_context
        coder.color_range = ColorRange.MPEG
        coder.colorspace = coder.color_primaries = coder.color_trc = BT709
        for picture in frames:
            even = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
            container.mux(stream.encode(_subsampled(even)))
        container.mux(stream.encode())


def _subsampled(picture: UInt8[np.ndarray, "H W 3"]) -> av.VideoFrame:
    """An RGB picture of even size as a 4:2:0 frame of BT.709.

    H.264 places a chroma sample on an even column, between two rows, unless told otherwise, and browsers assume it. The
    scaler would place it between the columns too: colours would come back shifted by half a pixel.
    """
    full = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(
        format="yuv444p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG, interpolation=SCALER
    )
    luma, *chroma = full.to_ndarray()
    planes = [luma]
    for plane in chroma:
        pairs = plane[::2].astype(np.uint16) + plane[1::2]
        before = np.pad(pairs, ((0, 0), (1, 0)), mode="edge")[:, :-1:2]
        planes.append(((before + 2 * pairs[:, ::2] + pairs[:, 1::2] + 4) // 8).astype(np.uint8))
    packed = np.concatenate([plane.reshape(-1) for plane in planes]).reshape(-1, picture.shape[1])
    return av.VideoFrame.from_ndarray(packed, format="yuv420p")


def _changes(frame: Frame) -> set[str]:
    """What is told of a frame that cannot be shown as it is."""
    changes = set()
    if frame.light is not None and frame.light.is_hdr:
        kind = "HLG" if frame.light.transfer == HLG else "PQ"
        changes.add(f"is HDR ({kind}): its light is mapped to SDR (BT.709), so that highlights lose contrast")
    if frame.pixels.shape[2:] == (4,) and frame.pixels[..., 3].min() < np.iinfo(frame.pixels.dtype).max:
        changes.add("is transparent in parts: they are shown on white")
    return changes


def _shown(frame: Frame, width: int, height: int, fit: Fit) -> UInt8[np.ndarray, "H W 3"]:
    """A frame on white, in BT.709, scaled."""
    pixels = frame.pixels
    if pixels.ndim == 2:
        pixels = np.repeat(as_bytes(pixels)[..., None], 3, axis=-1)
    if pixels.shape[-1] == 4:
        white = np.iinfo(pixels.dtype).max
        opacity = pixels[..., 3:].astype(np.float32) / white
        pixels = np.rint(white + (pixels[..., :3] - np.float32(white)) * opacity).astype(pixels.dtype)
    scaled = fitted(pixels, frame.pixel_aspect, width, height, fit)
    return scaled if frame.light is None else to_bt709(scaled / 65535, frame.light)


def too_short(found: int, frames: int, start: int, stride: int) -> str:
    """What is said of a video of ``found`` frames that does not hold the clip asked for, with what it would hold."""
    if found == 0:
        return "holds no frame that can be decoded: it may be empty or damaged"
    most = -(-(found - start) // stride)
    latest = found - 1 - (frames - 1) * stride
    widest = (found - 1 - start) // (frames - 1) if frames > 1 else 0
    ways = [f"at most {_count(most)}"] * (most > 0)
    ways += [f"a start of at most {latest}"] * (latest >= 0)
    ways += [f"a stride of at most {widest}"] * (widest > 0)
    ways = ways or [f"a longer video, or from the start at most {_count(-(-found // stride))}"]
    needed = start + (frames - 1) * stride + 1
    return (
        f"has {_count(found)}; start {start} with stride {stride} and {_count(frames)} needs {needed}: "
        f"use {' or '.join(ways)}"
    )


def _count(frames: int) -> str:
    return f"{frames} frame{'s' * (frames != 1)}"
