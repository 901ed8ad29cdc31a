"""``vrwkv edit RUN --prompt "..."``, or ``python -m vrwkv_jax.edit``: edit a run's clip again, without tuning."""

import itertools
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache, partial
from pathlib import Path

from vrwkv_jax.commands.terminal import TERMINAL
from vrwkv_jax.config import parse_edit_command
from vrwkv_jax.media.files import check_place
from vrwkv_jax.media.video import read_video, video_fps
from vrwkv_jax.parallel.devices import check_devices
from vrwkv_jax.runs import own
from vrwkv_jax.runs.ahead import start_editing
from vrwkv_jax.runs.kept import UNFINISHED, Kept
from vrwkv_jax.runs.lock import locked
from vrwkv_jax.runs.results import (
    Clip,
    check_edits,
    invert_and_reconstruct,
    make_edits,
    of_inversion,
    write_results,
)
from vrwkv_jax.runs.run import RECONSTRUCTION, SOURCE, FinishedRun, load_run
from vrwkv_jax.system.choices import chosen_bi_wkv
from vrwkv_jax.system.compiled import keep_compiled_programs
from vrwkv_jax.system.errors import UserError, WriteError, printable, write_errors
from vrwkv_jax.system.shell import in_shell


def main(argv: Sequence[str] | None = None) -> None:
    """The whole command. The run is left as it is; the edits go into a directory of their own."""
    load = cache(load_run)
    command = parse_edit_command(sys.argv[1:] if argv is None else argv, lambda directory: load(directory).config)
    if not command.prompts:
        raise UserError('--prompt is missing: say what the edited clip shall show, such as --prompt "a red jeep"')
    check_devices()
    run = load(command.run)
    config = command.applied_to(run.config)
    bi_wkv = chosen_bi_wkv(config.bi_wkv)
    with _claimed(run, command.output) as directory:
        keep_compiled_programs()
        source, reconstruction, fps = _source(run, config.editing.fps)
        TERMINAL.say(f"loading {printable(config.model or 'the small built-in model')}")
        editor = run.editor(config)
        TERMINAL.say(f"computing in {editor.dtype}, Bi-WKV by {bi_wkv}")
        check_edits(editor, config, TERMINAL.say)
        kept = Kept(directory / UNFINISHED, run.metrics)  # whose times and date no other run has
        inversion, inverts = run.inversion, of_inversion(config) != of_inversion(run.config)
        start_editing(editor, source, config, inverts=inverts)
        if inverts:
            inversion, reconstruction = invert_and_reconstruct(editor, inversion.source, config, kept, TERMINAL)
        edits = make_edits(editor, inversion, config, kept, TERMINAL)
        written = write_results(directory, source, reconstruction, edits, fps)
        own.remove(directory / UNFINISHED, own.KEPT)
    print("\nwrote " + "\n      ".join(map(printable, written)))


@contextmanager
def _claimed(run: FinishedRun, output: str | None) -> Iterator[Path]:
    """Makes ``--output``, or the first of RUN/edits-2, RUN/edits-3, ... that is not there yet, and keeps others out.

    It is there before the work, so that a command that starts meanwhile takes another; if it stays empty, it goes.

    Raises:
        UserError: it can't be made, or holds something else than what an interrupted command has left.
    """
    directory = Path(output or run.directory)
    check_place(directory, "--output")
    made = True
    try:
        if output is None:
            directory = next(filter(_made, (run.directory / f"edits-{n}" for n in itertools.count(2))))
        else:
            made = _made(directory)
        if not made and _is_taken(directory):
            raise UserError(f"--output {directory} is there already and not empty: name another directory")
    except OSError as error:
        raise UserError(f"--output {directory} can't be made ({error.strerror}): name another directory") from error
    try:
        with locked(directory), _what_to_do_next(directory):
            own.clear_leftovers(directory, own.EDITED)
            yield directory
    finally:
        for empty in (directory / UNFINISHED, *([directory] if made else [])):
            with suppress(OSError):  # as it holds something
                empty.rmdir()


@contextmanager
def _what_to_do_next(directory: Path) -> Iterator[None]:
    """Ends an interruption, or a write that the system refused, with how to go on."""
    output = f"--output {in_shell(directory)}"
    next_step = f"{directory} keeps what is done: go on with the same command and {output}"
    try:
        with write_errors(directory):
            yield
    except KeyboardInterrupt as interruption:
        if not any(directory.glob(f"{UNFINISHED}/*")):
            raise
        raise type(interruption)(next_step) from None
    except WriteError as error:
        raise WriteError(f"{error}; {next_step}") from error


def _is_taken(directory: Path) -> bool:
    """Whether it holds something else than what an interrupted command has left."""
    if own.strange(directory, own.EDITED):
        return True
    return own.is_filled(directory) and not (directory / UNFINISHED).is_dir()


def _made(directory: Path) -> bool:
    """Whether ``directory`` was not there before."""
    try:
        directory.mkdir(parents=True)
    except FileExistsError:
        return False
    return True


def _source(run: FinishedRun, fps: int | None) -> tuple[Clip, Clip, float]:
    """The clip and its reconstruction as the run wrote them, and the frames per second to write: ``fps``, or theirs."""
    clip = run.config.clip
    read = partial(read_video, frames=clip.frames, width=clip.width, height=clip.height)
    source = run.directory / SOURCE
    return read(source), read(run.directory / RECONSTRUCTION), float(fps) if fps else video_fps(source)
