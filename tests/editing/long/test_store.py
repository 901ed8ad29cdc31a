"""Latents on disk: what is written is read, and whatever ends the work, just what is whole counts as done."""

import collections
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.checkpoint.memory import LINUX, output_of
from vrwkv_jax.editing.long import store as module
from vrwkv_jax.editing.long.store import FILES, LatentStore, check_room
from vrwkv_jax.runs import own
from vrwkv_jax.system.errors import UserError, WriteError

SHAPE = (11, 3, 5, 4)
OF = {"clip": "ab12", "steps": 4}


def latents(step, chunk, frames=4):
    shape = (min(frames, SHAPE[0] - chunk * frames), *SHAPE[1:])
    return np.random.default_rng([step, chunk]).normal(size=shape).astype(np.float32)


def opened(directory, kept=5, of=OF, chunk=4, shape=SHAPE):
    return LatentStore(directory, of, shape, chunk=chunk, kept=kept)


def filled(directory, steps=5, kept=5):
    store = opened(directory, kept)
    for step in range(steps):
        for chunk in store.missing(step):
            store.write(step, chunk, latents(step, chunk))
    return store


def test_what_is_written_is_read(tmp_path):
    store = filled(tmp_path / "store")
    assert store.chunks == 3
    for again in (store, opened(tmp_path / "store")):
        for step in range(5):
            assert again.missing(step) == []
            for chunk in range(3):
                np.testing.assert_array_equal(again.read(step, chunk), latents(step, chunk))
    with pytest.raises(ValueError, match=r"chunk 0 of step 5 .* is not done"):
        store.read(5, 0)


def test_a_step_is_an_array_of_numpy(tmp_path):
    filled(tmp_path)
    mapped = np.load(tmp_path / "latents-0003.npy", mmap_mode="r")
    np.testing.assert_array_equal(mapped, np.concatenate([latents(3, chunk) for chunk in range(3)]))


def test_only_the_last_steps_are_kept(tmp_path):
    store = filled(tmp_path, steps=7, kept=2)
    assert sorted(path.name for path in tmp_path.glob("*.npy")) == ["latents-0000.npy", "latents-0001.npy"]
    for again in (store, opened(tmp_path, kept=2)):
        assert [again.missing(step) for step in (4, 5, 6)] == [[0, 1, 2], [], []]
        np.testing.assert_array_equal(again.read(6, 2), latents(6, 2))
        assert again.next_step() == 7
    store.write(7, 0, latents(7, 0))
    assert store.missing(5) == [0] and store.missing(7) == [1, 2] and store.missing(6) == []
    assert store.next_step() == opened(tmp_path, kept=2).next_step() == 7


def test_the_order_of_chunks_is_free(tmp_path):
    store = opened(tmp_path)
    for chunk in (2, 0):
        store.write(1, chunk, latents(1, chunk))
    assert opened(tmp_path).missing(1) == [1]


@pytest.mark.parametrize("shape", [(4, 3, 5), (3, 3, 5, 4), (4, 3, 4, 5)])
def test_another_shape_is_none_of_the_chunks(tmp_path, shape):
    store = opened(tmp_path)
    with pytest.raises(ValueError, match=r"chunk 0 has the shape \(4, 3, 5, 4\)"):
        store.write(0, 0, np.zeros(shape, np.float32).reshape(shape if len(shape) == 4 else (*shape, 1)))
    with pytest.raises(ValueError, match="no chunk 3 of 3"):
        store.write(0, 3, latents(0, 0))
    assert store.missing(0) == [0, 1, 2]


# What ends the work


def torn(path, at, size=40):
    content = bytearray(path.read_bytes())
    content[at : at + size] = bytes(byte ^ 0xFF for byte in content[at : at + size])
    path.write_bytes(content)


def test_a_torn_chunk_is_not_done(tmp_path):
    filled(tmp_path)
    bytes_of_chunk = latents(0, 0).nbytes
    torn(tmp_path / "latents-0002.npy", 128 + bytes_of_chunk + 7)
    store = opened(tmp_path)
    assert [store.missing(step) for step in range(5)] == [[], [], [1], [], []] and store.next_step() == 2
    store.write(2, 1, latents(2, 1))
    assert opened(tmp_path).next_step() == 5


def test_a_chunk_that_is_torn_while_the_store_is_open_is_not_read(tmp_path):
    store = filled(tmp_path)
    torn(tmp_path / "latents-0002.npy", 200)
    with pytest.raises(ValueError, match=r"chunk 0 of step 2 .* or damaged"):
        store.read(2, 0)
    assert store.missing(2) == [0]


