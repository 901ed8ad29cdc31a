"""``vrwkv edit RUN --prompt "..."``, or ``python -m vrwkv_jax.edit``: edit a run's clip again, without tuning."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

from vrwkv_jax.commands.terminal import TERMINAL
from vrwkv_jax.config import TuneConfig, messages_name_flags, parse_edit_command
from vrwkv_jax.media.reader import VideoReader
from vrwkv_jax.media.video import read_video
from vrwkv_jax.media.writer import Timing
from vrwkv_jax.parallel.devices import check_devices
from vrwkv_jax.runs import own
from vrwkv_jax.runs.ahead import start_editing
from vrwkv_jax.runs.claim import claimed_for_edits
from vrwkv_jax.runs.directory import UNFINISHED_EDITS, EditsDirectory
from vrwkv_jax.runs.kept import RESULTS, Kept
from vrwkv_jax.runs.long.edits import check_long
from vrwkv_jax.runs.long.run import edit_again
from vrwkv_jax.runs.results import (
    Clip,
    check_edits,
    invert_and_reconstruct,
    make_edits,
    of_inversion,
    write_results,
)
from vrwkv_jax.runs.row_calls import RowCalls, in_words
from vrwkv_jax.runs.run import FinishedRun, load_run
from vrwkv_jax.system.choices import chosen_bi_wkv
from vrwkv_jax.system.compiled import keep_compiled_programs
from vrwkv_jax.system.errors import UserError, WriteError, printable, write_errors
from vrwkv_jax.system.shell import in_shell


@messages_name_flags()
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
    with claimed_for_edits(run.directory, command.output) as directory, _says_how_to_resume(directory):
        keep_compiled_programs()
        directory = replace(directory, format=config.editing.format)
        if config.long_video.long is not None:
            _edit_long(run, config, directory)
            return
        source, reconstruction, timing = _source(run, config.editing.fps)
        TERMINAL.say(f"loading {printable(config.model or 'the small built-in model')}")
        editor = run.editor(config)
        TERMINAL.say(f"computing in {editor.dtype}, Bi-WKV by {bi_wkv}")
        check_edits(editor, config, TERMINAL.say)
        kept = Kept(directory.unfinished, run.metrics)  # whose times and date no other run has
        inversion, inverts = run.inversion, of_inversion(config) != of_inversion(run.config)
        start_editing(editor, source, config, inverts=inverts)
        row_calls = RowCalls()
        if inverts:
            inversion, reconstruction = invert_and_reconstruct(
                editor, inversion.source, config, kept, TERMINAL, row_calls
            )
        edits = make_edits(editor, inversion, config, kept, TERMINAL, row_calls)
        written = write_results(directory, source, reconstruction, edits, timing, config.editing.crf)
        own.remove(directory.unfinished, RESULTS)
    _report(written, row_calls)


def _edit_long(run: FinishedRun, config: TuneConfig, directory: EditsDirectory) -> None:
    TERMINAL.say(f"loading {printable(config.model or 'the small built-in model')}")
    editor = run.editor(config)
    check_long(editor, config)
    row_calls = RowCalls()
    written = edit_again(run, editor, config, directory, TERMINAL, row_calls)
    own.remove(directory.unfinished, UNFINISHED_EDITS)
    _report(written, row_calls)


def _report(written: list[Path], row_calls: RowCalls) -> None:
    print("\nwrote " + "\n      ".join(map(printable, written)) + f"\n{in_words(row_calls)}")


@contextmanager
def _says_how_to_resume(directory: EditsDirectory) -> Iterator[None]:
    """Ends an interruption, or a write that the system refused, with the command that resumes the edits."""
    output = f"--output {in_shell(directory)}"
    next_step = f"{directory} holds what is done: resume with the same command and {output}"
    try:
        with write_errors(directory.path):
            yield
    except KeyboardInterrupt as interruption:
        if not directory.is_unfinished():
            raise
        raise type(interruption)(next_step) from None
    except WriteError as error:
        raise WriteError(f"{error}; {next_step}") from error


def _source(run: FinishedRun, fps: int | None) -> tuple[Clip, Clip, Timing]:
    """The clip and its reconstruction as the run wrote them, and when frames are shown: as there, or at ``fps``."""
    clip, source = run.config.clip, run.directory.source
    read = partial(read_video, frames=clip.count, width=clip.width, height=clip.height)
    timing = VideoReader(source, frames=clip.count, width=clip.width, height=clip.height).timing(fps)
    return read(source), read(run.directory.reconstruction), timing
