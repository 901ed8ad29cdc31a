"""Steps on disk: an interruption, or damage, costs those that came after, and other latents have none."""

import resource

import jax.numpy as jnp
import numpy as np
import pytest

from vrwkv_jax.editing import inversion, kept_steps
from vrwkv_jax.editing.kept_steps import KeptState, KeptTrajectory
from vrwkv_jax.runs.kept import Kept
from vrwkv_jax.system.errors import UserError

SOURCE = np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2)


@pytest.fixture
def path(tmp_path):
    """Of a trajectory of 4 steps, of which 3 are done: the clip plus 1, 2 and 3."""
    path = tmp_path / "trajectory.npy"
    kept = KeptTrajectory(path, SOURCE, 4)
    assert kept.done == 0
    for step in (1, 2, 3):
        kept.trajectory[step] = SOURCE + step
        kept.keep(step, 2)
    return path


def test_a_trajectory_goes_on(path):
    kept = KeptTrajectory(path, SOURCE, 4)
    assert kept.done == 3
    kept.trajectory[4] = SOURCE + 4
    kept.keep(4, 5)
    assert kept.row_calls == 3 * 2 + 5
    again = KeptTrajectory(path, SOURCE, 4)
    assert again.done == 4 and again.row_calls == 3 * 2 + 5
    np.testing.assert_array_equal(again.trajectory, [SOURCE + step for step in range(5)])
    np.testing.assert_array_equal(np.load(path), again.trajectory)


def change(path, entry):
    trajectory = np.lib.format.open_memmap(path, "r+")
    trajectory[entry, 0, 0, 0, 0] += 1
    trajectory.flush()


@pytest.mark.parametrize(
    ("damage", "done"),
    [
        (lambda path: change(path, 2), 1),
        (lambda path: change(path, 0), 0),
        (lambda path: path.write_bytes(path.read_bytes()[:200]), 0),
        (lambda path: path.write_bytes(b""), 0),
        (lambda path: path.with_suffix(".crc32").write_text("12\nab"), 0),
        (lambda path: path.with_suffix(".crc32").write_text(path.with_suffix(".crc32").read_text()[:-4]), 2),
        (lambda path: path.with_suffix(".crc32").unlink(), 0),
        (lambda path: path.unlink(), 0),
    ],
    ids=["a step", "the clip", "truncated", "empty", "checksums", "a checksum", "no checksums", "no array"],
)
def test_damage_costs_the_steps_from_there_on(path, damage, done):
    damage(path)
    kept = KeptTrajectory(path, SOURCE, 4)
    assert kept.done == done and kept.row_calls == 2 * done
    np.testing.assert_array_equal(kept.trajectory[: done + 1], [SOURCE + step for step in range(done + 1)])
    kept.trajectory[done + 1] = SOURCE + done + 1
    kept.keep(done + 1, 2)
    assert KeptTrajectory(path, SOURCE, 4).done == done + 1


def test_another_clip_or_number_of_steps_begins_anew(path):
    assert KeptTrajectory(path, SOURCE, 5).done == 0
    KeptTrajectory(path, SOURCE, 4)
    other = KeptTrajectory(path, SOURCE + 1, 4)
    assert other.done == 0
    np.testing.assert_array_equal(other.trajectory[0], SOURCE + 1)


def test_a_state_goes_on(tmp_path, monkeypatch):
    path = tmp_path / "state.npz"
    kept = KeptState(path)
    assert (kept.step, kept.arrays) == (0, [])
    arrays = [jnp.asarray(SOURCE), jnp.int32(7)]
    kept.keep(2, arrays)
    assert not path.exists()  # so soon
    monkeypatch.setattr(kept_steps, "SECONDS", 0)
    kept.keep(3, arrays)
    again = KeptState(path)
    assert again.step == 3 and [array.dtype for array in again.arrays] == [np.float32, np.int32]
    np.testing.assert_array_equal(again.arrays[0], SOURCE)
    path.write_bytes(path.read_bytes()[:-30])
    damaged = KeptState(path)
    assert (damaged.step, damaged.arrays) == (0, [])


def test_results_are_made_once_for_what_they_depend_on(tmp_path):
    made = []

    def make(state):
        made.append(state)
        return {"frames": SOURCE}

    for of, name in (("a", "edit"), ("a", "edit"), ("a", ["other", 1.5]), ("b", "edit")):
        found = Kept(tmp_path, of).once(name, make)
        np.testing.assert_array_equal(found["frames"], SOURCE)
    assert len(made) == 3
    for path in tmp_path.glob("*.npz"):
        path.write_bytes(path.read_bytes()[:100])
    Kept(tmp_path, "a").once("edit", make)
    assert len(made) == 4


def test_a_large_trajectory_has_its_room_before_it_is_filled(monkeypatch):
    """Or a full disk would end the process."""
    reserved, shape = [], (5, 2, 3, 2, 2)
    monkeypatch.setattr(inversion, "LARGE", 4)
    with monkeypatch.context() as patch:
        patch.setattr("os.posix_fallocate", lambda _, *place: reserved.append(place))
        trajectory = inversion.empty_trajectory(shape)
        assert isinstance(trajectory, np.memmap) and trajectory.shape == shape
    assert reserved == [(0, trajectory.nbytes)]

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        expected = r"0\.0 GB can't be kept in .* \(File too large\): make room there, or .* TMPDIR"
        with pytest.raises(UserError, match=expected):
            inversion.empty_trajectory(shape)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