@pytest.mark.parametrize("spoil", [Path.unlink, lambda path: os.truncate(path, 300)])
def test_a_file_that_is_gone_or_cut_off_is_made_again(tmp_path, spoil):
    filled(tmp_path)
    spoil(tmp_path / "latents-0001.npy")
    store = opened(tmp_path)
    assert store.missing(1) in ([0, 1, 2], [1, 2]) and store.missing(0) == []
    for chunk in range(3):
        store.write(1, chunk, latents(1, chunk))
    assert opened(tmp_path).missing(1) == []


def test_a_manifest_that_is_cut_off_anywhere(tmp_path):
    """What has a whole line is done, in their order; nothing else."""
    filled(tmp_path / "whole")
    manifest = (tmp_path / "whole" / "manifest").read_bytes()
    for end in range(0, len(manifest) + 1, 3):
        shutil.rmtree(tmp_path / "cut", ignore_errors=True)
        shutil.copytree(tmp_path / "whole", tmp_path / "cut")
        (tmp_path / "cut" / "manifest").write_bytes(manifest[:end])
        lines = max(0, manifest[: end + 1].count(b"\n") - 1)  # the last one may lack its end
        store = opened(tmp_path / "cut")
        done = [(step, chunk) for step in range(5) for chunk in range(3) if store.is_done(step, chunk)]
        assert done == [(step, chunk) for step in range(5) for chunk in range(3)][:lines]
        store.write(4, 2, latents(4, 2))  # is not spoilt by what was torn before it
        assert opened(tmp_path / "cut").is_done(4, 2)


def test_damage_in_the_manifest_costs_just_its_chunk(tmp_path):
    filled(tmp_path)
    manifest = tmp_path / "manifest"
    lines = manifest.read_text().splitlines(keepends=True)
    lines[5] = lines[5].replace(lines[5][0], "7", 1)
    manifest.write_text("".join([*lines, "not a line\n", "1 2\n", "\n"]))
    store = opened(tmp_path)
    assert [store.missing(step) for step in range(5)] == [[], [1], [], [], []]


def test_a_loop_of_two_steps_goes_on_wherever_it_was_killed(tmp_path):
    """Killed after the chunk and before its line: the chunk of two steps before is gone, which nobody needs."""
    filled(tmp_path, steps=6, kept=2)
    store = opened(tmp_path, kept=2)
    torn(tmp_path / "latents-0000.npy", 128, 30)  # of step 6, in the place of step 4
    assert opened(tmp_path, kept=2).next_step() == 6 and opened(tmp_path, kept=2).missing(5) == []
    store.write(6, 0, latents(6, 0))
    torn(tmp_path / "latents-0000.npy", 128 + latents(0, 0).nbytes, 30)
    again = opened(tmp_path, kept=2)
    assert again.next_step() == 6 and again.missing(6) == [1, 2]


def test_a_loop_that_has_lost_the_step_before_begins_again(tmp_path):
    filled(tmp_path, steps=6, kept=2)
    opened(tmp_path, kept=2).write(6, 0, latents(6, 0))
    torn(tmp_path / "latents-0001.npy", 128)
    assert opened(tmp_path, kept=2).next_step() == 0


KILLED = """
import os, random, signal, sys
from pathlib import Path
import numpy as np
from vrwkv_jax.editing.long import store
directory, kept, steps = sys.argv[1], int(sys.argv[2]), 12

def loop(directory):
    kept_latents = store.LatentStore(Path(directory), "loop", (22, 8, 8, 4), chunk=4, kept=kept)
    for step in range(kept_latents.next_step(), steps):
        for chunk in kept_latents.missing(step):
            if step:
                made = np.cos(3 * kept_latents.read(step - 1, chunk)) + step
            else:
                made = np.random.default_rng(chunk).normal(size=(4 if chunk < 5 else 2, 8, 8, 4))
            kept_latents.write(step, chunk, made.astype(np.float32))

def dies_after(lines):
    def count(frame, event, argument):
        nonlocal lines
        lines -= event == "line"
        if lines < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return count
    inside = (store.__file__, store.replacing.__wrapped__.__code__.co_filename)
    return lambda frame, event, argument: count if frame.f_code.co_filename in inside else None

loop(directory + "/whole")
moments, killed = random.Random(0), 0
while True:
    child = os.fork()
    if child == 0:
        sys.settrace(dies_after(moments.randrange(500 + 100 * killed)))  # more each time: it looks at what is there
        loop(directory + "/killed")
        os._exit(0)
    moments.random()
    _, status = os.waitpid(child, 0)
    if status == 0:
        break
    assert os.WTERMSIG(status) == signal.SIGKILL
    killed += 1
print(killed)
"""


def contents(directory):
    return {path.name: path.read_bytes() for path in directory.glob("*.npy")}


