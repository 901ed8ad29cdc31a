"""Checks before a run is resumed: what its result depends on must not have changed."""

import warnings
from copy import deepcopy
from dataclasses import asdict, replace
from typing import Any

from vrwkv_jax.config import TuneConfig
from vrwkv_jax.config.moved import move
from vrwkv_jax.runs.directory import RunDirectory
from vrwkv_jax.system.errors import UserError, setting

SECTIONS = ("clip", "video_model", "tuning")  # of the settings on which tuning depends
CONTENTS = {"clip_sha256": "the clip's frames", "weights_sha256": "the model's weights"}


def with_choices_of_run(config: TuneConfig, working: RunDirectory) -> TuneConfig:
    """``config`` with what the run in ``working`` has chosen, where ``config`` leaves it to the device (auto)."""
    run = working.load_config().tuning
    now = config.tuning
    dtype, remat = (run.dtype if now.dtype == "auto" else now.dtype), (run.remat if now.remat == "auto" else now.remat)
    return replace(config, tuning=replace(now, dtype=dtype, remat=remat))


def check_settings(config: TuneConfig, working: RunDirectory) -> None:
    """Raises ``UserError`` that names every setting in which ``config`` tunes otherwise than the run in ``working``.

    Files may have moved: what is in them is compared by ``check_contents``. A constant rate of learning makes the first
    steps of a longer tuning those of a shorter one, so only steps that are done already can't be asked for.
    """
    checkpoints = working.checkpoints
    about = checkpoints.about()
    earlier = asdict(working.load_config()) if about is None else about.get("config", {})
    before, now = _what_matters(earlier), _what_matters(asdict(config))
    changed = [name for name in now if name in before and before[name] != now[name]]
    if changed:
        differences = ", ".join(f"{name} was {before[name]!r} and is {now[name]!r}" for name in changed)
        raise UserError(
            f"the run in {working} can't be resumed with other settings of its tuning: {differences}; leave them out "
            "to keep the run's, or start another run"
        )
    step = working.steps_done()
    if config.tuning.steps < step:
        raise UserError(
            f"the run in {working} is at step {step} of its tuning, past {setting('steps')} "
            f"{config.tuning.steps}: give as many or more"
        )


def check_contents(config: TuneConfig, now: dict[str, Any], working: RunDirectory) -> None:
    """Raises ``UserError`` where clip or weights are not those of the run; warns where versions or devices differ.

    ``now`` is the ``provenance`` of what is there.
    """
    about = working.checkpoints.about() or {}
    earlier = about.get("provenance", {})
    changed = [name for name in CONTENTS if name in earlier and earlier[name] != now[name]]
    if changed:
        files = {"clip_sha256": f"clip.video {config.clip.video}", "weights_sha256": f"model {config.model}"}
        differences = ", ".join(
            f"{CONTENTS[name]} ({files[name]}, sha256 was {_short(earlier[name], now[name])} and is "
            f"{_short(now[name], earlier[name])})"
            for name in changed
        )
        raise UserError(
            f"the run in {working} can't be resumed with other files than its own: {differences}; bring them "
            "back, or start another run"
        )
    other = [
        f"{name} {before} to {after}"
        for name, before, after in (
            ("device", earlier.get("device"), now["device"]),
            ("number of devices", earlier.get("device_count"), now["device_count"]),
            ("Bi-WKV", earlier.get("bi_wkv", now["bi_wkv"]), now["bi_wkv"]),
            ("mesh", about.get("config", {}).get("mesh"), config.mesh),
            ("git revision", earlier.get("git_revision"), now["git_revision"]),
            *(
                (package, earlier.get("versions", {}).get(package), version)
                for package, version in now["versions"].items()
            ),
        )
        if before != after
    ]
    if earlier and other:
        warnings.warn(
            f"since the run was started, this has changed: {', '.join(other)}; its numbers may differ in the last bits "
            "from those of a run in one go",
            stacklevel=2,
        )


def _what_matters(config: dict[str, Any]) -> dict[str, Any]:
    """Such as "tuning.dtype" -> "float32" and so on, each where it is in this version."""
    config = deepcopy(config)
    move(config)
    settings = _flat({name: config[name] for name in ("prompt", "seed", *SECTIONS) if name in config})
    for name in ("clip.video", "tuning.steps"):
        settings.pop(name, None)
    return {name: list(value) if isinstance(value, tuple) else value for name, value in settings.items()}


def _flat(config: dict[str, Any], section: str = "") -> dict[str, Any]:
    """The settings of all sections by their places."""
    found: dict[str, Any] = {}
    for name, value in config.items():
        found |= _flat(value, f"{section}{name}.") if isinstance(value, dict) else {section + name: value}
    return found


def _short(value: str | dict[str, str], other: str | dict[str, str]) -> str:
    """The digits of a hash that suffice; of files, those of the first that differs."""
    if isinstance(value, dict):
        assert isinstance(other, dict)
        name = next((name for name in value if value[name] != other.get(name)), None)
        return f"{value[name][:12]} of {name}" if name else "missing"
    return value[:12]
