"""Clips of any length into animated GIF with one palette, chunk by chunk."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import IO, Any

import av
import numpy as np
from av.container import OutputContainer
from av.video.stream import VideoStream

from vrwkv_jax.media.files import replacing
from vrwkv_jax.media.ticks import Ticks
from vrwkv_jax.media.writer import Timing
from vrwkv_jax.typing import UInt8

HUNDREDTH = Fraction(1, 100)
LEAST = 2
"""Hundredths of a second: what is to be shown for less, browsers show for ten."""
DITHER = "dither=bayer:bayer_scale=4"
"""Ordered, so that what stands still in the clip does so here. Diffused errors (Floyd-Steinberg and its like) flicker,
and make larger files."""
_PIXELS = "bgra"  # FFmpeg's filters for palettes take no other


@contextmanager
def gif_writer(path: str | Path, timing: Timing) -> Iterator[Callable[[UInt8[np.ndarray, "n H W 3"]], None]]:
    """Write RGB frames as a GIF that plays without end; as ``clip_writer``.

    Raises:
        UserError: it cannot be written.
        ValueError: no frames, or not as many as there are times.
    """
    with replacing(path) as part, tempfile.TemporaryFile(dir=part.parent) as spooled:
        with av.open(spooled, "w", format="matroska") as container:
            spool = _Spool(container)
            yield spool.write
            timing.check(spool.written)
            palette = spool.end()
        spooled.seek(0)
        _write_gif(part, spooled, palette, timing, Ticks(path, timing, HUNDREDTH, LEAST))


class _Spool:
    """Frames that wait on the disk, while their colours are counted."""

    def __init__(self, container: OutputContainer):
        self._container = container
        self._stream: VideoStream = container.add_stream("ffv1", rate=25)
        self._stream.pix_fmt = "bgr0"
        self._colours = av.filter.Graph()
        self.written = 0

    def write(self, frames: UInt8[np.ndarray, "n H W 3"]) -> None:
        for picture in frames:
            if not self.written:
                self._begin(*picture.shape[:2])
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            counted = frame.reformat(format=_PIXELS)
            counted.pts = self.written
            self._colours.vpush(counted)
            self._container.mux(self._stream.encode(frame.reformat(format="bgr0")))
            self.written += 1

    def end(self) -> av.VideoFrame:
        """The palette, once all is written."""
        self._container.mux(self._stream.encode())
        self._colours.vpush(None)
        return self._colours.vpull()

    def _begin(self, height: int, width: int) -> None:
        self._stream.height, self._stream.width = height, width
        source = self._colours.add_buffer(
            width=width, height=height, format=av.VideoFormat(_PIXELS), time_base=HUNDREDTH
        )
        filters = self._colours.add("palettegen"), self._colours.add("buffersink")
        self._colours.link_nodes(source, *filters).configure()


def _write_gif(part: Path, spooled: IO[bytes], palette: av.VideoFrame, timing: Timing, ticks: Ticks) -> None:
    options = {"loop": "0", "final_delay": str(ticks.usual)}
    with av.open(spooled, "r") as source, av.open(f"file:{part}", "w", format="gif", options=options) as container:
        (film,) = source.streams.video
        stream: VideoStream = container.add_stream("gif")
        stream.height, stream.width, stream.pix_fmt = film.height, film.width, "pal8"
        stream.codec_context.time_base = HUNDREDTH
        graph = av.filter.Graph()
        frames = graph.add_buffer(
            width=film.width, height=film.height, format=av.VideoFormat(_PIXELS), time_base=HUNDREDTH
        )
        colours = graph.add_buffer(
            width=palette.width, height=palette.height, format=palette.format, time_base=HUNDREDTH
        )
        use, sink = graph.add("paletteuse", DITHER), graph.add("buffersink")
        frames.link_to(use, 0, 0)
        colours.link_to(use, 0, 1)
        use.link_to(sink)
        graph.configure()
        palette.pts = 0
        colours.push(palette)
        colours.push(None)

        def encode() -> None:
            while True:
                try:
                    shown: Any = sink.pull()
                except (av.BlockingIOError, av.EOFError):
                    return
                container.mux(stream.encode(shown))

        for decoded in source.decode(video=0):
            frame = decoded.reformat(format=_PIXELS)
            frame.pts, frame.time_base = ticks.next(), HUNDREDTH
            frames.push(frame)
            encode()
        frames.push(None)
        encode()
        container.mux(stream.encode())
