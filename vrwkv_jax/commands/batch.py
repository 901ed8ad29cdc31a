"""``python -m train.tune --batch``: many runs, one after another, each in a process of its own.

So memory does not grow; compiled programs are reused by way of the user's cache directory.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from vrwkv_jax.commands.terminal import TERMINAL
from vrwkv_jax.config import TuneConfig, save_yaml
from vrwkv_jax.config.batch import read_batch
from vrwkv_jax.media.video import proportion
from vrwkv_jax.runs.claim import free_directory
from vrwkv_jax.runs.directory import RunDirectory
from vrwkv_jax.system.errors import UserError, printable
from vrwkv_jax.system.interruption import Terminated


def run_batch(path: str, shared: Sequence[str]) -> None:
    """Runs the jobs in the file ``path``; ``shared`` are flags for all of them.

    Raises:
        UserError: before the first one starts, what is wrong with any of them.
        SystemExit: with status 1, where jobs have failed and the others are done.
    """
    jobs = [_job(config) for config in read_batch(path, shared)]
    _check(jobs, path)
    failed: list[str] = []
    durations: list[float] = []
    for number, config in enumerate(jobs, start=1):
        name = f"job {number} of {len(jobs)}, {printable(config.output)}"
        if _is_finished(config):
            TERMINAL.say(f"{name}: finished already")
            continue
        left = sum(not _is_finished(job) for job in jobs[number - 1 :])
        likely = f", {left} to do, about {left * sum(durations) / len(durations) / 60:.0f} min" if durations else ""
        TERMINAL.say(f"{name}{', resumed' if config.resume else ''}{likely}")
        started = time.perf_counter()
        if _run(config) != 0:
            TERMINAL.say(f"{name}: failed")
            failed.append(printable(config.output))
        else:
            durations.append(time.perf_counter() - started)
    done = len(jobs) - len(failed)
    print(f"\n{done} of {len(jobs)} jobs are finished" + (f"; failed: {', '.join(failed)}" if failed else ""))
    if failed:
        raise SystemExit(1)


def _job(config: TuneConfig) -> TuneConfig:
    """A job as its command is given it."""
    unfinished = config.output is not None and RunDirectory(Path(config.output)).is_unfinished()
    return replace(config, resume=unfinished)


def _is_finished(config: TuneConfig) -> bool:
    directory = RunDirectory(Path(config.output or ""))
    return directory.is_run() and directory.is_finished()


def _check(jobs: Sequence[TuneConfig], path: str) -> None:
    """Raises UserError that names each job which could not start."""
    mistakes: list[str] = []
    outputs: dict[str, int] = {}
    for number, config in enumerate(jobs, start=1):
        name = f"{path}, job {number}"
        if config.output is None:
            mistakes.append(f"{name} has no `output`: name the directory of its run")
            continue
        first = outputs.setdefault(os.path.realpath(config.output), number)
        if first != number:
            mistakes.append(f"{name} has the `output` of job {first}, {config.output}: name another directory")
        elif not _is_finished(config):
            try:
                _check_job(config)
            except UserError as error:
                mistakes.append(f"{name}: {error}")
    if mistakes:
        raise UserError("\n".join(mistakes))


def _check_job(config: TuneConfig) -> None:
    if config.clip.video is not None:
        if config.prompt is None:
            raise UserError(
                f"`prompt` is missing: say what {config.clip.video} shows, such as 'a jeep turns on a road'"
            )
        proportion(config.clip.video)
    mask, model = config.controls.mask, config.model
    if mask is not None and not os.path.exists(mask):
        raise UserError(f"the mask {printable(mask)} is not there: check the name of the file")
    if model is not None and model.startswith(("/", ".")) and not os.path.exists(model):
        raise UserError(f"the model {printable(model)} is not there: check its path")
    free_directory(config)


def _run(config: TuneConfig) -> int:
    """The exit status of a job. An interruption is its own, too: it saves what it has done, and then this raises it."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Path(folder) / "job.yaml"
        save_yaml(replace(config, resume=False), settings)
        flags = ["--config", str(settings), "--output", str(config.output), *(["--resume"] if config.resume else [])]
        process = subprocess.Popen([sys.executable, "-m", "vrwkv_jax", "tune", *flags])
        try:
            return process.wait()
        except KeyboardInterrupt as interruption:
            if isinstance(interruption, Terminated):  # Ctrl-C goes to both
                process.terminate()
            process.wait()
            raise type(interruption)("the same command goes on with this job and those after it") from None
