"""Who may work in a directory: a command claims one that is free, or its own, and locks others out.

An old run stays until the one that replaces it is whole.
"""

import itertools
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from vrwkv_jax.config import TuneConfig
from vrwkv_jax.media.files import check_place
from vrwkv_jax.parallel.hosts import on_first
from vrwkv_jax.runs import own
from vrwkv_jax.runs.directory import EDITED, RUN, UNFINISHED, EditsDirectory, RunDirectory
from vrwkv_jax.runs.lock import locked
from vrwkv_jax.system.errors import UserError, printable, quoted, setting
from vrwkv_jax.system.interruption import postponed
from vrwkv_jax.system.reporter import SILENT, Reporter
from vrwkv_jax.system.shell import in_shell

LONGEST = 240  # bytes of a directory's name; file systems take 255


def free_directory(config: TuneConfig, reporter: Reporter = SILENT) -> RunDirectory:
    """``config.output``, or the first of runs/NAME, runs/NAME-2, ... that is not there yet.

    ``reporter`` is told of the unfinished ones.

    Raises:
        UserError: ``output`` can't be made, or holds something that must not be replaced, or no run to resume.
    """
    if config.resume:
        if config.overwrite:
            resume, overwrite = setting("resume"), setting("overwrite")
            raise UserError(f"{resume} resumes a run and {overwrite} replaces it: leave one of them out")
        if config.output is None:
            needs = f"{setting('resume')} needs {setting('output')}"
            raise UserError(f"{needs}: name the directory of the run to resume")
        directory = _with_unfinished_run(_named(config.output))
        check_place(directory.working.path, setting("output"))
        return directory
    if config.output is None:
        return _new_directory(config, reporter)
    directory = _named(config.output)
    if directory.path.exists() and not directory.path.is_dir():
        raise UserError(f"{setting('output')} {directory} is a file: name a directory that is not there yet")
    _check_no_replacement(directory)
    beside, waits = directory.replacement, directory.has_replacement()
    if waits and (not config.overwrite or beside.has_work()):
        raise UserError(
            f"{beside} holds a run that is to replace {directory}, {beside.how_far()}: resume it with "
            f"{directory.how_to_resume()}, or remove {beside}"
        )
    if own.is_filled(directory.path):
        if not config.overwrite:
            found, remedies = "is not empty", "name another directory"
            if directory.is_unfinished():
                found = f"holds an unfinished run, {directory.how_far()}"
                remedies = f"resume it with {setting('resume', True)}, {remedies}"
            if directory.is_run():
                remedies += f", or replace the run with {setting('overwrite', True)}"
            raise UserError(f"{setting('output')} {directory} {found}: {remedies}")
        _check_replaceable(directory)
        if own.is_filled(beside.path) and not waits:
            raise UserError(f"{beside} is in the way of a run that is to replace {directory}: move it elsewhere")
    check_place(directory.path, setting("output"))
    return directory


def unfinished_config(output: str) -> TuneConfig:
    """The configuration of the unfinished run in ``output``; UserError where there is none."""
    directory = _with_unfinished_run(_named(output))
    return replace(directory.working.load_config(), output=output, overwrite=False)


@contextmanager
def claimed(directory: RunDirectory, config: TuneConfig, reporter: Reporter = SILENT) -> Iterator[RunDirectory]:
    """Makes ``directory``, keeps other runs out, and gives the one to work in: beside a run that is to be replaced.

    The first of several processes does it for all of them.

    Raises:
        UserError: another run is in there, or has been since ``free_directory`` found it free; or it can't be made.
    """
    with ExitStack() as stack:
        working = on_first(lambda: str(stack.enter_context(_claimed(directory, config, reporter))))
        yield RunDirectory(Path(working))


@contextmanager
def _claimed(directory: RunDirectory, config: TuneConfig, reporter: Reporter) -> Iterator[RunDirectory]:
    try:
        directory.path.mkdir(parents=True, exist_ok=config.output is not None)
    except FileExistsError as error:
        raise UserError(f"{directory} is in use by another run: start again, for another directory") from error
    except OSError as error:
        raise UserError(
            f"{setting('output')} {directory} can't be made ({error.strerror}): name another directory"
        ) from error
    with locked(directory.path):
        free_directory(replace(config, output=str(directory)))
        try:
            working = _working_directory(directory, config.resume, reporter)
            working.path.mkdir(exist_ok=True)
            own.mark(working.path, own.TUNING)
        except OSError as error:
            raise UserError(
                f"{directory.replacement} can't be made anew ({error.strerror}): make room there, or make it writable"
            ) from error
        own.clear_leftovers(working.path, RUN)
        yield working


def put_in_place(working: RunDirectory, directory: RunDirectory, reporter: Reporter = SILENT) -> None:
    """Ends the run: removes what was needed to resume it, and replaces ``directory`` if ``working`` is another one.

    An interruption waits for that. What somebody has put into ``directory`` meanwhile is moved beside it.
    """
    path = directory.path
    old = path.with_name(f".{path.name}.old")
    with postponed(f"putting the run into {directory}"):
        own.remove(working.unfinished, UNFINISHED)
        if working != directory:
            if RunDirectory(old).is_run():  # of a process that was killed in here
                own.remove(old, RUN)
            if os.path.lexists(old):
                old = _free_name(path)
            path.rename(old)
            working.path.rename(path)
            if RunDirectory(old).is_run() or not own.is_filled(old):
                own.remove(old, RUN)
            if old.exists():
                moved = _free_name(path)
                old.rename(moved)
                reporter.say(f"what was not the earlier run's is now in {printable(moved)}")


