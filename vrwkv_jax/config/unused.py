"""Flags that change nothing beside the other settings: each is said."""

import warnings
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any, NamedTuple

from vrwkv_jax.config.schema import EditCommand, TuneConfig, flag_of
from vrwkv_jax.editing.controls.registry import CONTROLS
from vrwkv_jax.editing.long.adaflow.config import AdaFlowConfig
from vrwkv_jax.models.mixers.registry import MIXERS


class Use(NamedTuple):
    """Settings that change something only where ``holds`` of the configuration, in words ``condition``."""

    settings: tuple[str, ...]
    holds: Callable[[Any], bool]
    condition: str


def _has_mixer(name: str) -> Callable[[Any], bool]:
    return lambda c: c.video_model.mixer == name


def _has_control(name: str) -> Callable[[Any], bool]:
    return lambda c: bool(c.controls.switched_on(name))


_OF_EDITS = (
    Use(
        ("guidance_from", "guidance_rescale", "guidance_mean", "guidance_interval", "negative_prompt"),
        lambda c: c.editing.is_guided,
        "with --guidance-scale 1, which is no guidance",
    ),
    Use(("cache_until", "cache_depth"), lambda c: c.editing.cache_interval > 1, "without --cache-interval"),
    Use(
        ("null_text_iterations",),
        lambda c: c.editing.guidance_from == "null_text",
        "without --guidance-from null_text",
    ),
    Use(("crf",), lambda c: c.editing.format == "mp4", "without --format mp4"),
    Use(
        ("replace_words",),
        lambda c: c.controls.cross_attention > 0 or c.controls.cross_attention_words,
        "without --cross-attention",
    ),
    *(
        Use((control.layers,), _has_control(name), f"without {flag_of(next(iter(control.neutral)))}")
        for name, control in CONTROLS.items()
        if control.layers is not None
    ),
    Use(("blend_threshold", "blend_dilation"), lambda c: c.controls.blend, "without --blend"),
    Use(("blend_start",), lambda c: c.controls.blend or c.controls.mask, "without --blend or --mask"),
)
_OF_EDITING_AGAIN = (
    *_OF_EDITS,
    Use(("seed",), lambda c: c.editing.eta > 0, "with --eta 0, which draws no noise"),
)
_OF_MIXERS = (
    Use(
        ("placement", "skip_gate", "mixer_lr_scale", "mixer_strength"),
        lambda c: c.video_model.mixer != "none",
        "with --mixer none",
    ),
    *(
        Use(tuple(field.name for field in fields(mixer.Config)), _has_mixer(name), f"without --mixer {name}")
        for name, mixer in MIXERS.items()
    ),
    Use(
        ("bi_wkv",),
        lambda c: c.video_model.mixer != "none" and MIXERS[c.video_model.mixer].has_bi_wkv,
        "with a --mixer that is not made of it",
    ),
)
_OF_LONG = (
    Use(("chunk_frames",), lambda c: c.long_video.long is not None, "without --long"),
    Use(("stream_mode", "tuned_frames"), lambda c: c.long_video.long == "stream", "without --long stream"),
    Use(
        ("look_ahead",),
        lambda c: c.long_video.long == "stream" and c.long_video.stream_mode == "look_ahead",
        "without --long stream --stream-mode look_ahead",
    ),
    Use(
        tuple(field.name for field in fields(AdaFlowConfig)),
        lambda c: c.long_video.long == "adaflow",
        "without --long adaflow",
    ),
)
_OF_TUNING = (
    *_OF_EDITS,
    *_OF_LONG,
    Use(("start", "stride", "fit"), lambda c: c.clip.video is not None, "without --video"),
    *_OF_MIXERS,
    Use(("sample_every", "checkpoint_every"), lambda c: c.tuning.steps > 0, "with --steps 0"),
)


def warn_of_unused(config: TuneConfig | EditCommand, before: TuneConfig | EditCommand) -> None:
    """Warns of each setting of a command that its flags have changed from ``before``, to no effect."""
    now, then = _leaves(config), _leaves(before)
    for use in _OF_TUNING if isinstance(config, TuneConfig) else _OF_EDITING_AGAIN:
        if not use.holds(config):
            for name in use.settings:
                if now[name] != then[name] and now[name] is not False:  # what is switched off need do nothing
                    warnings.warn(f"{flag_of(name)} changes nothing {use.condition}", stacklevel=3)


def _leaves(config: Any) -> dict[str, Any]:
    """The settings of all sections, whose names are unique."""
    found: dict[str, Any] = {}
    for field in fields(config):
        value = getattr(config, field.name)
        found |= _leaves(value) if is_dataclass(value) else {field.name: value}
    return found
