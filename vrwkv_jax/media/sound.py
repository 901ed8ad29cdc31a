"""The sound of a part of a video, carried into another file."""

import itertools
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.codec.context import Flags
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.stream import Disposition

from vrwkv_jax.media.opened import LENIENT
from vrwkv_jax.system.errors import printable

if TYPE_CHECKING:
    AudioPacket = Packet[AudioStream]
else:
    AudioPacket = Packet
COPIED = ("aac", "mp3", "opus", "ac3", "eac3")
"""What an mp4 holds as it is, in packets of a moment each; anything else becomes AAC."""
LAYOUTS = ("mono", "stereo", "3.0", "4.0", "5.0", "5.1")
"""Of channels in AAC; others become stereo."""
RATES = (48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000)
"""Samples per second in AAC; others become the first."""
BITS = 96000  # per second and channel: AAC that is hard to tell from its source


@dataclass(frozen=True)
class Sound:
    """What is heard in a file from ``start`` on, in seconds by its own clock, for ``seconds``."""

    path: Path
    start: float
    seconds: float


def has_sound(path: str | Path) -> bool:
    """Whether a file has sound that can be decoded; not, where it is nothing that FFmpeg reads, but Pillow may."""
    try:
        with av.open(f"file:{path}", **LENIENT) as container:
            return _stream(container) is not None
    except av.FFmpegError:
        return False


@contextmanager
def sounding(sound: Sound, container: OutputContainer) -> Iterator[Callable[[float], None]]:
    """Adds a stream for ``sound`` to an mp4. The function given writes what is heard up to a time, in seconds.

    Packets of the codecs in ``COPIED`` stay as they are, and with them the one before the first, which its decoder
    needs: by its time below 0 it is not heard. The end is that of a whole packet. What can't be read by now is left
    out, with a warning: the frames took longer to make.
    """
    with ExitStack() as stack:
        try:
            source = stack.enter_context(av.open(f"file:{sound.path}", **LENIENT))
        except (OSError, av.FFmpegError) as error:
            _warn(sound, error)
            yield lambda time: None
            return
        stream = _stream(source)
        heard = _heard(source.demux(stream), sound) if stream is not None else iter(())
        first = next(heard, None)
        if stream is None or first is None:  # the film goes on without it
            yield lambda time: None
            return
        heard = itertools.chain([first], heard)
        if stream.codec_context.codec.canonical_name in COPIED:  # not that of one of its decoders, such as mp3float
            packets = _copied(heard, container.add_stream_from_template(stream))
        else:
            packets = _encoded(heard, _aac(container, stream), sound.seconds)
        waiting = next(packets, None)

        def write_until(time: float) -> None:
            nonlocal waiting
            while waiting is not None and (waiting.pts or 0) * waiting.time_base <= time:
                container.mux(waiting)
                waiting = next(packets, None)

        yield write_until


def _stream(container: InputContainer) -> AudioStream | None:
    """As players choose among several: what is marked as default, or the first."""
    streams = [stream for stream in container.streams.audio if stream.codec_context is not None]
    return max(streams, key=lambda stream: bool(stream.disposition & Disposition.default), default=None)


def _heard(packets: Iterator[AudioPacket], sound: Sound) -> Iterator[AudioPacket]:
    """Those of a file that belong to a sound, and the one before, with times from its beginning on."""
    try:
        for packet in packets:
            stamp = packet.dts if packet.pts is None else packet.pts
            if not packet.size or stamp is None:
                continue
            stamp -= round(sound.start / packet.time_base)
            if stamp * packet.time_base >= sound.seconds:
                return
            if stamp + 2 * (packet.duration or 0) > 0:
                packet.pts = packet.dts = stamp
                yield packet
    except av.FFmpegError as error:
        _warn(sound, error)


def _warn(sound: Sound, error: OSError | av.FFmpegError) -> None:
    warnings.warn(
        f"the sound of {printable(sound.path)} can't be read any more ({error.strerror}): the rest of it is left out",
        stacklevel=2,
    )


def _copied(heard: Iterator[AudioPacket], stream: AudioStream) -> Iterator[AudioPacket]:
    for packet in heard:
        packet.stream = stream
        yield packet


def _aac(container: OutputContainer, like: AudioStream) -> AudioStream:
    rate = like.rate if like.rate in RATES else RATES[0]
    layout = like.layout.name if like.layout.name in LAYOUTS else "stereo"
    stream = container.add_stream("aac", rate=rate, layout=layout)
    stream.bit_rate = BITS * stream.layout.nb_channels
    stream.codec_context.flags |= Flags.bitexact  # no version in the file
    return stream


def _encoded(heard: Iterator[AudioPacket], stream: AudioStream, seconds: float) -> Iterator[AudioPacket]:
    """AAC of exactly what is heard from time 0 until ``seconds``."""
    rate = stream.rate
    resampler = AudioResampler("fltp", stream.layout, rate)
    written = 0
    for frame in itertools.chain(_decoded(heard), [None]):
        for part in resampler.resample(frame):
            begin = 0 if part.time is None else round(part.time * rate)
            samples: Any = part.to_ndarray()[:, max(0, -begin) : max(0, round(seconds * rate) - begin)]
            if samples.shape[1]:
                kept = AudioFrame.from_ndarray(np.ascontiguousarray(samples), "fltp", stream.layout)
                kept.rate, kept.time_base = rate, Fraction(1, rate)
                kept.pts = written = max(written, begin)
                written += samples.shape[1]
                yield from stream.encode(kept)
    yield from stream.encode()


def _decoded(heard: Iterator[AudioPacket]) -> Iterator[AudioFrame]:
    for packet in heard:
        with suppress(av.InvalidDataError):  # which players skip
            yield from packet.decode()
