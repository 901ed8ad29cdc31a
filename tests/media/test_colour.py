"""HDR, wide colours, untagged clips and transparent ones come in as a screen of BT.709 shows them."""

import math

import av
import numpy as np
import pytest

from tests.media.videos import make, noise
from vrwkv_jax.media.colour import KNEE, PEAK, REFERENCE_WHITE, Light, to_bt709
from vrwkv_jax.media.video import read_video

# BT.709 light in BT.2020's primaries: ITU-R BT.2087
TO_2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])
LUMA_2020 = np.array([0.2627, 0.6780, 0.0593])
COLOURS = {"black": (0, 0, 0), "grey": (0.18,) * 3, "white": (1, 1, 1), "skin": (0.5, 0.25, 0.15), "blue": (0, 0, 0.6)}


def encoded(path, signal, transfer, primaries=9, matrix=9):
    """A 10-bit clip of one colour, given as R'G'B' in BT.2020; levels by ITU-R BT.2100, narrow range."""
    r, _, b = signal
    luma = LUMA_2020 @ signal
    levels = 64 + 876 * luma, 512 + 896 * (b - luma) / 1.8814, 512 + 896 * (r - luma) / 1.4746
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.height, stream.width, stream.pix_fmt = 32, 48, "yuv444p10le"
        coder = stream.codec_context
        coder.color_primaries, coder.color_trc, coder.colorspace, coder.color_range = primaries, transfer, matrix, 1
        frame = av.VideoFrame(48, 32, "yuv444p10le")
        for plane, level in zip(frame.planes, levels, strict=True):
            plane.update(np.full(plane.buffer_size // 2, round(level), "<u2").tobytes())
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def pq(light):
    """The inverse of PQ's EOTF, of cd/m2: SMPTE ST 2084."""
    root = (np.asarray(light) / 10000) ** (2610 / 16384)
    return ((3424 / 4096 + 2413 / 128 * root) / (1 + 2392 / 128 * root)) ** (2523 / 32)


def hlg(light):
    """HLG's inverse OOTF (1000 cd/m2, gamma 1.2) and OETF, of cd/m2: ITU-R BT.2100."""
    luminance = LUMA_2020 @ light
    scene = light / 1000 * (luminance / 1000) ** (1 / 1.2 - 1) if luminance > 0 else 0 * light
    a, b, c = 0.17883277, 1 - 4 * 0.17883277, 0.5 - 0.17883277 * math.log(4 * 0.17883277)
    return np.where(scene <= 1 / 12, np.sqrt(3 * scene), a * np.log(np.maximum(12 * scene - b, 1e-9)) + c)


def tone_mapped(light, tmp_path):
    """FFmpeg's tone mapping of linear BT.709 (1 is reference white), by its Möbius curve, for a screen of gamma 2.4."""
    graph = av.filter.Graph()
    source = graph.add_buffer(width=16, height=16, format=av.VideoFormat("gbrpf32le"), time_base=1)
    curve = f"mobius:param={KNEE}:desat=0:peak={PEAK / REFERENCE_WHITE}"
    graph.link_nodes(source, graph.add("tonemap", curve), graph.add("buffersink")).configure()
    picture = np.broadcast_to(np.float32(light), (16, 16, 3))
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="gbrpf32le")
    frame.pts, frame.color_trc = 0, 8  # linear
    graph.vpush(frame)
    return 255 * np.clip(graph.vpull().to_ndarray()[8, 8], 0, 1) ** (1 / 2.4)


@pytest.mark.parametrize("nits", [REFERENCE_WHITE / 4, REFERENCE_WHITE, 700])
@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize(("curve", "transfer", "name"), [(pq, 16, "PQ"), (hlg, 18, "HLG")])
def test_hdr_is_mapped_like_by_ffmpeg_with_a_warning(tmp_path, nits, colour, curve, transfer, name):
    light = np.array(COLOURS[colour], float) * nits
    path = encoded(tmp_path / "phone.mkv", curve(TO_2020 @ light), transfer)
    with pytest.warns(UserWarning, match=rf"phone\.mkv is HDR \({name}\)"):
        pixel = read_video(path, frames=1, width=48, height=32)[0, 16, 24]
    # 4: levels of 10 bits, and negative light by the four digits of the matrix. The dark end is steep: 10 of 255 there.
    expected = tone_mapped(light / REFERENCE_WHITE, tmp_path)
    assert np.abs(pixel - expected)[expected > 40].max(initial=0) <= 4
    assert np.abs(pixel - expected).max() <= 16
    if colour in ("black", "grey", "white"):
        assert np.ptp(pixel.astype(int)) <= 2
    if colour == "white" and nits == REFERENCE_WHITE:
        assert 230 <= pixel.min() <= 245


def test_hdr_without_primaries_is_bt2020(tmp_path):
    signal = pq(TO_2020 @ np.array((100.0, 30, 20)))
    told = encoded(tmp_path / "told.mkv", signal, 16)
    untold = encoded(tmp_path / "untold.mkv", signal, 16, primaries=2)
    with pytest.warns(UserWarning, match="is HDR"):
        clips = [read_video(path, frames=1, width=48, height=32) for path in (told, untold)]
    np.testing.assert_array_equal(*clips)


@pytest.mark.parametrize("transfer", [1, 14])
def test_wide_colours_without_hdr(tmp_path, transfer):
    """SDR of BT.2020, without a warning: the light of a screen of gamma 2.4 stays, as far as BT.709 has it."""
    levels = np.array((200, 120, 90)) / 255
    path = encoded(tmp_path / "clip.mkv", (TO_2020 @ levels**2.4) ** (1 / 2.4), transfer)
    pixel = read_video(path, frames=1, width=48, height=32)[0, 16, 24]
    assert np.abs(pixel - 255 * levels).max() <= 2  # left as it is: (178, 124, 93)


def test_colours_that_the_screen_lacks_are_clipped_and_keep_their_hue():
    red = to_bt709(np.array([[[1.0, 0, 0]]], np.float32), Light(18, 9))[0, 0]
    assert red[0] > 240 and red[1] == red[2] == 0


@pytest.mark.parametrize(
    ("width", "height", "red", "blue"),
    [
        (1280, 720, 0.2126, 0.0722),
        (720, 1280, 0.2126, 0.0722),
        (1920, 800, 0.2126, 0.0722),
        (720, 576, 0.299, 0.114),
        (640, 480, 0.299, 0.114),
    ],
)
def test_colours_of_clips_that_do_not_say_their_matrix(tmp_path, width, height, red, blue):
    """HD is BT.709, SD is BT.601, as to players (mpv's rule)."""
    colour = np.array((200.0, 60, 30))
    luma = red * colour[0] + (1 - red - blue) * colour[1] + blue * colour[2]
    chroma = (colour[2] - luma) / (2 - 2 * blue), (colour[0] - luma) / (2 - 2 * red)
    levels = 16 + luma * 219 / 255, *(128 + value * 224 / 255 for value in chroma)
    path = tmp_path / "clip.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"crf": "0", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        frame = av.VideoFrame(width, height, "yuv420p")
        for plane, level in zip(frame.planes, levels, strict=True):
            plane.update(np.full(plane.buffer_size, round(level), np.uint8).tobytes())
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with av.open(str(path)) as container:
        assert next(container.decode(video=0)).colorspace == 2  # unspecified
    pixel = read_video(path, frames=1, width=64, height=64)[0, 32, 32]
    assert np.abs(pixel - colour).max() <= 3  # the other matrix is off by 13


@pytest.mark.parametrize(
    ("pix_fmt", "full"), [("yuv420p", False), ("yuvj420p", True), ("gray", True), ("gray10le", True)]
)
def test_the_usual_ranges(tmp_path, pix_fmt, full):
    """Black and white of a clip that doesn't say its range: narrow, but of the formats that are full by themselves."""
    path = tmp_path / "clip.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg" if pix_fmt == "yuvj420p" else "ffv1", rate=10)
        stream.width, stream.height, stream.pix_fmt = 32, 32, pix_fmt
        for black in (True, False):
            frame = av.VideoFrame(32, 32, pix_fmt)
            for index, plane in enumerate(frame.planes):
                level = 128 if index else (0 if black else 255) if full else (16 if black else 235)
                deep = pix_fmt == "gray10le"
                values = np.full(plane.buffer_size // (1 + deep), 4 * level + 3 * (level == 255) if deep else level)
                plane.update(values.astype("<u2" if deep else "u1").tobytes())
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    clip = read_video(path, frames=2, width=32, height=32)
    assert clip[0].max() <= 1 and clip[1].min() >= 254


def hidden():
    """A yellow square on nothing; under nothing lies red."""
    picture = np.zeros((32, 48, 4), np.uint8)
    picture[..., 0] = 255
    picture[8:24, 16:32] = (255, 200, 0, 255)
    return picture


def transparent(path, codec, pix_fmt):
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10, options={"auto-alt-ref": "0"} if codec == "libvpx" else {})
        stream.width, stream.height, stream.pix_fmt = 48, 32, pix_fmt
        if codec.startswith("libvpx"):
            stream.metadata["alpha_mode"] = "1"
        for _ in range(2):
            frame = av.VideoFrame.from_ndarray(hidden(), format="rgba").reformat(format=pix_fmt)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt"),
    [
        ("sprite.mov", "qtrle", "argb"),
        ("sprite.mov", "png", "rgba"),
        ("sprite.mov", "prores_ks", "yuva444p10le"),
        ("sprite.webm", "libvpx-vp9", "yuva420p"),
        ("sprite.webm", "libvpx", "yuva420p"),
        ("sprite.mkv", "ffv1", "bgra"),
    ],
)
def test_hidden_colours_do_not_show(tmp_path, name, codec, pix_fmt):
    path = transparent(tmp_path / name, codec, pix_fmt)
    with pytest.warns(UserWarning, match=r"sprite\.\w+ is transparent in parts: they are shown on white"):
        frame = read_video(path, frames=2, width=48, height=32)[1].astype(int)
    assert np.abs(frame[:5] - 255).max() <= 8
    assert np.abs(frame[16, 24] - (255, 200, 0)).max() <= 12


def test_what_is_half_transparent_is_mixed_with_white(tmp_path):
    picture = np.zeros((1, 16, 16, 4), np.uint8)
    picture[...] = (200, 100, 0, 64)
    path = tmp_path / "clip.mov"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("png", rate=10)
        stream.width = stream.height = 16
        stream.pix_fmt = "rgba"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(picture[0], format="rgba")))
        container.mux(stream.encode())
    with pytest.warns(UserWarning, match="on white"):
        pixel = read_video(path, frames=1, width=16, height=16)[0, 8, 8]
    assert pixel.tolist() == [241, 216, 191]  # 255 - (255 - level) * 64 / 255


def test_an_alpha_channel_that_hides_nothing_is_not_spoken_of(tmp_path):
    pictures = noise(1, 16, 16, 3)
    path = make(tmp_path / "clip.mov", pictures, "png", "rgba")
    np.testing.assert_array_equal(read_video(path, frames=1, width=16, height=16), pictures)
