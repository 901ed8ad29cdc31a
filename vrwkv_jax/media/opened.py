"""Pictures and clips, in files and folders, opened: their frames as they are shown, before they are scaled."""

import itertools
import math
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.container import InputContainer
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from PIL import Image

from vrwkv_jax.media import stills
from vrwkv_jax.media.colour import Light, light, rgb
from vrwkv_jax.media.folder import Folder
from vrwkv_jax.media.orientation import UPRIGHT, orientation, turned, turns_sides
from vrwkv_jax.system.errors import UserError, printable

# Metadata that is not UTF-8 must not stop a video; PyAV 19 made that the only way and took the argument away.
LENIENT: dict[str, Any] = {} if int(av.__version__.split(".")[0]) >= 19 else {"metadata_errors": "ignore"}
NOT_THE_FILM = Disposition.attached_pic | Disposition.timed_thumbnails
PATTERN = re.compile(r"[*?]|%\d*d")  # of names of numbered pictures
FPS = 25.0  # FFmpeg's own, where there is no clock
WITH_ALPHA = {"vp8": "libvpx", "vp9": "libvpx-vp9"}  # FFmpeg's own decoders of these leave it out


@dataclass(frozen=True)
class Frame:
    """A frame as it is shown, before it is scaled."""

    time: float
    """When it is shown, in seconds by the clock of the file, which need not start at 0: more than that of the frame
    before."""
    read: Callable[[], np.ndarray]
    """Gives its ``pixels``, while the file is open."""
    pixel_aspect: float = 1.0
    """The width of a pixel over its height."""
    light: Light | None = None
    damaged: bool = False

    @cached_property
    def pixels(self) -> np.ndarray:
        """Grey numbers ``H W`` of any kind (see ``stills``), RGB or RGBA: of 8 bits, or 16 in another ``light``."""
        return self.read()

    @property
    def proportion(self) -> float:
        """The width of the whole over its height."""
        height, width = self.pixels.shape[:2]
        return float(width * self.pixel_aspect / height)


@dataclass(frozen=True)
class Opened:
    frames: Iterator[Frame]
    fps: Callable[[], float | None]
    """The mean number of frames per second; None where the file has no clock."""
    length: Callable[[], int]
    """About how many frames there are, without decoding them; after which there are none to be had."""
    lossless: bool
    """Whether numbers are those that were meant, none of them the trace of a codec."""


@contextmanager
def opened(path: str | Path, what: str = "video") -> Iterator[Opened]:
    """Opens a picture, a clip or a folder of pictures; what goes wrong with it, here and in the block, becomes a
    ``UserError``.

    ``what`` it is to be stands in the messages: a video or a mask.
    """
    name = f"mask {printable(path)}" if what == "mask" else printable(path)
    _check_file(path, name, what)
    try:
        if os.path.isdir(path):
            yield _of_folder(Folder(path, name))
            return
        with stills.opened_picture(path, name) as picture:
            if picture is not None:
                yield _of_picture(picture)
                return
        with _opened_video(path, name, what) as (container, stream):
            yield Opened(
                _shown(container, stream, path),
                lambda: _fps(container, stream),
                lambda: len(_times(container, stream)),
                lossless=False,
            )
    except av.FFmpegError as error:
        reason = (error.strerror or type(error).__name__).lower()
        raise UserError(
            f"{name} cannot be read as a {what} ({reason}): it may be damaged, cut off or another kind of file"
        ) from error
    except PermissionError as error:
        raise UserError(f"{name} is not readable for you: change its permissions or give another file") from error
    except MemoryError as error:
        raise UserError(f"a frame of {name} does not fit into memory: make the {what} smaller first") from error


def _check_file(path: str | Path, name: str, what: str) -> None:
    """Raises UserError where there is neither a file nor a folder, with what is there instead or was meant."""
    if os.path.isfile(path) or os.path.isdir(path):
        return
    if PATTERN.search(os.path.basename(path)):
        raise UserError(f"{name} is a pattern of names: give the folder that holds the pictures, and nothing else")
    if os.path.exists(path):
        raise UserError(f"{name} is a pipe or a device: write the {what} to a file, and give its name")
    if "://" in str(path):
        raise UserError(f"{name} is an address: download the {what} first, and give the name of the file")
    raise UserError(f"{name} is not there: check the name of the {what} file")


def _of_folder(folder: Folder) -> Opened:
    frames = (Frame(index / FPS, partial(folder.read, file)) for index, file in enumerate(folder.files))
    return Opened(frames, lambda: None, lambda: len(folder.files), folder.lossless)


def _of_picture(picture: Image.Image) -> Opened:
    def shown() -> Iterator[Frame]:
        time = 0.0
        for numbers in stills.pictures(picture):
            yield Frame(time, partial(np.asarray, numbers))
            time += stills.shown_for(picture) or 1 / FPS

    frames = shown()
    lossless = picture.format in stills.LOSSLESS
    return Opened(frames, lambda: stills.fps(picture), lambda: stills.count(picture), lossless)


