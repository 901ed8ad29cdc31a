"""One command at a time, in a process of its own: it outlives the page and the studio, and any studio finds it again.

All that is known of it is in files. The process holds a lock on one of them as long as it lives, so that neither a
process id that was given again nor a studio that was killed can deceive; how it ended says what it left behind.
"""

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from enum import Enum
from pathlib import Path

from vrwkv_jax.media.files import replacing
from vrwkv_jax.runs.directory import EditsDirectory, RunDirectory
from vrwkv_jax.runs.lock import is_locked
from vrwkv_jax.studio.places import Places
from vrwkv_jax.studio.progress import Progress, read_progress
from vrwkv_jax.system.errors import UserError, printable
from vrwkv_jax.system.shell import line_in_shell

PROGRAM = (sys.executable, "-m", "vrwkv_jax")
PATIENCE = 1.0
"""Seconds in which a lock that others only look at becomes free."""


@dataclass(frozen=True)
class Job:
    """A command that was started."""

    words: tuple[str, ...]
    """The command as one would type it after ``vrwkv``: ("tune", "--steps", "10", ...)."""
    directory: str
    """What it fills: the directory of a run (tune) or of edits (edit), or a file (mask)."""
    started: float
    """Seconds since 1970."""
    pid: int | None = None
    """None in the moment before it is known."""
    stopping: bool = False
    """Whether it was told to stop."""

    @property
    def kind(self) -> str:
        """The command: tune, edit or mask."""
        return self.words[0]


class State(Enum):
    RUNNING = "running"
    STOPPING = "stopping"
    FINISHED = "finished"
    STOPPED = "stopped"
    FAILED = "failed"


@dataclass(frozen=True)
class Status:
    """A job, and how it is."""

    job: Job
    state: State
    progress: Progress
    can_go_on: bool
    """Whether there is something to go on with."""

    @property
    def is_running(self) -> bool:
        return self.state in (State.RUNNING, State.STOPPING)

    @property
    def error(self) -> str | None:
        """Why it failed, in a sentence."""
        if self.state is not State.FAILED:
            return None
        return self.progress.error or "it ended without a word, as a process that is killed does"


class Jobs:
    """The job in ``places``: what runs, or ran last. ``program`` is what the words of a command are given to."""

    def __init__(self, places: Places, program: Sequence[str] = PROGRAM):
        self._places, self._program = places, tuple(program)

    def status(self) -> Status | None:
        """Of the job that runs or ran last, if there ever was one."""
        job = self._job()
        if job is None:
            return None
        running, progress = self._is_locked(), read_progress(self._places.log)
        if running:
            state = State.STOPPING if job.stopping else State.RUNNING
        elif _is_whole(job) and progress.error is None:
            state = State.FINISHED
        elif job.stopping or progress.interrupted:
            state = State.STOPPED
        else:
            state = State.FAILED
        return Status(job, state, progress, not running and _is_unfinished(job))

    def start(self, words: Sequence[str], directory: str | Path, check: Callable[[], None] = lambda: None) -> Job:
        """Starts ``vrwkv WORDS``, which fills ``directory``. ``check`` may refuse once no other job can start.

        Raises:
            UserError: another job runs, or the system refuses.
        """
        with open(self._places.lock, "ab") as lock:
            self._take(lock.fileno())
            check()
            job = Job(tuple(words), str(directory), time.time())
            self._write(job)
            try:
                with open(self._places.log, "wb") as log:
                    process = subprocess.Popen(
                        [*self._program, *words],
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=subprocess.STDOUT,
                        start_new_session=True,
                        pass_fds=[lock.fileno()],  # the lock is held by all that have it open
                        env={"TQDM_MININTERVAL": "0.5", **os.environ, "PYTHONUNBUFFERED": "1"},
                    )
            except OSError as error:
                raise UserError(f"vrwkv {words[0]} can't be started ({error.strerror}): try again") from error
            job = replace(job, pid=process.pid)
            self._write(job)
        _wait_for_its_end(process)
        with suppress(OSError), self._places.commands.open("a") as commands:
            commands.write(json.dumps({"directory": os.path.abspath(job.directory), "words": job.words}) + "\n")
        return job

    def stop(self) -> None:
        """Tells the job that runs to stop: it finishes its step and saves it. Told again, it stops at once.

        As SIGTERM: what runs in the background of a shell may not hear SIGINT. Nothing happens where nothing runs.
        """
        job = self._job()
        if job is None or job.pid is None or not self._is_locked():
            return
        self._write(replace(job, stopping=True))
        with suppress(ProcessLookupError):  # just ended
            os.kill(job.pid, signal.SIGTERM)

    def go_on(self) -> Job:
        """Goes on with the job that was stopped, or failed, or was killed.

        Raises:
            UserError: there is nothing to go on with, or another job runs.
        """
        status = self.status()
        if status is None or not status.can_go_on:
            raise UserError("there is nothing to go on with: start a new run")
        job = status.job
        return self.start(resuming(job.directory) if job.kind == "tune" else job.words, job.directory)

    def words_of(self, directory: Path) -> list[str] | None:
        """The last command that was started here to fill ``directory``, if there was one."""
        found = None
        with suppress(OSError, ValueError, KeyError):
            for line in self._places.commands.read_text().splitlines():
                entry = json.loads(line)
                if entry["directory"] == os.path.abspath(directory) and "--resume" not in entry["words"]:
                    found = entry["words"]
        return found

    def check_free(self) -> None:
        """Raises UserError where a job runs."""
        if self._is_locked():
            raise UserError(self._is_busy())

    def _is_busy(self) -> str:
        job = self._job()
        what = "another job" if job is None else f"a job for {printable(Path(job.directory).name)}"
        return f"{what} is running, and there is one at a time: wait for its end, or stop it"

    def _job(self) -> Job | None:
        try:
            data = json.loads(self._places.job.read_text())
            return Job(**{**data, "words": tuple(data["words"])})
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def _write(self, job: Job) -> None:
        with replacing(self._places.job) as part:
            part.write_text(json.dumps(asdict(job)) + "\n")

    def _is_locked(self) -> bool:
        return is_locked(self._places.lock)

    def _take(self, lock: int) -> None:
        """Locks, for itself and the process that will inherit it."""
        until = time.monotonic() + PATIENCE
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() > until:
                    raise UserError(self._is_busy()) from None
                time.sleep(0.02)
            except OSError as error:
                raise UserError(
                    f"{self._places.runs} is on a file system without locks ({error.strerror}): name another by --runs"
                ) from error


def resuming(directory: str | Path) -> tuple[str, ...]:
    """The words that go on with the run in ``directory``."""
    return ("tune", "--output", str(directory), "--resume")


def line_of(words: Sequence[str]) -> str:
    """A command as one would type it."""
    return line_in_shell(["vrwkv", *words])


def _is_whole(job: Job) -> bool:
    if job.kind == "tune":
        return RunDirectory(Path(job.directory)).is_finished()
    if job.kind == "edit":
        edits = EditsDirectory(Path(job.directory))
        return edits.contact_sheet.is_file() and not edits.is_unfinished()
    return Path(job.directory).is_file()


def _is_unfinished(job: Job) -> bool:
    if job.kind == "tune":
        return RunDirectory(Path(job.directory)).is_unfinished()
    return job.kind == "edit" and EditsDirectory(Path(job.directory)).is_unfinished()


def _wait_for_its_end(process: "subprocess.Popen[bytes]") -> None:
    """In a thread, for the system to forget the process once it has ended."""
    threading.Thread(target=process.wait, daemon=True).start()
