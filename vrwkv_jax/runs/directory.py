"""Where a run goes: a place that is free, or its own; and an old run stays until the new one is whole."""

import itertools
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from vrwkv_jax.config import TuneConfig, load_yaml
from vrwkv_jax.config.yaml_text import read_mapping
from vrwkv_jax.media.files import check_place
from vrwkv_jax.parallel.hosts import on_first
from vrwkv_jax.runs import own
from vrwkv_jax.runs.checkpoints import Checkpoints
from vrwkv_jax.runs.kept import UNFINISHED
from vrwkv_jax.runs.lock import locked
from vrwkv_jax.runs.run import CONFIG, LOG, METRICS, RECONSTRUCTION, SOURCE, TRAJECTORY, TUNED
from vrwkv_jax.system.errors import UserError, printable, quoted
from vrwkv_jax.system.interruption import postponed
from vrwkv_jax.system.reporter import SILENT, Reporter
from vrwkv_jax.system.shell import in_shell

LONGEST = 240  # bytes of a directory's name; file systems take 255
NEW = ".new"
"""What is added to the name of a run to name the one that is to replace it."""


def free_directory(config: TuneConfig, reporter: Reporter = SILENT) -> Path:
    """``--output``, or the first of runs/NAME, runs/NAME-2, ... that is not there yet.

    ``reporter`` is told of the unfinished ones.

    Raises:
        UserError: ``--output`` can't be made, or holds something that must not be replaced, or no run to resume.
    """
    if config.resume:
        if config.overwrite:
            raise UserError("--resume goes on with a run and --overwrite replaces it: leave one of them out")
        if config.output is None:
            raise UserError("--resume needs --output: name the directory of the run to go on with")
        directory = _with_unfinished_run(_named(config.output))
        check_place(working_directory(directory), "--output")
        return directory
    if config.output is None:
        stem = "small-clip" if config.clip.video is None else Path(config.clip.video).stem[:80]
        for number in itertools.count(1):
            directory = Path("runs") / (stem if number == 1 else f"{stem}-{number}")
            if not directory.exists() and not is_unfinished(directory):
                break
            if is_unfinished(directory):
                working = working_directory(directory)
                reporter.say(
                    f"{printable(working)} holds an unfinished run, {how_far(working)}: to go on with it, use "
                    f"{resuming(directory)}; this is a new one"
                )
        check_place(directory, "the run's directory")
        return directory
    directory = _named(config.output)
    if directory.exists() and not directory.is_dir():
        raise UserError(f"--output {directory} is a file: name a directory that is not there yet")
    _check_no_replacement(directory)
    beside = _beside(directory)
    if _is_to_replace(beside, directory) and (not config.overwrite or _has_work(beside)):
        raise UserError(
            f"{beside} holds a run that is to replace {directory}, {how_far(beside)}: go on with it by "
            f"{resuming(directory)}, or remove {beside}"
        )
    if own.is_filled(directory):
        if not config.overwrite:
            found, remedies = "is not empty", "name another directory"
            if is_unfinished(directory):
                found, remedies = f"holds an unfinished run, {how_far(directory)}", f"go on with --resume, {remedies}"
            if is_run(directory):
                remedies += ", or replace the run with --overwrite"
            raise UserError(f"--output {directory} {found}: {remedies}")
        _check_replaceable(directory)
        if own.is_filled(beside) and not _is_to_replace(beside, directory):
            raise UserError(f"{beside} is in the way of a run that is to replace {directory}: move it elsewhere")
    check_place(directory, "--output")
    return directory


def unfinished_config(output: str) -> TuneConfig:
    """The configuration of the unfinished run in ``--output``, to go on with; UserError where there is none."""
    directory = _with_unfinished_run(_named(output))
    config = load_yaml(TuneConfig, working_directory(directory) / CONFIG)
    return replace(config, output=output, overwrite=False)


def working_directory(directory: Path) -> Path:
    """Where a run that is to be resumed lies: in ``directory``, or beside it until it takes its place."""
    beside = _beside(directory)
    return beside if _is_to_replace(beside, directory) else directory


