"""Videos for the tests, made with PyAV alone where the reader is under test."""

import struct
from fractions import Fraction

import av
import numpy as np

LOSSLESS = {"codec": "png", "pix_fmt": "rgb24"}  # in .mov


def make(path, pictures, codec, pix_fmt, *, rate=10, options=None, pixel_aspect=None, times=None):
    """Encode ``(F, H, W, 3)`` pictures with any codec; ``times`` are presentation times in milliseconds."""
    with av.open(f"file:{path}", "w") as container:
        stream = container.add_stream(codec, rate=rate, options=options or {})
        stream.height, stream.width = pictures.shape[1:3]
        stream.pix_fmt = pix_fmt
        if pixel_aspect:
            stream.codec_context.sample_aspect_ratio = pixel_aspect
        if times:
            stream.codec_context.time_base = Fraction(1, 1000)
        container.start_encoding()  # writes the header even of no pictures
        for index, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=pix_fmt)
            if times:
                frame.pts, frame.time_base = times[index], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def numbered(frames=30, height=48, width=64):
    """Grey pictures of level ``20 + 7 * index``."""
    levels = 20 + 7 * np.arange(frames)
    return np.broadcast_to(levels[:, None, None, None], (frames, height, width, 3)).astype(np.uint8)


def indices(clip):
    """Which pictures of ``numbered`` these are; half a step off is a failure."""
    levels = clip.reshape(len(clip), -1).astype(float)
    assert np.ptp(levels, axis=1).max() <= 5  # a flat grey, but for the traces of the picture before that MPEG-4 leaves
    numbers = (levels.mean(axis=1) - 20) / 7
    assert np.abs(numbers - numbers.round()).max() < 0.4
    return numbers.round().astype(int).tolist()


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def psnr(left, right):
    return 10 * np.log10(255**2 / np.mean((left.astype(float) - right) ** 2))


def smooth(frames, height, width):
    """Moving coloured waves: content that a video codec is made for."""
    f, y, x = np.mgrid[:frames, :height, :width]
    waves = [np.sin(x / 9 + f / 3), np.sin(y / 7 - f / 4), np.cos((x + y) / 11 + f / 5)]
    return (127.5 + 110 * np.stack(waves, axis=-1)).astype(np.uint8)


def rotate_track(path):
    """Give an mp4's track the matrix (x, y) -> (-y, x): y points down, so this turns right into down, clockwise."""
    content = bytearray(path.read_bytes())
    matrix = content.index(b"tkhd") + 44
    assert struct.unpack(">9i", content[matrix : matrix + 36]) == (1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    content[matrix : matrix + 36] = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)
    path.write_bytes(content)


def chirp(seconds, rate):
    """A tone that rises from 300 Hz by 200 Hz in a second: no two moments of it are alike."""
    time = np.arange(round(seconds * rate)) / rate
    return (0.5 * np.sin(2 * np.pi * (300 * time + 100 * time**2))).astype(np.float32)


def with_sound(path, pictures, sound, codecs, *, rate=48000, fps=25, layout="mono", times=None):
    """A film of ``pictures`` with ``sound``, coded by the two ``codecs``; ``times`` as for ``make``."""
    with av.open(f"file:{path}", "w") as container:
        film, track = container.add_stream(codecs[0], rate=fps), container.add_stream(codecs[1], rate=rate)
        film.height, film.width = pictures.shape[1:3]
        film.pix_fmt = "yuv420p"
        track.layout = layout
        if times:
            film.codec_context.time_base = Fraction(1, 1000)
        for index, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p")
            if times:
                frame.pts, frame.time_base = times[index], Fraction(1, 1000)
            container.mux(film.encode(frame))
        container.mux(film.encode())
        resampler = av.AudioResampler(track.format.name, layout, rate)
        for begin in range(0, len(sound), 1024):
            samples = np.repeat(sound[None, begin : begin + 1024], track.layout.nb_channels, axis=0)
            frame = av.AudioFrame.from_ndarray(samples, "fltp", layout)
            frame.rate, frame.pts, frame.time_base = rate, begin, Fraction(1, rate)
            for part in resampler.resample(frame):
                container.mux(track.encode(part))
        container.mux(track.encode())
    return path


def heard(path):
    """The first channel of a file's sound, at its place: (samples from time 0 on, rate, codec, number of channels)."""
    with av.open(f"file:{path}") as container:
        (track,) = container.streams.audio
        parts, begin = [], None
        for frame in container.decode(track):
            begin = frame.time if begin is None else begin
            samples = frame.to_ndarray().astype(float)
            parts.append(samples[0] if frame.format.is_planar else samples[0, :: frame.layout.nb_channels])
        first = round(begin * track.rate)
        samples = np.concatenate([np.zeros(max(0, first)), *parts])[max(0, -first) :]
        return samples, track.rate, track.codec_context.codec.canonical_name, track.layout.nb_channels
