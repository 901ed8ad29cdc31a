"""Where a run goes: a place that is free, and an old run stays until the new one is whole."""

import shutil
from pathlib import Path

from vrwkv_jax.config import TuneConfig, save_yaml
from vrwkv_jax.errors import UserError
from vrwkv_jax.media.files import check_place
from vrwkv_jax.run import CONFIG


def free_directory(config: TuneConfig) -> Path:
    """``--output``, or the first of runs/NAME, runs/NAME-2, ... that is not there yet.

    Raises:
        UserError: ``--output`` can't be made, or holds something that must not be replaced.
    """
    if config.output is None:
        stem = "small-clip" if config.clip.video is None else Path(config.clip.video).stem
        candidates = (Path("runs") / (stem if n == 1 else f"{stem}-{n}") for n in range(1, 10_000))
        directory = next(path for path in candidates if not path.exists())
        check_place(directory, "the run's directory")
        return directory
    directory = Path(config.output)
    if directory.exists() and not directory.is_dir():
        raise UserError(f"--output {directory} is a file: name a directory that is not there yet")
    if _is_filled(directory):
        if not config.overwrite:
            raise UserError(
                f"--output {directory} is not empty: name another directory, or replace the run with --overwrite"
            )
        if not (directory / CONFIG).is_file():
            raise UserError(f"--output {directory} holds no run (no {CONFIG}), so --overwrite does not touch it")
    check_place(directory, "--output")
    return directory


def make_directory(directory: Path, config: TuneConfig) -> Path:
    """Makes the directory to work in, with the configuration in it: ``directory``, or one beside a run to replace."""
    working = directory.with_name(f"{directory.name}.new") if _is_filled(directory) else directory
    try:
        if working != directory and working.exists():  # what an interrupted replacement left
            shutil.rmtree(working)
        working.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--output {working} can't be made ({error.strerror}): name another directory") from error
    save_yaml(config, working / CONFIG)
    return working


def put_in_place(working: Path, directory: Path) -> None:
    """Replaces the run in ``directory``, if that is what ``working`` was made for."""
    if working != directory:
        old = directory.with_name(f"{directory.name}.old")
        directory.rename(old)
        working.rename(directory)
        shutil.rmtree(old)


def _is_filled(directory: Path) -> bool:
    return directory.is_dir() and any(directory.iterdir())
