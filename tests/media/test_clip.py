import pytest

from vrwkv_jax.media.clip import check_clip
from vrwkv_jax.system.errors import UserError

GOOD = {"frames": 1, "start": 0, "stride": 1, "width": 8, "height": 1080, "fit": "stretch"}


def test_the_smallest_values_pass():
    check_clip(**GOOD)
    check_clip(**GOOD | {"frames": "all", "start": "0s", "stride": ".5s"})


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"width": 500}, "width 500 is not a multiple of 8: use 496 or 504"),
        ({"height": 1081}, "height 1081 is not a multiple of 8: use 1080 or 1088"),
        ({"width": 5}, "width 5 is not a multiple of 8: use 8 or more"),
        ({"width": 0}, "width 0 is not a positive multiple of 8: use 8 or more"),
        ({"height": -8}, "height -8 is not a positive multiple of 8: use 8 or more"),
        ({"frames": 0}, "frames 0 is not at least 1"),
        ({"stride": 0}, "stride 0 is not at least 1"),
        ({"start": -1}, "start -1 is not at least 0"),
        ({"frames": "0s"}, "frames '0s' is not above 0s"),
        ({"stride": "0.0s"}, "stride '0.0s' is not above 0s"),
        ({"frames": "8"}, "frames '8' is neither a number of frames nor a time: write 24, 1.5s or all"),
        ({"start": "-1s"}, "start '-1s' is neither a number of frames nor a time: write 12 or 1.5s"),
        ({"start": "all"}, "start 'all' is neither a number of frames nor a time: write 12 or 1.5s"),
        ({"stride": "1 s"}, "stride '1 s' is neither a number of frames nor a time: write 2 or 0.5s"),
        ({"frames": "1e9s"}, "frames '1e9s' is neither a number of frames nor a time: write 24, 1.5s or all"),
        ({"fit": "fit"}, "fit 'fit' is not one of crop, stretch"),
    ],
)
def test_a_wrong_value_is_named_with_right_ones(wrong, sentence):
    with pytest.raises(UserError) as error:
        check_clip(**GOOD | wrong)
    assert str(error.value) == sentence
