"""``vrwkv studio``, or ``python -m vrwkv_jax.studio``: a page on this computer to tune, edit and look at runs on."""

import importlib.util
import os
import secrets
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import UseAppendAction, arg

from vrwkv_jax.config import messages_name_flags, parse_flags
from vrwkv_jax.studio.jobs import Jobs
from vrwkv_jax.studio.places import Places
from vrwkv_jax.studio.studio import Studio
from vrwkv_jax.studio.uploads import Limits
from vrwkv_jax.system.checks import above, at_least, between, check_fields, default_shown, optional, text
from vrwkv_jax.system.errors import UserError, printable

PASSWORD = "VRWKV_STUDIO_PASSWORD"
"""The variable of the environment that may hold the password."""
SHORTEST = 8
"""Characters of a password."""


@dataclass(frozen=True)
class StudioCommand:
    """Open a page on this computer to tune, edit and look at runs on.

    What it makes, the commands see, and the reverse.
    """

    runs: Annotated[str, arg(metavar="DIR")] = "runs"
    """Directory of the runs."""
    models: Annotated[UseAppendAction[tuple[str, ...]], arg(name="model", metavar="PATH")] = ()
    """A model that the page offers: a path or a Hugging Face id. Give it once for each."""
    port: int = 7860
    """Port of the page. 0: any that is free."""
    listen: bool = False
    """Let other computers of your network see the page, with a password."""
    share: bool = False
    """Let anybody who has its address and the password see the page, through a server of Gradio's."""
    password_file: Annotated[str | None, arg(metavar="FILE", help_behavior_hint=default_shown)] = None
    """File with the password, in its first line; or set VRWKV_STUDIO_PASSWORD. Not set: one is made and printed where
    there must be one."""
    max_megabytes: int = 500
    """Largest file that can be uploaded."""
    max_seconds: float = 120.0
    """Longest clip that can be uploaded."""
    open_browser: bool = True
    """Open the page in your browser, where there is a display."""

    def __post_init__(self) -> None:
        check_fields(
            self,
            runs=text,
            port=between(0, 65535),
            password_file=optional(text),
            max_megabytes=at_least(1),
            max_seconds=above(0),
        )


@messages_name_flags()
def main(argv: Sequence[str] | None = None) -> None:
    """Serves the page until Ctrl-C, which stops no job."""
    command = parse_flags(StudioCommand, sys.argv[1:] if argv is None else argv, prog="vrwkv studio")
    if importlib.util.find_spec("gradio") is None:
        raise UserError("the studio needs gradio, which is not here: install it with pip install 'vrwkv-jax[studio]'")
    password, is_made = password_of(command, os.environ.get(PASSWORD))
    places = Places(Path(command.runs).expanduser())
    places.make()
    studio = Studio(
        places,
        Jobs(places),
        Limits(command.max_megabytes, command.max_seconds),
        command.models,
        any_path=not (command.share or command.listen),
    )
    from vrwkv_jax.studio.server import USER, serve

    def announce(addresses: list[str]) -> None:
        print(f"the studio is at {' and '.join(addresses)}")
        print(f"its runs are in {printable(places.runs)}; Ctrl-C ends the studio, and no job")
        if is_made:
            print(f"log in as {USER} with the password {password}")
        sys.stdout.flush()

    serve(
        studio,
        port=command.port,
        listen=command.listen,
        share=command.share,
        password=password,
        open_browser=command.open_browser and _has_display(),
        announce=announce,
    )


def _has_display() -> bool:
    """Or else a browser for terminals would open, over SSH, say."""
    return sys.platform == "darwin" or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))


def password_of(command: StudioCommand, in_environment: str | None) -> tuple[str | None, bool]:
    """The password, where there is one, and whether it was made here.

    Raises:
        UserError: its file can't be read, or it is too short.
    """
    password, where = in_environment, PASSWORD
    if command.password_file is not None:
        where = f"--password-file {command.password_file}"
        try:
            password = Path(command.password_file).expanduser().read_text().split("\n")[0].strip()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{where} can't be read: give a text file whose first line is the password") from error
    if password is not None:
        if len(password) < SHORTEST:
            raise UserError(f"{where} holds a password of {len(password)} characters: choose {SHORTEST} or more")
        return password, False
    if command.share or command.listen:
        return secrets.token_urlsafe(12), True
    return None, False
