"""Clips from video files and back, through PyAV (FFmpeg's libraries)."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.container import InputContainer
from av.stream import Disposition
from av.video.reformatter import ColorRange, Colorspace
from av.video.stream import VideoStream
from PIL import Image

from vrwkv_jax.errors import UserError
from vrwkv_jax.media.clip import Fit, check_clip
from vrwkv_jax.media.files import replacing
from vrwkv_jax.typing import UInt8

BT709 = 1  # ITU-T H.273's code of BT.709, as matrix, primaries and transfer alike
# libswscale's flags, as numbers since older PyAV names them in part: bicubic, full chroma interpolation, accurate
# rounding. Bicubic alone darkens a picture by one level of 255 each time that it is read.
SCALER = 0x4 | 0x2000 | 0x40000
# Metadata that is not UTF-8 must not stop a video; PyAV 19 made that the only way and took the argument away.
LENIENT: dict[str, Any] = {} if int(av.__version__.split(".")[0]) >= 19 else {"metadata_errors": "ignore"}
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

    Frames are counted as they are shown, whatever the time between them. Any container and codec of FFmpeg will do
    (mp4, webm, mkv, avi, gif); rotation and non-square pixels are honoured. Decoding stops at the last frame needed,
    and only the resized frames are kept.

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

    found = 0
    with _open(path) as (container, stream):
        pixel_aspect = float(stream.sample_aspect_ratio or 1)
        for index, frame in enumerate(container.decode(stream)):
            found = index + 1
            taken, between = divmod(index - start, stride)
            if taken < 0 or between:
                continue
            if frame.is_corrupt:
                raise UserError(f"frame {index} of {path} is damaged: choose other frames, or get the file again")
            clip[taken] = _resize(*_upright_rgb(frame, pixel_aspect), width, height, fit)
            if taken == frames - 1:
                return clip
    raise UserError(_too_short(path, found, frames, start, stride))


def video_fps(path: str | Path) -> float:
    """The mean number of frames per second of a video.

    Raises:
        UserError: the file is not a readable video.
    """
    with _open(path) as (_, stream):
        return float(stream.average_rate or stream.guessed_rate or 25)  # 25: FFmpeg's own when a file has no clock


def write_video(path: str | Path, frames: UInt8[np.ndarray, "F H W 3"], fps: int | float = 8) -> None:
    """Write RGB frames as an mp4 that browsers play: H.264, 4:2:0, BT.709, index first, visually lossless (CRF 16).

    4:2:0 needs even sizes: an odd width or height grows by one pixel, a copy of the last column or row. The file
    appears under its name only when complete, and equal frames make equal bytes (of the same version of PyAV).

    Raises:
        UserError: ``fps`` makes no sense, or the file cannot be written.
        ValueError: no frames.
    """
    if not 0.01 <= fps <= 1000:
        raise UserError(f"fps {fps} is not a frame rate: use 0.01 to 1000 frames per second")
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


@contextmanager
def _open(path: str | Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open a file and find its video; FFmpeg's errors, here and in the block, become a UserError."""
    if os.path.isdir(path):
        raise UserError(f"{path} is a folder: give the name of a video file")
    if not os.path.isfile(path):
        raise UserError(f"{path} is not there: check the name of the video file")
    try:
        # "file:", for FFmpeg takes what precedes a colon in a name for a protocol.
        with av.open(f"file:{path}", **LENIENT) as container:
            # Songs carry their cover as a video of one picture.
            videos = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
            if not videos:
                raise UserError(f"{path} holds no video, only {_kinds(container)}: give a video file")
            videos[0].thread_type = "AUTO"
            yield container, videos[0]
    except av.FFmpegError as error:
        reason = (error.strerror or type(error).__name__).lower()
        raise UserError(
            f"{path} cannot be read as a video ({reason}): it may be damaged, cut off or another kind of file"
        ) from error


def _kinds(container: InputContainer) -> str:
    return " and ".join(sorted({stream.type for stream in container.streams})) or "nothing that can be read"


def _upright_rgb(frame: av.VideoFrame, pixel_aspect: float) -> tuple[UInt8[np.ndarray, "H W 3"], float]:
    """A decoded frame as RGB, turned as it is shown, and the width of its pixels over their height."""
    picture = frame.to_ndarray(
        format="rgb24",
        src_color_range=frame.color_range,
        dst_color_range=ColorRange.JPEG,
        interpolation=SCALER,
    )
    quarter_turns = round(frame.rotation / 90)  # counter-clockwise, in FFmpeg as in NumPy
    return np.rot90(picture, quarter_turns), 1 / pixel_aspect if quarter_turns % 2 else pixel_aspect


def _resize(
    picture: UInt8[np.ndarray, "h w 3"], pixel_aspect: float, width: int, height: int, fit: Fit
) -> UInt8[np.ndarray, "H W 3"]:
    """Scale a picture to ``width x height`` with a Lanczos filter that widens when shrinking (no aliasing)."""
    full_height, full_width = picture.shape[:2]
    kept_width, kept_height = float(full_width), float(full_height)
    if fit == "crop":
        proportion = width / height / pixel_aspect
        kept_width = min(kept_width, full_height * proportion)
        kept_height = min(kept_height, full_width / proportion)
    left, top = (full_width - kept_width) / 2, (full_height - kept_height) / 2
    if (kept_width, kept_height) == (width, height):  # nothing to scale: half a pixel would only blur
        left, top = left // 1, top // 1
    box = (left, top, left + kept_width, top + kept_height)
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.LANCZOS, box=box))


def _too_short(path: str | Path, found: int, frames: int, start: int, stride: int) -> str:
    """The sentence for a video of ``found`` frames that does not hold the clip asked for, with what it would hold."""
    if found == 0:
        return f"{path} holds no frame that can be decoded: it may be empty or damaged"
    most = -(-(found - start) // stride)
    latest = found - 1 - (frames - 1) * stride
    widest = (found - 1 - start) // (frames - 1) if frames > 1 else 0
    ways = [f"at most {_count(most)}"] * (most > 0)
    ways += [f"a start of at most {latest}"] * (latest >= 0)
    ways += [f"a stride of at most {widest}"] * (widest > 0)
    ways = ways or [f"a longer video, or from the start at most {_count(-(-found // stride))}"]
    needed = start + (frames - 1) * stride + 1
    return (
        f"{path} has {_count(found)}; start {start} with stride {stride} and {_count(frames)} needs {needed}: "
        f"use {' or '.join(ways)}"
    )


def _count(frames: int) -> str:
    return f"{frames} frame{'s' * (frames != 1)}"
