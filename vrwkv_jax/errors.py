"""The one error a user's mistake ends in."""


class UserError(ValueError):
    """Something the user gave is wrong: a path, a file's contents, a value.

    The message is one sentence that names the thing, the value found, what was expected and what to do. The command
    lines print it without a traceback and exit with status 2; a notebook sees it as an ordinary ``ValueError``.
    """


class WriteError(UserError):
    """The system refused to write (no space, no permission). When that is mended, the same may go on."""
