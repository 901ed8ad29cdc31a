"""A clip's sound goes with its frames into what is written: the same moment is seen and heard."""

import itertools

import av
import numpy as np
import pytest

from tests.media.videos import chirp, heard, numbered, with_sound
from vrwkv_jax.media import sound
from vrwkv_jax.media.reader import VideoReader
from vrwkv_jax.media.video import read_video, write_video
from vrwkv_jax.media.writer import video_writer

SIZE = {"width": 64, "height": 48}
PACKET = 1024 / 48000  # seconds, of AAC
PICTURES = numbered(30)[np.arange(100) % 30]


def film(path, codecs=("libx264", "aac"), rate=48000, **how):
    """4 seconds, 25 frames in each."""
    return with_sound(path, PICTURES, chirp(4, rate), codecs, rate=rate, **how)


def carried(path, output, fps=None, **which):
    """What is heard when the frames chosen of ``path`` are written to ``output``; None: there is no sound."""
    reader = VideoReader(path, **which, **SIZE)
    with video_writer(output, reader.timing(fps)) as write:
        for chunk in reader.chunks(7):
            write(chunk)
    with av.open(str(output)) as container:
        (pictures,) = container.streams.video
        assert pictures.frames == len(reader)
        if not container.streams.audio:
            return None
    return heard(output)