@pytest.mark.parametrize("kept", [2, 12])
def test_killed_again_and_again_it_ends_in_the_same_bytes(tmp_path, kept):
    """By SIGKILL, after a random number of lines of the code that writes."""
    (killed,) = output_of(KILLED, tmp_path, kept)
    assert killed > 10
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")
    assert len(contents(tmp_path / "whole")) == kept


# Whose it is, and room for it


@pytest.mark.parametrize(
    "other", [{"of": {"clip": "cd34", "steps": 4}}, {"kept": 2}, {"chunk": 3}, {"shape": (12, 3, 5, 4)}]
)
def test_a_store_of_another_clip_or_other_settings_is_refused(tmp_path, other):
    filled(tmp_path / "store")
    before = contents(tmp_path / "store")
    with pytest.raises(UserError) as error:
        opened(tmp_path / "store", **other)
    assert str(error.value) == (
        f"{tmp_path / 'store'} holds latents of another clip or of other settings: remove it, or name another directory"
    )
    assert contents(tmp_path / "store") == before and opened(tmp_path / "store").missing(0) == []


def test_the_order_of_settings_is_none(tmp_path):
    filled(tmp_path)
    assert opened(tmp_path, of=dict(reversed(OF.items()))).missing(0) == []


def test_the_room_on_disk_is_what_is_said(tmp_path):
    store = opened(tmp_path / "store")
    assert store.disk_bytes == store.missing_bytes == 5 * (128 + 4 * 11 * 3 * 5 * 4)
    store.write(0, 1, latents(0, 1))
    assert store.missing_bytes == 4 / 5 * store.disk_bytes
    filled(tmp_path / "store")
    again = opened(tmp_path / "store")
    assert again.missing_bytes == 0
    assert again.disk_bytes == sum(path.stat().st_size for path in (tmp_path / "store").glob("*.npy"))


def disk_with(monkeypatch, free):
    usage = collections.namedtuple("usage", "total used free")
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: usage(10**9, 10**9 - free, free))


def test_without_room_nothing_begins(tmp_path, monkeypatch):
    store = opened(tmp_path / "store")
    disk_with(monkeypatch, store.disk_bytes - 1)
    with pytest.raises(UserError) as error:
        opened(tmp_path / "other")
    assert str(error.value) == (
        f"{tmp_path / 'other'} has no room for the latents: they need 0.01 MB, and 0.01 MB are free; make room there, "
        "choose another output, or fewer frames"
    )
    store.write(0, 0, latents(0, 0))
    opened(tmp_path / "store")  # which needs less by now
    disk_with(monkeypatch, 3 * 10**9)
    check_room(tmp_path, 3 * 10**9)
    with pytest.raises(UserError, match=r"they need 3\.50 GB, and 3\.00 GB are free"):
        check_room(tmp_path, 35 * 10**8)


def test_a_disk_that_is_full_meanwhile(tmp_path, monkeypatch):
    """What is done stays, and the work can go on when there is room."""
    filled(tmp_path, steps=2)

    def full(file, size):
        raise OSError(28, "No space left on device")

    store = opened(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(module, "reserve", full)
        with pytest.raises(WriteError, match=r"can't be written|cannot be written"):
            store.write(2, 0, latents(2, 0))
    assert store.next_step() == opened(tmp_path).next_step() == 2
    assert not list(tmp_path.glob(".*"))
    store.write(2, 0, latents(2, 0))


def test_runs_know_its_files(tmp_path):
    filled(tmp_path / "store")
    assert own.strange(tmp_path / "store", FILES) == []
    own.remove(tmp_path / "store", FILES)
    assert not (tmp_path / "store").exists()


# Memory

MEMORY = """
import sys
from pathlib import Path
import numpy as np
from tests.checkpoint.memory import whole_peak
from vrwkv_jax.editing.long.store import LatentStore
frames = int(sys.argv[2])
store = LatentStore(Path(sys.argv[1]), "memory", (frames, 64, 64, 4), chunk=8, kept=3)
for step in range(6):
    for chunk in store.missing(step):
        made = store.read(step - 1, chunk) + 1 if step else np.zeros((8, 64, 64, 4), np.float32)
        store.write(step, chunk, made)
again = LatentStore(Path(sys.argv[1]), "memory", (frames, 64, 64, 4), chunk=8, kept=3)
print(again.next_step(), again.disk_bytes, whole_peak())
"""


@LINUX
def test_ten_times_the_frames_take_no_more_memory(tmp_path):
    peaks, sizes = [], []
    for frames in (64, 640):
        step, size, peak = output_of(MEMORY, tmp_path / str(frames), frames)
        assert step == 6
        peaks.append(peak)
        sizes.append(size)
    assert sizes[1] > 125e6  # what a mapping that is kept would show
    assert peaks[1] < 1.05 * peaks[0]
