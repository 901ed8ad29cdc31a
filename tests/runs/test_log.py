"""The log of a tuning: one line for each step, whatever happened in between, and the same for TensorBoard."""

import errno
import json
import struct

import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event

from vrwkv_jax.config import TuningConfig
from vrwkv_jax.runs.directory import RunDirectory
from vrwkv_jax.runs.log import run_log

CONFIG = TuningConfig(learning_rate=0.5, mixer_lr_scale=3.0)


def write(directory, steps, start=0):
    with run_log(RunDirectory(directory), CONFIG, start) as log:
        for step in steps:
            log.add(step=step, loss=1 / step, grad_norm=2.0, param_norm=3.0, update_norm=4.0, seconds=0.1)
        return log.entries


def lines(directory):
    return [json.loads(line) for line in (directory / "log.jsonl").read_text().splitlines()]


def events(directory):
    """All events of all files, in their order: length, checksum, event, checksum."""
    found = []
    for path in sorted((directory / "tensorboard").iterdir(), key=lambda path: path.stat().st_mtime_ns):
        content = path.read_bytes()
        while content:
            (length,) = struct.unpack("<Q", content[:8])
            found.append(Event.FromString(content[12 : 12 + length]))
            content = content[16 + length :]
    return found


def test_every_step_is_a_line(tmp_path):
    assert write(tmp_path, [1, 2]) == lines(tmp_path)
    first = lines(tmp_path)[0]
    assert first.pop("memory_bytes") > 1e6
    figures = {"loss": 1.0, "grad_norm": 2.0, "param_norm": 3.0, "update_norm": 4.0, "seconds": 0.1}
    assert first == {"step": 1, **figures, "learning_rate": 0.5, "gains_learning_rate": 1.5}


def test_tensorboard_has_the_same(tmp_path):
    write(tmp_path, [1, 2])
    values = {
        (event.step, value.tag): value.simple_value for event in events(tmp_path) for value in event.summary.value
    }
    assert values[1, "loss/loss"] == 1 and values[2, "loss/loss"] == 0.5
    tags = "norms/grad_norm norms/param_norm norms/update_norm run/seconds run/memory_bytes loss/loss "
    tags += "learning_rates/learning_rate learning_rates/gains_learning_rate"
    assert {tag for step, tag in values if step == 2} == set(tags.split())


def test_after_an_interruption_what_came_after_the_checkpoint_is_dropped(tmp_path):
    write(tmp_path, [1, 2, 3, 4])
    entries = write(tmp_path, [3, 4, 5], start=2)
    assert [entry["step"] for entry in lines(tmp_path)] == [1, 2, 3, 4, 5]
    assert entries == lines(tmp_path)
    starts = [event.step for event in events(tmp_path) if event.HasField("session_log")]
    assert starts == [1, 3]  # from where on TensorBoard forgets what it has read before


def test_a_line_that_a_sudden_end_cut_off(tmp_path):
    write(tmp_path, [1, 2])
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"step": 3, "lo')
    write(tmp_path, [3], start=2)
    assert [entry["step"] for entry in lines(tmp_path)] == [1, 2, 3]


def test_a_picture(tmp_path):
    with run_log(RunDirectory(tmp_path), CONFIG, 0) as log:
        log.picture("sample", np.full((6, 8, 3), 200, np.uint8), 7)
    (event,) = [event for event in events(tmp_path) if event.HasField("summary")]
    image = event.summary.value[0].image
    assert event.step == 7 and (image.height, image.width) == (6, 8) and image.encoded_image_string[1:4] == b"PNG"


def test_a_full_disk_is_an_error_at_once(tmp_path):
    write(tmp_path, [])
    with pytest.raises(OSError) as caught, run_log(RunDirectory(tmp_path), CONFIG, 0) as log:
        log._file.close()
        log._file = open("/dev/full", "w")  # noqa: SIM115 - closed with the log
        log.add(step=1, loss=1.0)
    assert caught.value.errno == errno.ENOSPC