def late(samples, rate, begin):
    """By how many seconds ``samples`` come later than the chirp does from ``begin`` on: most alike is what is meant."""
    whole = chirp(4, rate).astype(float)
    here = slice(rate // 5, rate // 5 + rate)  # a second, away from the borders
    shifts = np.arange(-rate // 20, rate // 20)
    start = round(begin * rate) + here.start
    alike = [np.dot(samples[here], whole[start - shift : start - shift + rate]) for shift in shifts]
    assert max(alike) > 0.98 * np.linalg.norm(samples[here]) * np.linalg.norm(whole[start : start + rate])
    return shifts[np.argmax(alike)] / rate


@pytest.mark.parametrize(
    ("name", "codecs", "rate", "becomes"),
    [
        ("clip.mp4", ("libx264", "aac"), 48000, "aac"),
        ("clip.mp4", ("libx264", "aac"), 44100, "aac"),
        ("clip.ts", ("libx264", "aac"), 48000, "aac"),
        ("clip.mkv", ("libx264", "libopus"), 48000, "opus"),
        ("clip.webm", ("libvpx", "libopus"), 48000, "opus"),
        ("clip.mp4", ("libx264", "libmp3lame"), 48000, "mp3"),
        ("clip.mkv", ("libx264", "ac3"), 48000, "ac3"),
        ("clip.mkv", ("libx264", "flac"), 48000, "aac"),
        ("clip.ts", ("libx264", "mp2"), 48000, "aac"),
        ("clip.mov", ("libx264", "pcm_s16le"), 44100, "aac"),
        ("clip.mkv", ("libx264", "pcm_s16le"), 22050, "aac"),
    ],
)
@pytest.mark.parametrize("start", [0, 27])
def test_what_is_seen_is_heard(tmp_path, name, codecs, rate, becomes, start):
    path = film(tmp_path / name, codecs, rate)
    samples, carried_rate, codec, _ = carried(path, tmp_path / "edit.mp4", frames=50, start=start)
    assert codec == becomes and carried_rate == rate
    assert 2 - 1e-3 <= len(samples) / rate <= 2 + 1.5 * 1152 / rate  # whole packets; those of MP3 have 1152 samples
    # A millisecond: Matroska and transport streams round times. In mp4 the place is exact.
    assert abs(late(samples, rate, start / 25)) <= (1e-3 if name != "clip.mp4" or "mp3" in codec else 0)


def test_the_sound_is_as_long_as_the_frames(tmp_path):
    for codecs, start, frames in ((("libx264", "aac"), 13, 31), (("libx264", "flac"), 13, 31)):
        path = film(tmp_path / "clip.mkv", codecs)
        samples, rate, *_ = carried(path, tmp_path / "edit.mp4", frames=frames, start=start)
        assert -1e-3 <= len(samples) / rate - frames / 25 <= PACKET + 1e-3


def test_packets_are_copied_where_an_mp4_can_hold_them(tmp_path):
    path = film(tmp_path / "clip.mp4")
    carried(path, tmp_path / "edit.mp4", frames=50, start=25)
    packets = []
    for file in (path, tmp_path / "edit.mp4"):
        with av.open(str(file)) as container:
            packets.append([bytes(packet) for packet in container.demux(audio=0) if packet.size])
    first = packets[0].index(packets[1][0])
    assert packets[0][first : first + len(packets[1])] == packets[1] and len(packets[1]) > 90


@pytest.mark.parametrize("layout", ["stereo", "5.1"])
def test_channels_stay(tmp_path, layout):
    path = film(tmp_path / "clip.mkv", ("libx264", "flac"), layout=layout)
    assert carried(path, tmp_path / "edit.mp4", frames=50)[3] == {"stereo": 2, "5.1": 6}[layout]


def test_variable_frame_rates_stay_in_time(tmp_path):
    times = np.cumsum([0, *np.random.default_rng(0).integers(5, 75, 99)]).tolist()
    path = film(tmp_path / "clip.mkv", times=times)
    samples, rate, *_ = carried(path, tmp_path / "edit.mp4", frames=60, start=20)
    assert abs(late(samples, rate, times[20] / 1000)) <= 1e-3
    with av.open(str(tmp_path / "edit.mp4")) as container:
        found = [frame.time for frame in container.decode(video=0)]
    np.testing.assert_allclose(found, (np.array(times[20:80]) - times[20]) / 1000, atol=1e-9)


def test_a_stride_keeps_the_speed_and_so_the_sound(tmp_path):
    samples, rate, *_ = carried(film(tmp_path / "clip.mp4"), tmp_path / "edit.mp4", frames=25, start=10, stride=3)
    assert late(samples, rate, 0.4) == 0 and 0 <= len(samples) / rate - 3 <= 2 * PACKET


def test_the_same_speed_in_words_keeps_the_sound(tmp_path):
    assert carried(film(tmp_path / "clip.mp4"), tmp_path / "edit.mp4", fps=25, frames=50) is not None


def test_another_speed_leaves_the_sound_out_and_says_so(tmp_path):
    with pytest.warns(UserWarning) as said:
        assert carried(film(tmp_path / "clip.mp4"), tmp_path / "edit.mp4", fps=20, frames=50) is None
    (warning,) = said
    assert str(warning.message) == (
        f"the sound of {tmp_path / 'clip.mp4'} is left out: with fps=20 the clip lasts 2.50 s, in the source 2.00 s"
    )


def test_without_sound_there_is_none(tmp_path):
    write_video(tmp_path / "clip.mp4", PICTURES, 25)
    assert carried(tmp_path / "clip.mp4", tmp_path / "edit.mp4", fps=20, frames=50) is None  # and no word of it


def test_sound_that_ends_before_the_frames_begin(tmp_path):
    path = with_sound(tmp_path / "clip.mp4", PICTURES, chirp(1, 48000), ("libx264", "aac"))
    assert carried(path, tmp_path / "edit.mp4", frames=25, start=50) is None
    samples, rate, *_ = carried(path, tmp_path / "edit.mp4", frames=50)
    assert abs(len(samples) / rate - 1) < 2 * PACKET


def test_what_was_written_can_be_carried_on(tmp_path):
    """As the edits of an edit."""
    carried(film(tmp_path / "clip.mp4"), tmp_path / "first.mp4", frames=75, start=13)
    samples, rate, *_ = carried(tmp_path / "first.mp4", tmp_path / "second.mp4", frames=50, start=13)
    assert late(samples, rate, 26 / 25) == 0


def test_equal_bytes(tmp_path):
    for codecs in (("libx264", "aac"), ("libx264", "flac")):
        path = film(tmp_path / "clip.mkv", codecs)
        contents = set()
        for _ in range(2):
            carried(path, tmp_path / "edit.mp4", frames=50)
            contents.add((tmp_path / "edit.mp4").read_bytes())
        (content,) = contents
    assert b"Lavc" not in content and b"Lavf" not in content  # of AAC that was made here


@pytest.mark.parametrize("broken", ["file", "disk"])
def test_sound_that_is_gone_by_now_is_left_out_with_a_word(tmp_path, broken, monkeypatch):
    """The frames, for which somebody has waited, are written in any case."""
    path, output = film(tmp_path / "clip.mp4"), tmp_path / "edit.mp4"
    reader = VideoReader(path, frames=50, **SIZE)
    timing, frames = reader.timing(), read_video(path, frames=50, **SIZE)
    if broken == "file":
        path.unlink()
    else:
        heard_of = sound._heard
        monkeypatch.setattr(sound, "_heard", lambda packets, *of: heard_of(up_to(20, packets), *of))
    with pytest.warns(UserWarning, match=r"^the sound of .*clip\.mp4 can't be read any more \(.*\): the rest of it is"):
        write_video(output, frames, timing)
    assert len(read_video(output, frames="all", **SIZE)) == 50
    if broken == "disk":
        assert abs(len(heard(output)[0]) / 48000 - 20 * PACKET) < 2 * PACKET


def up_to(count, packets):
    """What a disk gives that breaks then."""
    yield from itertools.islice(packets, count)
    raise av.error.OSError(5, "Input/output error", "clip.mp4")


def test_a_sound_that_was_cut_off_is_carried_as_far_as_it_goes(tmp_path):
    path = film(tmp_path / "clip.avi", ("mpeg4", "libmp3lame"))
    reader = VideoReader(path, frames=50, **SIZE)
    timing, frames = reader.timing(), read_video(path, frames=50, **SIZE)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 4])
    write_video(tmp_path / "edit.mp4", frames, timing)
    samples, rate, *_ = heard(tmp_path / "edit.mp4")
    assert 0.3 < len(samples) / rate < 1.7
