"""What the commands wrote is known by its names: nothing else is removed, and nothing through a link."""

import errno
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from vrwkv_jax.system.errors import UserError

Names = Mapping[str, "Names | None"]
"""Pattern of a name -> None for a file, or the names in a directory."""

MARK, LOCK = ".vrwkv-jax", ".vrwkv-jax.lock"
TUNING, PRETRAINING = "a run of python -m train.tune", "a model of python -m train.pretrain_shapes"
"""What a mark says: the kinds of commands that mark a directory."""

HASH = "[0-9a-f]{32}"
LEFTOVER = re.compile(rf"\.{HASH}\.part")  # of a write that was killed
_DATABASE: Names = {r"(manifest\.ocdbt|commit_success\.txt)(\.__lock)?": None, "d": {rf"{HASH}(\.__lock)?": None}}
_ARRAYS: Names = {  # Orbax
    **_DATABASE,
    r"_METADATA|_CHECKPOINT_METADATA|_sharding": None,
    "array_metadatas": {r"process_\d+": None},
    r"ocdbt\.process_\d+": _DATABASE,
}
ARRAYS: Names = {r"params(\.orbax-checkpoint-tmp.*)?": _ARRAYS}
"""Parameters in our format."""


def strange(directory: Path, names: Names) -> list[Path]:
    """What no command wrote; and what has the name of one of their files but is something else, such as a link."""
    return [path for path, _, ours in _walk(directory, names) if not ours]


def impostors(directory: Path, names: Names) -> list[Path]:
    """What has the name of a command's file but is something else: a link, a directory, a pipe."""
    return [path for path, named, ours in _walk(directory, names) if named and not ours]


def wrote(directory: Path, names: Names) -> bool:
    """Whether something in ``directory`` was written by a command."""
    return directory.is_dir() and any(ours for *_, ours in _walk(directory, names))


def remove(directory: Path, names: Names) -> None:
    """Removes what has these ``names``, and ``directory`` itself if nothing else is in it."""
    if directory.is_symlink() or not directory.is_dir():
        return
    for path, _, ours in _walk(directory, names):
        if ours:
            path.rmdir() if path.is_dir() else path.unlink()
    _remove_empty(directory)


def clear_leftovers(directory: Path, names: Names) -> None:
    """Removes the part files of writes that were killed. Nobody else may be at work there."""
    for path, _, ours in _walk(directory, names):
        if ours and LEFTOVER.fullmatch(path.name):
            path.unlink()


def is_filled(directory: Path) -> bool:
    """Whether there is more than a mark, a lock and part files. Raises UserError where the directory can't be read."""
    try:
        names = [path.name for path in directory.iterdir()] if directory.is_dir() else []
    except OSError as error:
        raise UserError(f"{directory} can't be read ({error.strerror}): name another directory") from error
    return any(name not in (MARK, LOCK) and not LEFTOVER.fullmatch(name) for name in names)


def is_marked(directory: Path, kind: str) -> bool:
    """Whether a command of that ``kind`` has written ``directory``."""
    path = directory / MARK
    try:
        return not path.is_symlink() and path.read_text("utf-8", "replace").strip() == kind
    except OSError:
        return False


def mark(directory: Path, kind: str) -> None:
    """Marks ``directory``, which exists, as written by a command of that ``kind``."""
    if not is_marked(directory, kind):
        with open(directory / MARK, "w", opener=no_link) as file:
            file.write(f"{kind}\n")


def no_link(path: str, flags: int) -> int:
    """An opener for ``open`` that goes through no link."""
    return os.open(path, flags | os.O_NOFOLLOW, 0o666)


def check_no_impostors(directory: Path, names: Names) -> None:
    """Raises UserError where a command in ``directory`` would write through a link, or into a pipe."""
    for path in impostors(directory, names):
        what = "a link" if path.is_symlink() else "no file of a run" if not path.is_dir() else "a directory"
        raise UserError(f"{path} is {what}, where a run keeps something of its own: move it elsewhere")


def listed(paths: list[Path], root: Path) -> str:
    """The first few, from ``root`` on."""
    shown = [str(path.relative_to(root)) for path in paths]
    return ", ".join(shown[:3]) + (f" and {len(shown) - 3} more" if len(shown) > 3 else "")


def _walk(directory: Path, names: Names) -> Iterator[tuple[Path, bool, bool]]:
    """Each entry: its path, whether it has one of ``names``, and whether a command wrote it. Contents come first.

    A directory with something strange in it is left out: it is not ours to remove.
    """
    for entry in sorted(os.scandir(directory), key=lambda entry: entry.name):
        path = Path(entry.path)
        known = [inner for pattern, inner in names.items() if re.fullmatch(pattern, entry.name)]
        if entry.is_file(follow_symlinks=False):
            is_leftover = LEFTOVER.fullmatch(entry.name) is not None
            yield path, bool(known) or is_leftover, is_leftover or None in known
        elif entry.is_dir(follow_symlinks=False) and known and known[0] is not None:
            whole = True
            for found in _walk(path, known[0]):
                whole = whole and found[2]
                yield found
            if whole:
                yield path, True, True
        else:
            yield path, bool(known), False


def _remove_empty(directory: Path) -> None:
    try:
        directory.rmdir()
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.EBUSY):  # a mount point is busy
            raise
