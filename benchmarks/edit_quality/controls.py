"""The controls that edits are compared under, by name."""

import re
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks.edit_quality.tasks import Task
from vrwkv_jax.config import TuneConfig
from vrwkv_jax.editing.controls.blend import mask_in_latents
from vrwkv_jax.editing.controls.config import ControlConfig
from vrwkv_jax.world import caption, render

WORDS = "{words}"  # for those of the thing that is edited
NEW_WORDS = "{new words}"  # for those that only the edit's prompt has, with a factor of 2
OLD_WORDS = "{old words}"  # for those that only the clip's prompt has
CONTROLS: dict[str, dict[str, Any]] = {  # the sections' settings that differ from what is configured
    "default": {},
    "none": {"controls": {}},  # controls that are not named are off
    "cross-attention": {"controls": {"cross_attention": 0.6}},
    "replaced words": {"controls": {"cross_attention": 0.6, "replace_words": True}},
    "self-attention": {"controls": {"self_attention": 0.6}},
    "features": {"controls": {"features": 0.6}},
    "mixers": {"controls": {"mixer_keys": 0.6}},
    "reweighted": {"controls": {"reweight": NEW_WORDS}},
    "blend": {"controls": {"blend": WORDS}},
    "true mask": {"controls": {}},  # the best that a mask can do
    "negative prompt": {"controls": {}, "negative_prompt": OLD_WORDS},
    "source guidance": {"controls": {}, "editing": {"guidance_from": "source"}},
    "null text": {"controls": {}, "editing": {"guidance_from": "null_text"}},
    "strength": {"controls": {}, "editing": {"strength": 0.8}},
    "rescale": {"controls": {}, "editing": {"guidance_rescale": 0.7}},
    "dpm++": {"controls": {}, "editing": {"sampler": "dpm++"}},
    "guidance 1.5": {"controls": {}, "editing": {"guidance_scale": 1.5}},
    "guidance 2": {"controls": {}, "editing": {"guidance_scale": 2.0}},
    "guidance 5": {"controls": {}, "editing": {"guidance_scale": 5.0}},
    **{f"cache {n}": {"editing": {"cache_interval": n}} for n in (2, 3, 5)},  # besides the configured controls
    "words and features": {"controls": {"cross_attention": 0.6, "replace_words": True, "features": 0.6}},
}
MASKED = ("blend", "true mask")  # nothing but the thing may change: not for other backgrounds and styles


def controlled(config: TuneConfig, name: str, task: Task) -> TuneConfig:
    """``config`` with the controls of that name."""
    before, after = (re.findall(r"\b(?!an?\b)\w+", caption(scene)) for scene in (task.source, task.target))
    words = {
        WORDS: tuple(dict.fromkeys((task.source.things[0].shape, task.target.things[0].shape))),
        NEW_WORDS: tuple(f"{word}=2" for word in dict.fromkeys(after) if word not in before),
        OLD_WORDS: " ".join(word for word in before if word not in after),
    }
    off = ControlConfig(feature_layers=config.controls.feature_layers)
    for section, values in CONTROLS[name].items():
        if isinstance(values, dict):
            configured = off if section == "controls" else getattr(config, section)
            own = replace(configured, **{key: words.get(value, value) for key, value in values.items()})
        else:
            own = words.get(values, values)
        config = replace(config, **{section: own})
    return config


def true_mask(task: Task, latents: tuple[int, int, int], size: int) -> np.ndarray:
    """Where the thing is before or after the edit in pictures of ``size``, for ``latents`` of that many frames, rows
    and columns."""
    masks = np.maximum(*(render(scene, latents[0], size)[1][:, 0] for scene in (task.source, task.target)))
    return mask_in_latents(masks > 0.01, *latents[1:])
