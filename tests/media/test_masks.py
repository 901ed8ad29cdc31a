"""Masks as painters and segmentation tools write them: the left half of the frame is what is meant."""

import av
import numpy as np
import pytest
from PIL import Image

from tests.media.videos import LOSSLESS, make
from vrwkv_jax.media.mask import Meaning, read_mask
from vrwkv_jax.media.mask_frames import stream_mask
from vrwkv_jax.media.video import write_video
from vrwkv_jax.system.errors import UserError

SIZE = {"width": 64, "height": 32}
LEFT = np.zeros((32, 64), np.uint8)
LEFT[:, :32] = 1
PHOTO = np.random.default_rng(0).integers(0, 120, (32, 64, 3), dtype=np.uint8)
BLACK_WHITE = np.repeat(LEFT[..., None] * 255, 3, -1)
BLACK_BEHIND = np.where(LEFT[..., None], (230, 25, 75), 0).astype(np.uint8)


NOISE = np.random.default_rng(1).integers(-9, 10, (32, 64, 3))


def palette(*colours, indices=LEFT):
    picture = Image.fromarray(indices).convert("L")
    picture = Image.frombytes("P", picture.size, indices.tobytes())
    picture.putpalette([level for colour in colours for level in colour])
    return picture


def with_alpha(colours, alpha):
    return Image.fromarray(np.dstack([colours, alpha]).astype(np.uint8))


WHITE = np.full((32, 64, 3), 255)
OPAQUE, LABELLED, NOT_BLACK, BRIGHT = Meaning.OPAQUE, Meaning.LABELLED, Meaning.NOT_BLACK, Meaning.BRIGHT
WRITTEN = {
    "0 and 255.png": (Image.fromarray(LEFT * 255), BRIGHT),
    "rgb.png": (Image.fromarray(BLACK_WHITE), BRIGHT),
    "one bit.png": (Image.fromarray(LEFT * 255).convert("1"), BRIGHT),
    "one bit.tif": (Image.fromarray(LEFT * 255).convert("1"), BRIGHT),
    "16 bits.png": (Image.fromarray(LEFT.astype(np.uint16) * 65535), BRIGHT),
    "0 and 255 in 16 bits.png": (Image.fromarray(LEFT.astype(np.uint16) * 255), LABELLED),
    "ids in 16 bits.png": (Image.fromarray(LEFT.astype(np.uint16) * 1042), LABELLED),
    "0 and 1.png": (Image.fromarray(LEFT), LABELLED),
    "labels and void.png": (Image.fromarray(np.where(np.arange(64) < 30, 7, LEFT * 255).astype(np.uint8)), LABELLED),
    "int32.tif": (Image.fromarray(LEFT.astype(np.int32) * 3), LABELLED),
    "0 to 1.tif": (Image.fromarray(LEFT.astype(np.float32)), BRIGHT),
    "not a number.tif": (Image.fromarray(np.where(LEFT, 1, np.nan).astype(np.float32)), BRIGHT),
    "voc.png": (palette((0, 0, 0), (128, 0, 0)), NOT_BLACK),
    "dark label.png": (palette((0, 0, 0), (0, 0, 32)), NOT_BLACK),
    "palette upside down.png": (palette((255, 255, 255), (0, 0, 0), indices=1 - LEFT), BRIGHT),
    "palette of one colour.png": (palette((0, 0, 0), (0, 0, 0)), LABELLED),
    "transparent palette.png": (palette((0, 0, 0), (0, 160, 0)), OPAQUE),
    "colours.png": (Image.fromarray(BLACK_BEHIND), NOT_BLACK),
    "colours.jpg": (Image.fromarray(BLACK_BEHIND), NOT_BLACK),
    "grey.jpg": (Image.fromarray(LEFT * 255), BRIGHT),
    "cmyk.jpg": (Image.fromarray(BLACK_WHITE).convert("CMYK"), BRIGHT),
    "selection.png": (with_alpha(WHITE, LEFT * 255), OPAQUE),
    "selection.webp": (with_alpha(WHITE, LEFT * 255), OPAQUE),
    "selection.tif": (with_alpha(WHITE, LEFT * 255), OPAQUE),
    "cut out.png": (with_alpha(PHOTO, LEFT * 255), OPAQUE),
    "black on nothing.png": (with_alpha(0 * WHITE, LEFT * 255), OPAQUE),
    "grey and alpha.png": (Image.fromarray(np.dstack([LEFT * 0 + 255, LEFT * 255])), OPAQUE),
    "round corners.png": (with_alpha(BLACK_WHITE, 255 - 255 * np.eye(32, 64)), Meaning.OPAQUE_AND_BRIGHT),
    "was a jpeg.png": (Image.fromarray((BLACK_WHITE + NOISE).clip(0, 255).astype(np.uint8)), BRIGHT),
    "colours of a jpeg.png": (Image.fromarray((BLACK_BEHIND + NOISE).clip(0, 255).astype(np.uint8)), NOT_BLACK),
    "dark grey, not black.png": (Image.fromarray(np.where(LEFT, 255, 40).astype(np.uint8)), BRIGHT),
    "not quite black.png": (Image.fromarray(np.where(LEFT, 235, 16).astype(np.uint8)), BRIGHT),
    "opaque.png": (with_alpha(BLACK_WHITE, 255 + 0 * LEFT), BRIGHT),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_the_left_half(tmp_path, name):
    picture, meaning = WRITTEN[name]
    options = {"transparency": 0} if name == "transparent palette.png" else {}
    picture.save(tmp_path / name, **({"quality": 95} if name.endswith(("jpg", "webp")) else options))
    mask = read_mask(tmp_path / name, frames=3, **SIZE)
    assert mask.meaning is meaning and mask.places.shape == (3, 32, 64) and mask.proportion == 2
    wrong = mask.places != (LEFT > 0)
    wrong[:, np.arange(32), np.arange(32)] &= name != "round corners.png"  # where it is transparent
    wrong[:, :, 24:40] &= not name.endswith("jpg")  # blocks of 16 pixels across the border
    assert not wrong.any()


@pytest.mark.parametrize("name", ["left", "left.mp4", "left.jfif", "left.txt", "left.tif"])
def test_pictures_are_known_by_what_they_hold(tmp_path, name):
    with open(tmp_path / name, "wb") as file:
        Image.fromarray(LEFT * 255).save(file, format="GIF")
    assert (read_mask(tmp_path / name, frames=5, start=9, stride=2, **SIZE).places == (LEFT > 0)).all()


def moving(count):
    """A bright band, 4 pixels further in each frame."""
    frames = np.zeros((count, 32, 64, 3), np.uint8)
    for index, frame in enumerate(frames):
        frame[:, 4 * index : 4 * index + 8] = 255
    return frames


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "tiff"])
def test_animations_and_stacks_have_a_mask_for_each_frame(tmp_path, suffix):
    first, *others = map(Image.fromarray, moving(6)[..., 0])
    options = {"lossless": True} if suffix == "webp" else {}
    first.save(tmp_path / f"mask.{suffix}", save_all=True, append_images=others, **options)
    mask = read_mask(tmp_path / f"mask.{suffix}", frames=2, start=1, stride=3, **SIZE)
    np.testing.assert_array_equal(mask.places, moving(6)[[1, 4], ..., 0] > 0)


