"""The log of a tuning: log.jsonl, and the same for TensorBoard."""

import json
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import jax
import numpy as np

from vrwkv_jax.config import TuningConfig
from vrwkv_jax.media.files import replacing
from vrwkv_jax.parallel.hosts import is_first
from vrwkv_jax.runs.directory import RunDirectory
from vrwkv_jax.system.missing import missing
from vrwkv_jax.typing import UInt8

with missing("torch"):  # for whose tensors tensorboardX would import it: seconds, and its own CUDA libraries
    from tensorboardX import summary
    from tensorboardX.event_file_writer import EventsWriter
    from tensorboardX.proto.event_pb2 import Event, SessionLog
    from tensorboardX.proto.summary_pb2 import Summary

GROUPS = {"loss": "loss", "seconds": "run", "memory_bytes": "run"}  # of charts; of others, what the name ends in


class RunLog:
    """``entries`` are those of all steps so far, as in log.jsonl."""

    def __init__(self, directory: RunDirectory, config: TuningConfig, step: int):
        """Continues after ``step``: what an interrupted run has logged of later steps is dropped."""
        self._rates = {
            "learning_rate": config.learning_rate,
            "gains_learning_rate": config.learning_rate * config.mixer_lr_scale,
        }
        path = directory.log
        self.entries = [entry for entry in _read(path) if entry["step"] <= step]
        with replacing(path) as part:
            part.write_text("".join(json.dumps(entry) + "\n" for entry in self.entries))
        self._file = path.open("a")
        directory.tensorboard.mkdir(exist_ok=True)
        # SummaryWriter writes in a thread, where a full disk is nobody's error.
        self._events = EventsWriter(str(directory.events), f".{time.time_ns()}")
        self._events.write_event(Event(step=step + 1, session_log=SessionLog(status=SessionLog.START)))

    def add(self, **figures: float) -> None:
        """One step: ``step`` and what ``Run.log`` has of it."""
        entry = {**figures, **self._rates, "memory_bytes": memory_in_use()}
        self._file.write(json.dumps(entry) + "\n")
        self._file.flush()
        self.entries.append(entry)
        charts = {name: value for name, value in entry.items() if name != "step"}
        values = [summary.scalar(f"{_group(name)}/{name}", value).value[0] for name, value in charts.items()]
        self._write(Summary(value=values), int(entry["step"]))

    def picture(self, name: str, picture: UInt8[np.ndarray, "H W 3"], step: int) -> None:
        self._write(summary.image(name, picture, dataformats="HWC"), step)

    def close(self) -> None:
        try:
            self._file.close()
        finally:
            self._events.close()

    def _write(self, content: Summary, step: int) -> None:
        event = Event(step=step, summary=content)
        event.wall_time = time.time()
        self._events.write_event(event)
        self._events.flush()


@contextmanager
def run_log(directory: RunDirectory, config: TuningConfig, step: int) -> Iterator[RunLog]:
    """A ``RunLog`` that is closed in the end. Of several processes, only the first one's stays."""
    with ExitStack() as stack:
        if not is_first():
            directory = RunDirectory(Path(stack.enter_context(TemporaryDirectory())))
        yield stack.enter_context(closing(RunLog(directory, config, step)))


def memory_in_use() -> int:
    """Bytes at the peak: of the first device, where it knows, or else of this process."""
    stats = jax.local_devices()[0].memory_stats()
    if stats and "peak_bytes_in_use" in stats:
        return int(stats["peak_bytes_in_use"])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _read(path: Path) -> list[dict[str, int | float]]:
    """The entries in a log, up to a line that a sudden end has left unfinished."""
    entries: list[dict[str, int | float]] = []
    for line in path.read_text().splitlines() if path.is_file() else []:
        try:
            entry = json.loads(line)
        except ValueError:
            break
        if not isinstance(entry, dict) or entry.get("step") != len(entries) + 1:
            break
        entries.append(entry)
    return entries


def _group(name: str) -> str:
    return GROUPS.get(name, "norms" if name.endswith("_norm") else "learning rates")
