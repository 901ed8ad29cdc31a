"""``vrwkv tune | edit | mask | metrics | studio | convert ...``: all commands under one name."""

import sys

from vrwkv_jax.commands.cli import run_module
from vrwkv_jax.system.errors import printable

COMMANDS = {
    "tune": "tune Stable Diffusion on one clip, invert the clip, and edit it",
    "edit": "edit the clip of a finished run again, without tuning",
    "mask": "make a mask of where a word is in the clip of a finished run",
    "metrics": "measure edited clips against their source",
    "studio": "open a page to tune, edit and look at runs on",
    "convert": "convert a Stable Diffusion checkpoint to the format of this package",
}


def main() -> None:
    """Runs the command that the first argument names, and exits with its status."""
    usage = "usage: vrwkv COMMAND ...\n" + "".join(f"\n  {name:8} {what}" for name, what in COMMANDS.items())
    usage += "\n\nvrwkv COMMAND --help lists the settings of a command."
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in ("--help", "-h"):
        print(usage)
        sys.exit(0)
    if name not in COMMANDS:
        print(
            f"error: vrwkv has no command {printable(name)!r}: expected one of {', '.join(COMMANDS)}", file=sys.stderr
        )
        sys.exit(2)
    sys.argv = [f"vrwkv {name}", *sys.argv[2:]]
    sys.exit(run_module(f"vrwkv_jax.commands.{name}"))


if __name__ == "__main__":
    main()