def test_a_clip_has_a_mask_for_each_frame_of_the_edit_or_of_the_source(tmp_path):
    write_video(tmp_path / "source.mp4", moving(12))
    write_video(tmp_path / "edit.mp4", moving(3))
    write_video(tmp_path / "one.mp4", moving(1))
    asked = {"frames": 3, "start": 2, "stride": 4}
    for name, expected in (("source", [2, 6, 10]), ("edit", [0, 1, 2]), ("one", [0, 0, 0])):
        mask = read_mask(tmp_path / f"{name}.mp4", **asked, **SIZE)
        assert (mask.places != (moving(12)[expected, ..., 0] > 0)).mean() < 0.02  # the codec's borders
    with pytest.raises(
        UserError, match=r"the mask .*source\.mp4 has 12 frames; start 2 with stride 4 and 4 frames needs"
    ):
        read_mask(tmp_path / "source.mp4", frames=4, start=2, stride=4, **SIZE)


def test_labels_of_one_frame_count_in_all(tmp_path):
    """What a mask means is told from the whole of it, not frame by frame."""
    first, last = np.where(LEFT, 1, 0).astype(np.uint8), np.where(LEFT, 255, 60).astype(np.uint8)  # no 0 in the last
    Image.fromarray(first).save(tmp_path / "m.tif", save_all=True, append_images=[Image.fromarray(last)])
    assert read_mask(tmp_path / "m.tif", frames=2, **SIZE).meaning is LABELLED


