"""What is known of a source before the first step is refused before it."""

from dataclasses import replace

import av
import numpy as np
import pytest

from tests.media.videos import chirp, make, numbered, psnr, smooth, with_sound
from vrwkv_jax.commands.tune import _counted, _read_clip, main
from vrwkv_jax.config import ClipConfig, EditConfig, TuneConfig
from vrwkv_jax.editing.edit import Edit
from vrwkv_jax.media.frames import read_frames
from vrwkv_jax.media.writer import Timing
from vrwkv_jax.runs.directory import ClipsDirectory
from vrwkv_jax.runs.results import write_results
from vrwkv_jax.system.errors import UserError


def settings(path, stride=1, fps=None):
    clip = ClipConfig(video=str(path), frames=2, stride=stride, width=16, height=16)
    return TuneConfig(prompt="x", clip=clip, editing=EditConfig(fps=fps))


def test_a_source_that_is_faster_than_what_is_written(tmp_path):
    """As of high-speed cameras, and of containers that count something else than frames."""
    path = make(tmp_path / "fast.mp4", numbered(8), "libx264", "yuv420p", rate=2000)
    with pytest.raises(UserError, match=r"fps 2000 .*: it is what .*fast\.mp4 with stride 1 has; .* fps"):
        _read_clip(settings(path))
    assert _read_clip(settings(path, fps=30))[1] == Timing(30)
    assert _read_clip(settings(path, stride=4))[1] == Timing(500)


def test_how_many_frames_a_time_is_only_the_source_can_say(tmp_path):
    path = make(tmp_path / "clip.mkv", numbered(8), "ffv1", "yuv444p", times=[0, 100, 150, 200, 900, 910, 920, 2000])
    clip = ClipConfig(video=str(path), frames="0.5s", start="0.1s", stride=1, width=16, height=16)
    with pytest.raises(TypeError, match=r"how many frames there are in 0\.5s"):
        _ = clip.count
    counted = _counted(clip)
    assert counted == replace(clip, frames=3) and counted.count == 3
    frames, timing = _read_clip(TuneConfig(prompt="x", clip=counted))
    assert len(frames) == 3 and timing.times.tolist() == pytest.approx([0, 0.05, 0.1])


def test_all_clips_of_a_run_have_the_sound_and_the_times_of_the_source(tmp_path):
    times = np.cumsum([0, *np.random.default_rng(0).integers(5, 75, 29)]).tolist()
    path = with_sound(tmp_path / "clip.mkv", numbered(30), chirp(2, 48000), ("libx264", "aac"), times=times)
    clip = ClipConfig(video=str(path), frames=9, start=3, stride=2, width=16, height=16)
    frames, timing = _read_clip(TuneConfig(prompt="x", clip=clip))
    free = np.arange(18).reshape(9, 1, 2) > 8
    written = write_results(ClipsDirectory(tmp_path), frames, frames, {"a": Edit(frames, free)}, timing)
    clips = [path for path in written if path.suffix == ".mp4"]
    assert len(clips) == 3
    for path in clips:
        with av.open(str(path)) as container:
            assert container.streams.audio
            shown = [frame.time for frame in container.decode(video=0)]
        np.testing.assert_allclose(shown, (np.array(times[3:21:2]) - times[3]) / 1000, atol=1e-5)


@pytest.mark.parametrize("format", ["mp4", "gif", "webp", "png"])
def test_edits_are_written_as_is_asked(tmp_path, format):
    """Whatever the format: the same pictures, and the mask as an mp4."""
    frames, directory = smooth(4, 32, 48), ClipsDirectory(tmp_path, format)
    written = write_results(directory, frames, frames, {"a": Edit(frames, np.ones((4, 8, 12), bool))}, Timing(5))
    assert {path.name for path in written} == {path.name for path in tmp_path.iterdir()}
    clip, mask, side_by_side, *_ = written
    assert mask.suffix == ".mp4" and len(list(read_frames(side_by_side))) == 4
    found = np.stack(list(read_frames(clip)))
    lossless = format in ("webp", "png")
    assert (found == frames).all() == lossless
    assert lossless or psnr(found, frames) > 25


def test_crf_is_that_of_the_edits(tmp_path):
    sizes = {}
    for crf in (5, 40):
        frames, directory = smooth(4, 32, 48), ClipsDirectory(tmp_path)
        written = write_results(
            directory, frames, frames, {"a": Edit(frames, np.ones((4, 8, 12), bool))}, Timing(5), crf
        )
        sizes[crf] = [path.stat().st_size for path in written]
    assert all(less < more for less, more in zip(sizes[40][::2][:2], sizes[5][::2][:2], strict=True))  # edit, all
    assert sizes[40][1] == sizes[5][1]  # the mask


def test_the_built_in_clip_is_counted():
    with pytest.raises(UserError, match="--frames 4s is for a --video: give a number of frames"):
        main(["--frames", "4s"])


def test_a_rate_that_no_clip_is_written_at():
    with pytest.raises(UserError, match="fps 5000 is not between 1 and 1000"):
        EditConfig(fps=5000)


@pytest.mark.parametrize(("model", "said"), [([], True), (["--model", "nowhere/at/all"], False)])
def test_a_clip_that_the_built_in_model_knows_nothing_of_is_said_at_the_start(model, said, capsys):
    with pytest.raises(UserError, match=r"nowhere\.mp4 is not there"):
        main(["--video", "nowhere.mp4", "--prompt", "a jeep", *model])
    assert ("knows only rendered shapes" in capsys.readouterr().err) == said
