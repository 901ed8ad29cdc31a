"""What is known of a source before the first step is refused before it."""

import pytest

from tests.media.videos import make, numbered
from vrwkv_jax.commands.tune import _read_clip, main
from vrwkv_jax.config import ClipConfig, EditConfig, TuneConfig
from vrwkv_jax.system.errors import UserError


def settings(path, stride=1, fps=None):
    clip = ClipConfig(video=str(path), frames=2, stride=stride, width=16, height=16)
    return TuneConfig(prompt="x", clip=clip, editing=EditConfig(fps=fps))


def test_a_source_that_is_faster_than_what_is_written(tmp_path):
    """As of high-speed cameras, and of containers that count something else than frames."""
    path = make(tmp_path / "fast.mp4", numbered(8), "libx264", "yuv420p", rate=2000)
    with pytest.raises(UserError, match=r"fps 2000 .*: it is what .*fast\.mp4 with stride 1 has; .* --fps"):
        _read_clip(settings(path))
    assert _read_clip(settings(path, fps=30))[1] == 30
    assert _read_clip(settings(path, stride=4))[1] == 500


def test_a_rate_that_no_clip_is_written_at():
    with pytest.raises(UserError, match="fps 5000 is not between 1 and 1000"):
        EditConfig(fps=5000)


@pytest.mark.parametrize(("model", "said"), [([], True), (["--model", "nowhere/at/all"], False)])
def test_a_clip_that_the_built_in_model_knows_nothing_of_is_said_at_the_start(model, said, capsys):
    with pytest.raises(UserError, match=r"nowhere\.mp4 is not there"):
        main(["--video", "nowhere.mp4", "--prompt", "a jeep", *model])
    assert ("knows only rendered shapes" in capsys.readouterr().err) == said
