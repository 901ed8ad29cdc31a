"""Settings that stood elsewhere in earlier versions, or were called otherwise; those places are still read."""

from typing import Any

Place = tuple[str, ...]  # the keys that lead to a setting: ("clip", "width")

MOVED: dict[Place, Place] = {
    **{
        ("video_model", name): ("video_model", "vrwkv", name)
        for name in ("token_order", "projection", "decay_norm", "init", "first_frame")
    },
    ("controls", "mixers"): ("controls", "mixer_keys"),
}
"""Where it was -> where it is."""
RENAMED_FLAGS = {"--mixers": "--mixer-keys"}
"""What it was called on the command line -> what it is called."""


def move(data: dict[str, Any]) -> list[tuple[str, str]]:
    """Brings the settings of ``data`` to where they are now; returns (old, new) place of each that was elsewhere.

    One that is given in both places stays in both.
    """
    found = []
    for old, new in MOVED.items():
        inner = _section(data, old)
        target = _section(data, new, make=inner is not None and old[-1] in inner)
        if inner is not None and target is not None and old[-1] in inner and new[-1] not in target:
            target[new[-1]] = inner.pop(old[-1])
            found.append((".".join(old), ".".join(new)))
    return found


def _section(data: dict[str, Any], place: Place, make: bool = False) -> dict[str, Any] | None:
    """The section where ``place`` is; None: there is none, unless one is to be made."""
    for key in place[:-1]:
        if make and data.get(key) is None:
            data[key] = {}
        inner = data.get(key)
        if not isinstance(inner, dict):
            return None
        data = inner
    return data