def test_a_matte_in_the_alpha_of_a_clip(tmp_path):
    with av.open(str(tmp_path / "matte.mov"), "w") as container:
        stream = container.add_stream("prores_ks", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 32, "yuva444p10le"
        for _ in range(2):
            frame = av.VideoFrame.from_ndarray(np.dstack([PHOTO, LEFT * 255]), format="rgba")
            container.mux(stream.encode(frame.reformat(format="yuva444p10le")))
        container.mux(stream.encode())
    mask = read_mask(tmp_path / "matte.mov", frames=2, **SIZE)
    assert mask.meaning is OPAQUE and (mask.places == (LEFT > 0)).all()


def test_a_dim_clip_selects_nothing_rather_than_traces_of_its_codec(tmp_path):
    path = make(tmp_path / "dim.mp4", np.repeat(BLACK_WHITE[None] // 8, 2, 0), "libx264", "yuv420p")
    assert not read_mask(path, frames=2, **SIZE).places.any()


def test_a_mask_is_turned_and_cut_like_a_clip(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn clockwise: what was left is above
    Image.fromarray(LEFT * 255).save(tmp_path / "m.png", exif=exif)
    mask = read_mask(tmp_path / "m.png", frames=1, width=32, height=32)
    assert mask.proportion == 0.5 and mask.places[0, :15].all() and not mask.places[0, 17:].any()


def test_grey_masks_are_spoken_of(tmp_path):
    Image.fromarray(np.tile(np.arange(0, 256, 4, dtype=np.uint8), (32, 1))).save(tmp_path / "m.png")
    with pytest.warns(UserWarning, match=r"50% of the mask .*m\.png is grey: what is brighter than half may change"):
        assert read_mask(tmp_path / "m.png", frames=1, **SIZE).places.mean() == 0.5


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, r"mask .*m\.png is not there: check the name of the mask file"),
        (b"a mask", r"mask .*m\.png cannot be read as a mask .*: it may be damaged, cut off or another kind of file"),
        (b"", r"mask .*m\.png cannot be read as a mask"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", r"mask .*m\.png is a HEIC picture, .*: save it as PNG"),
    ],
)
def test_a_mask_that_will_not_do_is_called_a_mask(tmp_path, content, sentence):
    if content is not None:
        (tmp_path / "m.png").write_bytes(content)
    with pytest.raises(UserError, match=sentence):
        read_mask(tmp_path / "m.png", frames=8, **SIZE)


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "webp", "tif"])
def test_a_picture_that_is_cut_off(tmp_path, suffix):
    path = tmp_path / f"m.{suffix}"
    noise = np.random.default_rng(0).integers(0, 256, (32, 64), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    with pytest.raises(UserError, match=rf"m\.{suffix} (cannot be read|holds no frame)"):
        read_mask(path, frames=1, **SIZE)


@pytest.mark.parametrize("frames", [1, 5])
def test_a_stream_is_what_is_read_at_once(tmp_path, frames):
    painted = np.zeros((frames, 33, 60, 3), np.uint8)
    for frame, picture in enumerate(painted):
        picture[:, : 20 + 5 * frame] = 255
    path = make(tmp_path / "m.mov", painted, **LOSSLESS)
    count, places = stream_mask(path, width=60, height=33)
    assert count == frames
    np.testing.assert_array_equal(list(places), painted[..., 0] > 0)
    _, smaller = stream_mask(path, width=120, height=66)
    assert [chosen.mean() for chosen in smaller] == [pytest.approx((20 + 5 * f) / 60) for f in range(frames)]


def test_a_stream_has_the_proportions_of_its_clip(tmp_path):
    Image.fromarray(LEFT * 255).save(tmp_path / "m.png")
    with pytest.raises(UserError, match=r"m\.png has the proportions 2\.00:1, the clip 1\.00:1: make it as wide and"):
        stream_mask(tmp_path / "m.png", width=32, height=32)


def test_a_stream_says_what_a_grey_mask_is_taken_for(tmp_path):
    Image.fromarray(np.tile(np.arange(0, 256, 4, dtype=np.uint8), (32, 1))).save(tmp_path / "m.png")
    with pytest.warns(UserWarning, match="what is brighter than half should not change; make it black and white"):
        stream_mask(tmp_path / "m.png", width=64, height=32, effect="should not change")
