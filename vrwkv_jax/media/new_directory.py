"""A directory that is there whole, or not at all."""

import os
import shutil
import uuid
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from vrwkv_jax.media.files import check_place
from vrwkv_jax.system.errors import UserError, not_utf8


@contextmanager
def new_directory(path: Path, *, replaces: Callable[[Path], bool] = lambda path: False) -> Iterator[Path]:
    """Gives an empty directory beside ``path``, which takes that name when the block succeeds and else goes away.

    An empty directory may be there already; and one that ``replaces`` says may go, which it does when the block has
    succeeded.

    Raises:
        UserError: something else is there, or the place can't be written to.
    """
    if not_utf8(str(path)):
        raise UserError(f"{path} is not UTF-8: name another directory")
    if os.path.islink(path):
        raise UserError(f"{path} is a link: name a directory itself")
    if os.path.lexists(path) and not _is_empty(path) and not (os.path.isdir(path) and replaces(path)):
        raise UserError(f"{path} is there already: name a directory that is not, or an empty one")
    if not os.path.isdir(path.absolute().parent):
        raise UserError(f"{path} can't be written, for there is no folder {path.parent}: create it or name another")
    check_place(path.absolute().parent, "the folder")
    part = _beside(path, "part")
    try:
        part.mkdir()
        yield part
        if not os.path.lexists(path) or _is_empty(path):
            part.rename(path)
        else:
            _exchange(part, path)
    except UserError as error:  # which may name a file in there, as what nobody knows it by
        raise UserError(str(error).replace(str(part), str(path))) from error
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise UserError(f"{path} was not written ({reason}): free space or choose another place") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _exchange(part: Path, path: Path) -> None:
    """Puts ``part`` in the place of ``path``, which goes away."""
    old = _beside(path, "old")
    path.rename(old)
    try:
        part.rename(path)
    except BaseException:
        old.rename(path)
        raise
    shutil.rmtree(old, ignore_errors=True)
    if old.exists():
        warnings.warn(f"{path} is replaced, but what was there can't be removed: remove {old}", stacklevel=2)


def _is_empty(path: Path) -> bool:
    return os.path.isdir(path) and not os.listdir(path)


def _beside(path: Path, ending: str) -> Path:
    return path.absolute().with_name(f".{uuid.uuid4().hex}.{ending}")