def _fps(container: InputContainer, stream: VideoStream) -> float | None:
    fps = stream.average_rate or _measured_fps(container, stream) or stream.guessed_rate
    return float(fps) if fps else None


def _measured_fps(container: InputContainer, stream: VideoStream) -> Fraction | None:
    """By the times of the frames: FFmpeg's guess for a screen's recording of variable rate is 1000, or as far off."""
    times = [time for time in _times(container, stream) if time is not None]
    if len(set(times)) < 2 or not stream.time_base:
        return None
    return (len(times) - 1) / ((max(times) - min(times)) * stream.time_base)


def _times(container: InputContainer, stream: VideoStream) -> list[int | None]:
    """When each frame is shown, in the order of decoding; None where the file does not say it."""
    times: list[int | None] = []
    with suppress(av.FFmpegError):  # where the file is cut off
        for packet in container.demux(stream):
            if packet.size:
                times.append(packet.pts)
    return times


@contextmanager
def _opened_video(path: str | Path, name: str, what: str) -> Iterator[tuple[InputContainer, VideoStream]]:
    # "file:", for FFmpeg takes what precedes a colon in a name for a protocol.
    with av.open(f"file:{path}", **LENIENT) as container:
        # Songs carry their cover as a video of one picture.
        videos = [s for s in container.streams.video if not s.disposition & NOT_THE_FILM]
        if not videos:
            kinds = " and ".join(sorted({stream.type for stream in container.streams})) or "nothing that can be read"
            raise UserError(f"{name} holds no video, only {kinds}: give a {what} file")
        stream = max(videos, key=_is_the_film)
        if stream.codec_context is None:
            raise UserError(
                f"{name} is coded in a way that FFmpeg does not know: convert it to H.264, or a picture to PNG, first"
            )
        stream.thread_type = "AUTO"
        yield container, stream


def _is_the_film(stream: VideoStream) -> tuple[bool, bool, int, float]:
    """As players choose among several: what is marked as default, then the largest, then the longest."""
    if stream.codec_context is None:
        return False, False, 0, 0.0
    default = bool(stream.disposition & Disposition.default)
    length = float(stream.duration * stream.time_base) if stream.duration and stream.time_base else 0.0
    return True, default, stream.codec_context.width * stream.codec_context.height, length


def _shown(container: InputContainer, stream: VideoStream, path: str | Path) -> Iterator[Frame]:
    pixel_aspect = float(stream.sample_aspect_ratio or 1)
    usual = 1 / float(stream.average_rate or stream.guessed_rate or FPS)
    time, rotation, turn = -math.inf, None, UPRIGHT
    for frame in _whole_pictures(_decoded(container, stream), stream):
        if frame.rotation != rotation:  # to look closer makes a frame, and its pixels, refer to themselves: they stay
            rotation, turn = frame.rotation, orientation(frame)
        scale = frame.time_base or stream.time_base  # the last ones have none
        stamp = None if frame.pts is None or not scale else float(frame.pts * scale)
        if stamp is None or stamp <= time:  # as of streams without a container, and of two put behind each other
            stamp = max(time, -usual) + usual
        time = stamp
        yield Frame(
            time,
            partial(_pixels, frame, turn, path),
            1 / pixel_aspect if turns_sides(turn) else pixel_aspect,
            light(frame),
            frame.is_corrupt,
        )


def _pixels(frame: VideoFrame, turn: np.ndarray, path: str | Path) -> np.ndarray:
    return turned(rgb(frame, path), turn)


def _decoded(container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
    has_alpha = any(key.lower() == "alpha_mode" and value == "1" for key, value in stream.metadata.items())
    decoder = WITH_ALPHA.get(stream.codec_context.name) if has_alpha else None
    coder: Any = stream.codec_context if decoder is None else av.CodecContext.create(decoder, "r")
    begun, unreadable = False, None
    for packet in container.demux(stream):
        try:
            frames = coder.decode(packet if packet.size else None)
        except av.InvalidDataError as error:
            if begun:
                raise
            unreadable = error  # or a recording that starts between key frames
            continue
        begun = begun or bool(frames)
        yield from frames
    if unreadable is not None and not begun:
        raise unreadable


def _whole_pictures(frames: Iterator[VideoFrame], stream: VideoStream) -> Iterator[VideoFrame]:
    """Frames of two half-pictures, of different moments, become whole ones; their number stays."""
    first = next(frames, None)
    if first is None:
        return
    frames = itertools.chain([first], frames)
    if not first.interlaced_frame:
        yield from frames
        return
    graph = av.filter.Graph()
    source = graph.add_buffer(template=stream)
    filters = graph.add("bwdif", "mode=send_frame:deint=interlaced"), graph.add("buffersink")
    graph.link_nodes(source, *filters).configure()
    for frame in itertools.chain(frames, [None]):
        graph.vpush(frame)
        try:
            while True:
                yield graph.vpull()
        except (av.BlockingIOError, av.EOFError):
            pass
