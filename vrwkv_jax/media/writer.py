"""Clips of any length into files, chunk by chunk: what is written, when its frames are shown, what is heard."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import OutputContainer
from av.video.reformatter import ColorRange, Colorspace
from av.video.stream import VideoStream

from vrwkv_jax.media.clip import check_fps
from vrwkv_jax.media.colour import BT709, SCALER
from vrwkv_jax.media.files import replacing
from vrwkv_jax.media.sound import Sound, sounding
from vrwkv_jax.typing import Float, UInt8

# For equal bytes from equal frames: x264's output depends on its number of threads, so that must not follow the
# machine's, and with its macroblock tree smooth pictures came out different from run to run, in one thread too.
X264 = {"threads": "4", "x264-params": "mbtree=0"}
CRF, MOST_CRF = 16, 51
"""x264's constant rate factor: 0 keeps most, 51 least; at 16 a clip looks like its frames."""
TICK = Fraction(1, 90000)
"""Of times, in seconds: a whole number of them lies between frames at all usual rates, and in a millisecond."""


@dataclass(frozen=True)
class Timing:
    """When the frames of a clip are shown, and what is heard meanwhile."""

    fps: float
    """Their mean number per second."""
    times: Float[np.ndarray, " N"] | None = None
    """When each is shown, in seconds from the first one on; None: one each ``1 / fps``."""
    sound: Sound | None = None

    def time(self, index: int) -> float:
        """When a frame is shown, in seconds.

        Raises:
            ValueError: it has no time.
        """
        if self.times is None:
            return index / self.fps
        if index >= len(self.times):
            raise ValueError(f"there are times for {len(self.times)} frames only")
        return float(self.times[index])

    def check(self, written: int) -> None:
        """Raises ValueError where so many frames are not those of a clip."""
        expected = written if self.times is None else len(self.times)
        if not written or written != expected:
            raise ValueError(f"a clip needs at least one frame, and each its time: {written} of {expected}")


@contextmanager
def video_writer(
    path: str | Path, timing: float | Timing, crf: int = CRF
) -> Iterator[Callable[[UInt8[np.ndarray, "n H W 3"]], None]]:
    """Write RGB frames as an mp4 that browsers play: H.264, 4:2:0, BT.709, index first, at x264's ``crf``.

    The function given writes the next frames; what was written is kept nowhere else. ``timing`` is a ``Timing``, or the
    frames per second. 4:2:0 needs even sizes: an odd width or height grows by one pixel, a copy of the last column or
    row. The file appears under its name when the block succeeds; otherwise what was there before stays. Equal frames
    make equal bytes (of the same version of PyAV), in whatever chunks they come.

    Raises:
        UserError: ``timing`` makes no sense, or the file cannot be written.
        ValueError: no frames, or not as many as there are ``times``.
    """
    if not isinstance(timing, Timing):
        timing = Timing(timing)
    check_fps(timing.fps)
    # bitexact: without it the muxer writes its version into the file.
    muxer = {"movflags": "+faststart", "fflags": "+bitexact"}
    with replacing(path) as part, av.open(f"file:{part}", "w", format="mp4", options=muxer) as container:
        stream: VideoStream = container.add_stream("libx264", rate=_rate(timing), options=X264 | {"crf": str(crf)})
        with ExitStack() as stack:
            until = stack.enter_context(sounding(timing.sound, container)) if timing.sound else None
            film = _Film(container, stream, timing, until)
            yield film.write
            film.end()


def _rate(timing: Timing) -> Fraction:
    return Fraction(timing.fps).limit_denominator(1001)  # 29.97 becomes 30000/1001


class _Film:
    """The frames of a file that is being written."""

    def __init__(
        self,
        container: OutputContainer,
        stream: VideoStream,
        timing: Timing,
        until: Callable[[float], None] | None,
    ):
        self._container, self._stream, self._timing, self._until = container, stream, timing, until
        self._written = 0
        self._last = -1  # tick

    def write(self, frames: UInt8[np.ndarray, "n H W 3"]) -> None:
        for picture in frames:
            if not self._written:
                self._begin(*picture.shape[:2])
            self._encode(picture)

    def end(self) -> None:
        self._timing.check(self._written)
        self._container.mux(self._stream.encode())
        if self._until is not None:
            self._until(float("inf"))

    def _begin(self, height: int, width: int) -> None:
        stream, coder = self._stream, self._stream.codec_context
        stream.width, stream.height, stream.pix_fmt = width + width % 2, height + height % 2, "yuv420p"
        coder.color_range = ColorRange.MPEG
        coder.colorspace = coder.color_primaries = coder.color_trc = BT709
        if self._timing.times is not None:
            coder.time_base = TICK
            coder.max_b_frames = 0  # players take the length from when frames are decoded: here when they are shown

    def _encode(self, picture: UInt8[np.ndarray, "H W 3"]) -> None:
        height, width = picture.shape[:2]
        frame = _subsampled(np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge"))
        time = self._timing.time(self._written)
        if self._timing.times is not None:
            self._last = max(self._last + 1, round(time / TICK))
            frame.pts, frame.time_base = self._last, TICK
        packets = self._stream.encode(frame)
        self._written += 1
        if self._until is not None:
            self._until(self._written / self._timing.fps if self._timing.times is None else float(self._last * TICK))
        self._container.mux(packets)


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
