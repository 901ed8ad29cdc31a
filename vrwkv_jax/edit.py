"""``python -m vrwkv_jax.edit RUN --prompt "..."``: edit the clip of a finished run again, without tuning."""

if __name__ == "__main__":  # before the imports, in whose seconds Ctrl-C shall be one line, too
    import sys

    from vrwkv_jax.cli import run_module

    sys.exit(run_module("vrwkv_jax.edit"))

import itertools
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache, partial
from pathlib import Path

from vrwkv_jax.compiled import keep_compiled_programs
from vrwkv_jax.config import parse_edit_command
from vrwkv_jax.errors import UserError
from vrwkv_jax.media.files import check_place
from vrwkv_jax.media.video import read_video, video_fps
from vrwkv_jax.results import Clip, invert_and_reconstruct, make_edits, of_inversion, write_results
from vrwkv_jax.run import RECONSTRUCTION, SOURCE, FinishedRun, load_run


def main(argv: Sequence[str] | None = None) -> None:
    """The whole command. The run is left as it is; the edits go into a directory of their own."""
    load = cache(load_run)
    command = parse_edit_command(sys.argv[1:] if argv is None else argv, lambda directory: load(directory).config)
    if not command.prompts:
        raise UserError('--prompt is missing: say what the edited clip shall show, such as --prompt "a red jeep"')
    run = load(command.run)
    config = command.applied_to(run.config)
    with _new_directory(run, command.output) as directory:
        keep_compiled_programs()
        source, reconstruction, fps = _source(run)
        print(f"loading {run.config.model or 'the small built-in model'}", file=sys.stderr)
        editor = run.editor()
        inversion = run.inversion
        if of_inversion(config) != of_inversion(run.config):
            inversion, reconstruction = invert_and_reconstruct(editor, inversion.source, config)
        edits = make_edits(editor, inversion, config)
        written = write_results(directory, source, reconstruction, edits, fps)
    print("\nwrote " + "\n      ".join(map(str, written)))


@contextmanager
def _new_directory(run: FinishedRun, output: str | None) -> Iterator[Path]:
    """Makes ``--output``, or the first of RUN/edits-2, RUN/edits-3, ... that is not there yet.

    It is there before the work, so that a command that starts meanwhile takes another; if it stays empty, it goes.

    Raises:
        UserError: it can't be made, or is there already and not empty.
    """
    directory = Path(output or run.directory)
    check_place(directory, "--output")
    try:
        if output is None:
            directory = next(filter(_made, (run.directory / f"edits-{n}" for n in itertools.count(2))))
        elif not _made(directory) and any(directory.iterdir()):
            raise UserError(f"--output {directory} is there already and not empty: name another directory")
    except OSError as error:
        raise UserError(f"--output {directory} can't be made ({error.strerror}): name another directory") from error
    try:
        yield directory
    finally:
        with suppress(OSError):  # as it holds something
            directory.rmdir()


def _made(directory: Path) -> bool:
    """Whether ``directory`` was not there before."""
    try:
        directory.mkdir(parents=True)
    except FileExistsError:
        return False
    return True


def _source(run: FinishedRun) -> tuple[Clip, Clip, float]:
    """The clip and its reconstruction as the run wrote them, and their frames per second."""
    clip = run.config.clip
    read = partial(read_video, frames=clip.frames, width=clip.width, height=clip.height)
    source = run.directory / SOURCE
    return read(source), read(run.directory / RECONSTRUCTION), video_fps(source)