@contextmanager
def claimed(directory: Path, config: TuneConfig, reporter: Reporter = SILENT) -> Iterator[Path]:
    """Makes ``directory``, keeps other runs out, and gives the one to work in: beside a run that is to be replaced.

    The first of several processes does it for all of them.

    Raises:
        UserError: another run is in there, or has been since ``free_directory`` found it free; or the system does not
            let it be made.
    """
    with ExitStack() as stack:
        yield Path(on_first(lambda: str(stack.enter_context(_claimed(directory, config, reporter)))))


@contextmanager
def _claimed(directory: Path, config: TuneConfig, reporter: Reporter) -> Iterator[Path]:
    try:
        directory.mkdir(parents=True, exist_ok=config.output is not None)
    except FileExistsError as error:
        raise UserError(f"{directory} is in use by another run: start again, for another directory") from error
    except OSError as error:
        raise UserError(f"--output {directory} can't be made ({error.strerror}): name another directory") from error
    with locked(directory):
        free_directory(replace(config, output=str(directory)))
        try:
            working = _working_directory(directory, config.resume, reporter)
            working.mkdir(exist_ok=True)
            own.mark(working, own.TUNING)
        except OSError as error:
            raise UserError(
                f"{_beside(directory)} can't be made anew ({error.strerror}): make room there, or make it writable"
            ) from error
        own.clear_leftovers(working, own.RUN)
        yield working


def put_in_place(working: Path, directory: Path, reporter: Reporter = SILENT) -> None:
    """Ends the run: drops what was kept to go on with it, and replaces ``directory`` if ``working`` is another one.

    An interruption waits for that. What somebody has put into ``directory`` meanwhile is kept beside it.
    """
    old = directory.with_name(f".{directory.name}.old")
    with postponed(f"putting the run into {directory}"):
        own.remove(working / UNFINISHED, own.CHECKPOINTS)
        if working != directory:
            if is_run(old):  # of a process that was killed in here
                own.remove(old, own.RUN)
            if os.path.lexists(old):
                old = _free_name(directory)
            directory.rename(old)
            working.rename(directory)
            if is_run(old) or not own.is_filled(old):
                own.remove(old, own.RUN)
            if old.exists():
                kept = _free_name(directory)
                old.rename(kept)
                reporter.say(f"what was not the earlier run's is kept in {printable(kept)}")


def resuming(directory: Path) -> str:
    """The flags that go on with the run in ``directory``."""
    return f"--output {in_shell(directory)} --resume"


def how_far(working: Path) -> str:
    """In words, what an unfinished run would go on from."""
    if (working / METRICS).is_file():
        return "finished but for tidying up"
    steps = steps_kept(working)
    return f"kept up to step {steps} of its tuning" if steps else "stopped before its first checkpoint"


def steps_kept(working: Path) -> int:
    """How many steps of tuning an unfinished run need not do again."""
    return max(Checkpoints(working / UNFINISHED).steps, default=0)


def is_unfinished(directory: Path) -> bool:
    """Whether ``--resume`` goes on with a run in ``directory``, or with one that is to replace it."""
    if _is_to_replace(_beside(directory), directory):
        return True
    is_whole = (directory / METRICS).is_file() and not own.wrote(directory / UNFINISHED, own.CHECKPOINTS)
    return is_run(directory) and (directory / CONFIG).is_file() and not is_whole


def is_run(directory: Path) -> bool:
    """Whether ``python -m train.tune`` has written ``directory``: by its mark, or, as earlier versions set none, by all
    the names of a run and a configuration with every section.
    """
    if own.is_marked(directory, own.TUNING):
        return True
    names = {path.name for path in directory.iterdir()} if directory.is_dir() else set()
    begun = {CONFIG, LOG, "tensorboard"}
    if not names >= begun or not (UNFINISHED in names or names >= {METRICS, TUNED, TRAJECTORY, SOURCE, RECONSTRUCTION}):
        return False
    try:
        load_yaml(TuneConfig, directory / CONFIG)
        return read_mapping(directory / CONFIG).keys() >= {"prompt", "seed", "clip", "video_model", "tuning", "editing"}
    except UserError:
        return False


