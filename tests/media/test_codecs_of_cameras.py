"""What cameras and editing programs write: ProRes, H.265, 10 bits and HDR, alpha; colours by formulas in float64."""

import warnings

import av
import numpy as np
import pytest

from tests.media.videos import indices, make, numbered, psnr, smooth
from vrwkv_jax.media.video import read_video

CODECS = {
    "ProRes 422 HQ": ("mov", "prores_ks", "yuv422p10le", {"profile": "3"}),
    "ProRes 4444": ("mov", "prores_ks", "yuv444p10le", {"profile": "4"}),
    "H.265": ("mp4", "libx265", "yuv420p", {"x265-params": "log-level=none:crf=12"}),
    "H.265 10 bits": ("mkv", "libx265", "yuv420p10le", {"x265-params": "log-level=none:crf=12"}),
    "H.265 4:4:4 10 bits": ("mp4", "libx265", "yuv444p10le", {"x265-params": "log-level=none:crf=12"}),
}


@pytest.mark.parametrize("name", CODECS)
def test_every_frame_comes_in(tmp_path, name):
    suffix, codec, pix_fmt, options = CODECS[name]
    path = make(tmp_path / f"clip.{suffix}", numbered(12), codec, pix_fmt, options=options)
    clip = read_video(path, frames=4, start=2, stride=3, width=64, height=48)
    assert indices(clip) == [2, 5, 8, 11]
    pictures = smooth(3, 48, 64)
    path = make(tmp_path / f"colours.{suffix}", pictures, codec, pix_fmt, options=options)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # none of them is HDR
        assert psnr(read_video(path, frames=3, width=64, height=48), pictures) > (30 if "4:4:4" in name else 25)


def coded(path, codec, levels, options, *, transfer=1, primaries=1, matrix=1):
    """One colour, given as levels of 10 bits of Y, Cb and Cr, in a lossy codec."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10, options=options)
        stream.height, stream.width, stream.pix_fmt = 32, 64, "yuv444p10le"
        coder = stream.codec_context
        coder.color_primaries, coder.color_trc, coder.colorspace, coder.color_range = primaries, transfer, matrix, 1
        for _ in range(2):
            frame = av.VideoFrame(64, 32, "yuv444p10le")
            frame.color_primaries, frame.color_trc, frame.colorspace, frame.color_range = primaries, transfer, matrix, 1
            for plane, level in zip(frame.planes, levels, strict=True):
                plane.update(np.full(plane.buffer_size // 2, round(level), "<u2").tobytes())
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


CAMERAS = {
    "ProRes": ("mov", "prores_ks", {"profile": "4"}),
    "H.265": ("mkv", "libx265", {"x265-params": "log-level=none:crf=4"}),
}


@pytest.mark.parametrize("camera", CAMERAS)
def test_ten_bits_of_bt709(tmp_path, camera):
    """Y'CbCr of 10 bits, narrow range, to R'G'B' of 8: ITU-R BT.709."""
    suffix, codec, options = CAMERAS[camera]
    rgb = np.array((200.0, 120, 60)) / 255
    luma = np.array((0.2126, 0.7152, 0.0722)) @ rgb
    levels = 64 + 876 * luma, 512 + 896 * (rgb[2] - luma) / 1.8556, 512 + 896 * (rgb[0] - luma) / 1.5748
    path = coded(tmp_path / f"clip.{suffix}", codec, levels, options)
    pixel = read_video(path, frames=1, width=64, height=32)[0, 16, 32]
    assert np.abs(pixel - 255 * rgb).max() <= 2  # the codec, and rounding to 8 bits


def light_of_pq(signal):
    """cd/m2: SMPTE ST 2084, BT.2100's EOTF."""
    root = signal ** (1 / 78.84375)
    return 10000 * (np.maximum(root - 0.8359375, 0) / (18.8515625 - 18.6875 * root)) ** (1 / 0.1593017578125)


def light_of_hlg(signal, luma):
    """cd/m2 of a nominal screen of 1000: BT.2100's inverse OETF, and OOTF with gamma 1.2."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
    return 1000 * scene * (luma @ scene) ** 0.2


@pytest.mark.parametrize("camera", CAMERAS)
@pytest.mark.parametrize(("transfer", "name"), [(16, "PQ"), (18, "HLG")])
@pytest.mark.parametrize("signal", [(0.45, 0.40, 0.35), (0.5, 0.5, 0.5), (0.36, 0.40, 0.42)])
def test_hdr_below_the_knee_is_its_light(tmp_path, camera, transfer, name, signal):
    """Below 0.7 of reference white (203 cd/m2, BT.2408) nothing is compressed: the light of the screen, by formulas."""
    suffix, codec, options = CAMERAS[camera]
    luma = np.array((0.2627, 0.6780, 0.0593))
    signal = np.array(signal)
    y = luma @ signal
    levels = 64 + 876 * y, 512 + 896 * (signal[2] - y) / 1.8814, 512 + 896 * (signal[0] - y) / 1.4746
    light = light_of_pq(signal) if transfer == 16 else light_of_hlg(signal, luma)
    to_709 = np.array([[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]])  # BT.2087
    shown = to_709 @ light / 203
    assert shown.min() > 0 and shown.max() < 0.7
    path = coded(tmp_path / f"clip.{suffix}", codec, levels, options, transfer=transfer, primaries=9, matrix=9)
    with pytest.warns(UserWarning, match=rf"is HDR \({name}\): its light is mapped to SDR") as told:
        pixel = read_video(path, frames=2, width=64, height=32)[0, 16, 32]
    assert len(told) == 1
    # A level of 10 bits is up to two of 8, where PQ is mapped to a screen's gamma; the codec adds one more.
    assert np.abs(pixel - 255 * shown ** (1 / 2.4)).max() <= 4


def test_alpha_of_prores(tmp_path):
    """ProRes 4444 with a matte: shown on white, with one warning."""
    picture = np.zeros((32, 64, 4), np.uint8)
    picture[:, :32] = (40, 90, 200, 255)
    with av.open(str(tmp_path / "clip.mov"), "w") as container:
        stream = container.add_stream("prores_ks", rate=10, options={"profile": "4", "alpha_bits": "16"})
        stream.height, stream.width, stream.pix_fmt = 32, 64, "yuva444p10le"
        for _ in range(2):
            frame = av.VideoFrame.from_ndarray(picture, format="rgba").reformat(format="yuva444p10le")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.warns(UserWarning, match=r"is transparent in parts: they are shown on white") as told:
        clip = read_video(tmp_path / "clip.mov", frames=2, width=64, height=32)
    assert len(told) == 1
    assert clip[:, :, 40:].min() >= 252  # nothing there
    assert np.abs(clip[:, 8:24, 8:24].astype(int) - (40, 90, 200)).max() <= 4
