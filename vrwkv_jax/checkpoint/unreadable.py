"""What to say of a file of weights that can't be read: often it is something else, which its first bytes show."""

from pathlib import Path

from vrwkv_jax.system.errors import UserError

AGAIN = "download or copy it again"
FIRST = 512  # bytes; a tar file says that it is one at 257


def unreadable(file: Path, kind: str, reason: str) -> UserError:
    """The error about ``file``, which should be ``kind`` and is not, for ``reason`` if nothing better is known."""
    return UserError(f"{file} can't be read as {kind} {_disguise(first_bytes(file)) or f'({reason}): {AGAIN}'}")


def first_bytes(file: Path) -> bytes:
    """How ``file`` begins; ``UserError`` where it is no file or can't be opened."""
    if not file.is_file():
        what = "is a directory, expected a file" if file.is_dir() else "is not there, or no regular file"
        raise UserError(f"{file} {what}: name a file of weights")
    try:
        with open(file, "rb") as stream:
            return stream.read(FIRST)
    except OSError as error:
        raise UserError(f"{file} can't be read ({error.strerror}): {AGAIN}") from error


def _disguise(begin: bytes) -> str | None:
    if begin.startswith(b"version https://git-lfs"):  # what a clone without Git LFS has in place of a large file
        return "but is a pointer to the weights in Git LFS: run `git lfs pull` in the repository it was cloned from"
    if not begin:
        return f"(it is empty): {AGAIN}"
    if begin.lstrip().startswith(b"<"):
        return (
            "(it is a web page, such as one that asks for a login or says what went wrong): download or copy it again"
        )
    return None