def _working_directory(directory: Path, resume: bool, reporter: Reporter) -> Path:
    """Where to work. A new run drops a replacement of ``directory`` that ``free_directory`` has found to be no loss."""
    if resume:
        working = working_directory(directory)
        if working != directory:
            reporter.say(f"going on with {printable(working)}, which is to replace {printable(directory)}")
        return working
    beside = _beside(directory)
    if _is_to_replace(beside, directory):
        own.remove(beside, own.RUN)
    return beside if own.is_filled(directory) else directory


def _with_unfinished_run(directory: Path) -> Path:
    _check_no_replacement(directory)
    if is_unfinished(directory):
        working = working_directory(directory)
        own.check_no_impostors(working, own.RUN)
        if working != directory and own.is_filled(directory):
            _check_replaceable(directory)
        return directory
    if is_run(directory) and (directory / CONFIG).is_file():
        raise UserError(
            f"the run in {directory} is finished, so there is nothing to resume: edit its clip again with "
            f'python -m vrwkv_jax.edit {in_shell(directory)} --prompt "...", or tune anew with --overwrite'
        )
    raise UserError(f"--output {directory} holds no run to resume: leave --resume out to start one")


def _named(output: str) -> Path:
    """``output`` by a path that ends in its name, as "." does not.

    Raises:
        UserError: it is the root of all files, or the home directory, which are nobody's run; or its name is too long
            for the file system, with what is added to it while a run replaces another.
    """
    directory = Path(output) if Path(output).name not in ("", "..") else Path(os.path.abspath(output))
    if long := next((part for part in directory.parts if len(os.fsencode(part)) > LONGEST), None):
        raise UserError(f"--output has a name of {len(long)} letters, {quoted(long)}: choose a shorter one")
    place = os.path.realpath(directory)
    for path, what in ((os.path.sep, "the root of all files"), (os.path.expanduser("~"), "your home directory")):
        if place == os.path.realpath(path):
            raise UserError(f"--output {output} is {what}: name a directory in it")
    return directory


def _check_replaceable(directory: Path) -> None:
    """Raises UserError where ``directory`` is more or less than a run, or its place can't be taken."""
    if directory.is_symlink():
        raise UserError(
            f"--output {directory} is a link to {directory.resolve()}, which --overwrite does not touch: name that one"
        )
    if not is_run(directory):
        raise UserError(f"--output {directory} holds no run of train.tune, so --overwrite does not touch it")
    if os.path.ismount(directory):
        raise UserError(
            f"--output {directory} is a mount point, which no other directory can replace: name another directory"
        )
    if others := own.strange(directory, own.RUN):
        raise UserError(
            f"--output {directory} holds what its run did not write ({own.listed(others, directory)}), so --overwrite "
            "does not touch it: move that elsewhere, or name another directory"
        )


def _free_name(directory: Path) -> Path:
    """The first of NAME.old, NAME.old-2, ... that is not there."""
    names = (f"{directory.name}.old" + (f"-{number}" if number > 1 else "") for number in itertools.count(1))
    return next(path for path in map(directory.with_name, names) if not os.path.lexists(path))


def _beside(directory: Path) -> Path:
    return directory.with_name(f"{directory.name}{NEW}")


def _is_to_replace(beside: Path, directory: Path) -> bool:
    """Whether the run in ``beside`` was started to take the place of ``directory``."""
    if not is_run(beside) or not (beside / CONFIG).is_file():
        return False
    output = load_yaml(TuneConfig, beside / CONFIG).output
    return output is not None and Path(output).name == directory.name


def _check_no_replacement(directory: Path) -> None:
    """Raises ``UserError`` where ``directory`` holds a run that is to replace another: it is that one's to go on."""
    replaced = directory.with_name(directory.name.removesuffix(NEW))
    if replaced != directory and _is_to_replace(directory, replaced):
        raise UserError(f"--output {directory} holds a run that is to replace {replaced}: name {replaced} instead")


def _has_work(working: Path) -> bool:
    """Whether there is more than the beginning of a run."""
    return (working / METRICS).is_file() or bool(Checkpoints(working / UNFINISHED).steps)
