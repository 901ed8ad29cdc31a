"""Clips of any length into animated WebP, lossless, chunk by chunk."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import av
import numpy as np
from av.packet import Packet
from av.video.stream import VideoStream

from vrwkv_jax.media.files import replacing
from vrwkv_jax.media.ticks import Ticks
from vrwkv_jax.media.writer import Timing
from vrwkv_jax.system.errors import UserError, printable
from vrwkv_jax.typing import UInt8

if TYPE_CHECKING:
    VideoPacket = Packet[VideoStream]
else:
    VideoPacket = Packet
MILLISECOND = Fraction(1, 1000)
LARGEST_SIDE = 16383
MOST_BYTES = 2**32 - 2**20
"""What its header counts in 32 bits, and room for what waits to be written."""


@contextmanager
def webp_writer(path: str | Path, timing: Timing) -> Iterator[Callable[[UInt8[np.ndarray, "n H W 3"]], None]]:
    """Write RGB frames as a WebP that plays without end; as ``clip_writer``.

    Raises:
        UserError: it is larger than a WebP can be, or cannot be written.
        ValueError: no frames, or not as many as there are times.
    """
    ticks = Ticks(path, timing, MILLISECOND, least=1)
    options = {"loop": "0", "fflags": "+bitexact"}
    with replacing(path) as part, av.open(f"file:{part}", "w", format="webp", options=options) as container:
        stream: VideoStream = container.add_stream("libwebp", options={"lossless": "1", "compression_level": "2"})
        stream.pix_fmt = "bgra"
        stream.codec_context.time_base = MILLISECOND

        def write(frames: UInt8[np.ndarray, "n H W 3"]) -> None:
            for picture in frames:
                if not ticks.given:
                    stream.height, stream.width = picture.shape[:2]
                    if max(picture.shape) > LARGEST_SIDE:
                        raise UserError(
                            f"{printable(path)} would be {stream.width}x{stream.height}, and a WebP has {LARGEST_SIDE} "
                            "pixels on a side at most: choose another format"
                        )
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="bgra")
                frame.pts, frame.time_base = ticks.next(), MILLISECOND
                mux(stream.encode(frame))

        def mux(packets: list[VideoPacket]) -> None:
            for packet in packets:
                packet.duration = ticks.usual
                container.mux(packet)
                if part.stat().st_size > MOST_BYTES:
                    raise UserError(f"{printable(path)} becomes longer than the 4 GiB of a WebP: choose another format")

        yield write
        timing.check(ticks.given)
        mux(stream.encode())