@contextmanager
def claimed_for_edits(run: RunDirectory, output: str | None) -> Iterator[EditsDirectory]:
    """Makes ``output``, or the first of edits-2, edits-3, ... in ``run`` that is not there yet, and keeps others out.

    It is made before the work, so that a command that starts meanwhile takes another; if it stays empty, it is removed.

    Raises:
        UserError: it can't be made, or holds something else than what an interrupted command has left.
    """
    directory = EditsDirectory(Path(output or run.path))
    check_place(directory.path, setting("output"))
    made = True
    try:
        if output is None:
            numbered = (run.edits_again(number) for number in itertools.count(2))
            directory = next(edits for edits in numbered if _made(edits.path))
        else:
            made = _made(directory.path)
        if not made and directory.is_taken():
            raise UserError(f"{setting('output')} {directory} is there already and not empty: name another directory")
    except OSError as error:
        raise UserError(
            f"{setting('output')} {directory} can't be made ({error.strerror}): name another directory"
        ) from error
    try:
        with locked(directory.path):
            own.clear_leftovers(directory.path, EDITED)
            yield directory
    finally:
        for empty in (directory.unfinished, *([directory.path] if made else [])):
            with suppress(OSError):  # as it holds something
                empty.rmdir()


def _made(path: Path) -> bool:
    """Whether the directory was not there before."""
    try:
        path.mkdir(parents=True)
    except FileExistsError:
        return False
    return True


def _new_directory(config: TuneConfig, reporter: Reporter) -> RunDirectory:
    """The first of runs/NAME, runs/NAME-2, ... that is not there yet."""
    stem = "small-clip" if config.clip.video is None else Path(os.path.abspath(config.clip.video)).stem[:80]
    for number in itertools.count(1):
        directory = RunDirectory(Path("runs") / (stem if number == 1 else f"{stem}-{number}"))
        unfinished = directory.is_unfinished()
        if not directory.path.exists() and not unfinished:
            break
        if unfinished:
            working = directory.working
            reporter.say(
                f"{printable(working)} holds an unfinished run, {working.how_far()}: to resume it, use "
                f"{directory.how_to_resume()}; this is a new run"
            )
    check_place(directory.path, "the run's directory")
    return directory


def _working_directory(directory: RunDirectory, resume: bool, reporter: Reporter) -> RunDirectory:
    """Where to work. A new run removes an earlier replacement, in which ``free_directory`` has seen no work."""
    if resume:
        working = directory.working
        if working != directory:
            reporter.say(f"resuming {printable(working)}, which is to replace {printable(directory)}")
        return working
    if directory.has_replacement():
        own.remove(directory.replacement.path, RUN)
    return directory.replacement if own.is_filled(directory.path) else directory


def _with_unfinished_run(directory: RunDirectory) -> RunDirectory:
    _check_no_replacement(directory)
    if directory.is_unfinished():
        working = directory.working
        own.check_no_impostors(working.path, RUN)
        if working != directory and own.is_filled(directory.path):
            _check_replaceable(directory)
        return directory
    if directory.is_run() and directory.config.is_file():
        raise UserError(
            f"the run in {directory} is finished, so there is nothing to resume: edit its clip again with "
            f"python -m vrwkv_jax.edit {in_shell(directory)}, or tune anew with {setting('overwrite', True)}"
        )
    raise UserError(
        f"{setting('output')} {directory} holds no run to resume: leave {setting('resume')} out to start one"
    )


def _named(output: str) -> RunDirectory:
    """``output`` by a path that ends in its name, as "." does not.

    Raises:
        UserError: it is the root of all files, or the home directory; or its name is too long for the file system,
            with what is added to it while a run replaces another.
    """
    directory = Path(output) if Path(output).name not in ("", "..") else Path(os.path.abspath(output))
    if long := next((part for part in directory.parts if len(os.fsencode(part)) > LONGEST), None):
        raise UserError(f"{setting('output')} has a name of {len(long)} letters, {quoted(long)}: choose a shorter one")
    place = os.path.realpath(directory)
    for path, what in ((os.path.sep, "the root of all files"), (os.path.expanduser("~"), "your home directory")):
        if place == os.path.realpath(path):
            raise UserError(f"{setting('output')} {output} is {what}: name a directory in it")
    return RunDirectory(directory)


def _check_no_replacement(directory: RunDirectory) -> None:
    """Raises ``UserError`` where ``directory`` holds a run that is to replace another: that one is to be resumed."""
    if replaced := directory.replaced:
        what = f"{setting('output')} {directory} holds a run that is to replace {replaced}"
        raise UserError(f"{what}: name {replaced} instead")


def _check_replaceable(directory: RunDirectory) -> None:
    """Raises UserError where ``directory`` is more or less than a run, or its place can't be taken."""
    path, named, overwrite = directory.path, f"{setting('output')} {directory}", setting("overwrite")
    if path.is_symlink():
        raise UserError(f"{named} is a link to {path.resolve()}, which {overwrite} does not touch: name that one")
    if not directory.is_run():
        raise UserError(f"{named} holds no run of train.tune, so {overwrite} does not touch it")
    if os.path.ismount(path):
        raise UserError(f"{named} is a mount point, which no other directory can replace: name another directory")
    if others := own.strange(path, RUN):
        raise UserError(
            f"{named} holds what its run did not write ({own.listed(others, path)}), so {overwrite} "
            "does not touch it: move that elsewhere, or name another directory"
        )


def _free_name(path: Path) -> Path:
    """The first of NAME.old, NAME.old-2, ... that is not there."""
    names = (f"{path.name}.old" + (f"-{number}" if number > 1 else "") for number in itertools.count(1))
    return next(other for other in map(path.with_name, names) if not os.path.lexists(other))
