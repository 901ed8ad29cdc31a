import numpy as np
import pytest
from PIL import Image

from vrwkv_jax.media.pictures import contact_sheet, loss_curve, moving_mean, save_png, side_by_side
from vrwkv_jax.system.errors import UserError

PROMPT = "a purple sports car turns on a snowy forest road, painted in watercolours " * 6


def noise(*shape):
    return np.random.default_rng(0).integers(0, 200, shape, dtype=np.uint8)


def find(picture, part):
    """Where ``part`` stands in ``picture``, as (top, left), searched by its first pixels."""
    for top, left in np.argwhere((picture == part[0, 0]).all(axis=-1)):
        if np.array_equal(picture[top : top + part.shape[0], left : left + part.shape[1]], part):
            return int(top), int(left)
    raise AssertionError("the part is not in the picture")


def enlarged(clip, factor):
    return np.kron(clip, np.ones((1, factor, factor, 1), np.uint8))


@pytest.mark.parametrize(("size", "factor"), [((48, 64), 4), ((31, 63), 5), ((250, 256), 1), ((99, 300), 1)])
def test_side_by_side_shows_each_clip_whole(size, factor):
    clips = {"source": noise(3, *size, 3), "edit": 199 - noise(3, *size, 3)}
    joined = side_by_side(clips)
    assert joined.dtype == np.uint8 and len(joined) == 3
    width = size[1] * factor
    for frame in range(3):
        places = [find(joined[frame], enlarged(clip, factor)[frame]) for clip in clips.values()]
        assert places[0][0] == places[1][0] > 15  # one height, with room for letters above
        assert places[1][1] > places[0][1] + width
    strip = joined[:, : places[0][0]]
    assert (strip == strip[:1]).all()
    for _, left in places:
        assert strip[0, :, left : left + width].min() < 60  # letters, dark on white


def test_labels_stay_over_their_clip():
    joined = side_by_side({"a": noise(1, 64, 64, 3), PROMPT: noise(1, 64, 64, 3), "x" * 300: noise(1, 64, 64, 3)})[0]
    top, left = find(joined, enlarged(noise(1, 64, 64, 3), 4)[0])
    assert top < 100  # three lines of 14 pixels, not the twenty that the prompt would take
    strip = joined[:top]
    for panel in range(3):
        panel_left = left + panel * (256 + 8)
        assert (strip[:, panel_left - 8 : panel_left] == 255).all()
    assert (strip[:, -8:] == 255).all()
    assert strip[:, left + 264 :].min() < 60


def test_a_short_label_stands_next_to_its_clip():
    clip = noise(1, 16, 256, 3)
    alone, beside = side_by_side({"a": clip})[0], side_by_side({"a": clip, PROMPT: clip})[0]
    np.testing.assert_array_equal(beside[-len(alone) :, : alone.shape[1]], alone)


def test_labels_are_letters_in_any_script_of_the_font():
    clip = noise(1, 16, 256, 3)
    missing = side_by_side({"\ue123": clip})  # a private code point: the box of a missing glyph
    for letter in "AжμÜ→":
        assert (side_by_side({letter: clip}) != missing).any()


def test_an_empty_label_leaves_the_clip():
    assert find(side_by_side({"": noise(1, 16, 256, 3)})[0], noise(1, 16, 256, 3)[0])


def test_clips_that_cannot_be_compared():
    for together in (side_by_side, contact_sheet):
        with pytest.raises(ValueError, match="one shape"):
            together({})
        with pytest.raises(ValueError, match=r"one shape, found .*'b': \(3, 16, 16, 3\)"):
            together({"a": noise(2, 16, 16, 3), "b": noise(3, 16, 16, 3)})


@pytest.mark.parametrize(
    ("frames", "columns", "shown"), [(17, 5, [0, 4, 8, 12, 16]), (3, 8, [0, 1, 2]), (9, 1, [0]), (24, 2, [0, 23])]
)
def test_a_contact_sheet_spreads_frames_over_the_columns(frames, columns, shown):
    clips = {"source": noise(frames, 24, 200, 3), PROMPT: 199 - noise(frames, 24, 200, 3)}
    sheet = contact_sheet(clips, columns)
    places = np.array([[find(sheet, clip[index]) for index in shown] for clip in clips.values()])
    assert (places[..., 0] == places[:, :1, 0]).all() and (places[..., 1] == places[:1, :, 1]).all()  # a grid
    assert (np.diff(places[..., 1], axis=1) > 200).all() and (np.diff(places[..., 0], axis=0) > 24 + 15).all()


@pytest.mark.parametrize(("width", "shown_width"), [(64, 256), (100, 200), (512, 256), (300, 256)])
def test_a_contact_sheet_keeps_pictures_small(width, shown_width):
    grey = np.full((2, width // 2, width, 3), 99, np.uint8)
    sheet = contact_sheet({"": grey})
    covered = (sheet == 99).all(axis=-1)
    assert covered.any(axis=0).sum() == 2 * shown_width
    assert covered.any(axis=1).sum() == shown_width // 2


def test_a_png_holds_the_picture(tmp_path):
    picture = noise(21, 33, 3)
    save_png(tmp_path / "picture.png", picture)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "picture.png")), picture)
    assert len(list(tmp_path.iterdir())) == 1


def test_moving_mean():
    values = np.random.default_rng(0).normal(size=11)
    expected = [sum(values[i : i + 4]) / 4 for i in range(8)]
    np.testing.assert_allclose(moving_mean(values, 4), expected, rtol=1e-12)


def drawn(tmp_path, *args):
    loss_curve(tmp_path / "loss.png", *args)
    with Image.open(tmp_path / "loss.png") as picture:
        assert picture.format == "PNG"
        return np.asarray(picture.convert("RGB")).astype(int)


def blue(picture):
    return (picture[..., 2] - picture[..., 0]).clip(min=0)


def test_a_loss_curve_goes_where_the_loss_goes(tmp_path):
    falling = blue(drawn(tmp_path, np.linspace(1.0, 0.1, 200).tolist()))
    rows = np.arange(len(falling))[:, None]
    left, right = np.array_split(falling[150:], 2, axis=1)  # below the legend
    centres = [(half * rows[150:]).sum() / half.sum() for half in (left, right)]
    assert centres[0] < centres[1] - 50  # rows count downwards


def test_a_loss_curve_of_few_bad_or_late_values(tmp_path):
    assert blue(drawn(tmp_path, [0.5])).any()
    assert blue(drawn(tmp_path, np.array([0.5, np.nan, 0.2, np.inf, 0.3] * 20))).any()
    first = drawn(tmp_path, [0.3, 0.1, 0.2])
    later = drawn(tmp_path, [0.3, 0.1, 0.2], [500, 501, 502])
    assert (first != later).any()
    for losses, steps in (([], None), ([0.1], [1, 2])):
        with pytest.raises(ValueError, match="make no curve"):
            loss_curve(tmp_path / "loss.png", losses, steps)


def test_pictures_are_not_written_into_the_void(tmp_path):
    for write in (lambda path: save_png(path, noise(8, 8, 3)), lambda path: loss_curve(path, [0.1, 0.2])):
        with pytest.raises(UserError, match="there is no folder"):
            write(tmp_path / "missing" / "x.png")
    assert list(tmp_path.iterdir()) == []
