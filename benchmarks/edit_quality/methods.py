"""What edits the clips: the mixers, each tuned on the clip, and what is tuned by no mixer or not at all."""

import json
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.edit_quality.controls import MASKED, true_mask
from benchmarks.edit_quality.tasks import Task
from benchmarks.rivals import RIVALS
from benchmarks.written import write
from vrwkv_jax.config import TuneConfig
from vrwkv_jax.editing.editor import Editor
from vrwkv_jax.editing.inversion import Inversion
from vrwkv_jax.models.parameter_rules import SCHEDULED
from vrwkv_jax.models.params import Params
from vrwkv_jax.runs.results import edit_once, negative_prompts, of_inversion, reconstructing
from vrwkv_jax.tuning.loop import tune
from vrwkv_jax.tuning.state import TuningState, for_edits
from vrwkv_jax.typing import UInt8
from vrwkv_jax.world import caption, render

METHODS: dict[str, dict[str, Any]] = {
    "truth": {"mixer": "none"},
    "reconstruct": {"mixer": "none"},
    "image": {"mixer": "none"},
    **RIVALS,
}
"""By name: the settings of ``video_model`` that make it; ``truth`` is the true edit, made by none."""
UNEDITED = ("truth", "reconstruct")
UNTUNED = (*UNEDITED, "image")
REFERENCE = "vrwkv"  # whose time the others get, where all get the same
TIMED_STEPS = 6
EXACT_TO = 5  # steps: times are no more exact, and methods that take about as long share their edits
Equal = Literal["steps", "time"]
Result = TypeVar("Result")
Way = Callable[[Task], TuneConfig]
"""How an edit is configured."""


class Made(NamedTuple):
    """A clip edited after so many ``steps`` of tuning; with its inversion, it took these row-calls and seconds."""

    task: Task
    controls: str
    steps: int
    frames: np.ndarray
    row_calls: float | None = None
    seconds: float | None = None


def configured(method: str, config: TuneConfig) -> TuneConfig:
    """``config`` with the U-Net of a method; what else is said of the U-Net stays."""
    return replace(config, video_model=replace(config.video_model, **METHODS[method]))


def load(method: str, model: str | Path, config: TuneConfig) -> Editor:
    video = configured(method, config).video_model
    return Editor.from_pretrained(model, video=video, dtype=config.tuning.dtype, seed=config.seed)


def seconds_per_step(method: str, editor: Editor, work: list[Task], config: TuneConfig) -> float:
    """The median of a few steps of tuning, without the first, which compiles."""
    config = replace(configured(method, config), tuning=replace(config.tuning, steps=TIMED_STEPS))
    source = work[0].source
    run = tune(editor, render(source, config.clip.frames, config.clip.width)[0], caption(source), config)
    return statistics.median(float(entry["seconds"]) for entry in run.log[1:])


def timed(make: Callable[[], Result]) -> tuple[Result, float]:
    """What ``make`` gives, and the seconds that it takes."""
    started = time.perf_counter()
    return make(), time.perf_counter() - started


def run_method(
    method: str, editor: Editor, work: list[Task], config: TuneConfig, ways: Mapping[int, Mapping[str, Way]]
) -> Iterator[Made]:
    """The edited clips of one source clip: for each number of steps of tuning, in each of the ways to edit."""
    source = work[0].source
    clip, prompt = render(source, config.clip.frames, config.clip.width)[0], caption(source)
    if method == "truth":
        for task in work:
            yield Made(task, "none", 0, render(task.target, config.clip.frames, config.clip.width)[0])
        return
    config = replace(configured(method, config), prompt=prompt)
    if method == "reconstruct":
        inversion = editor.invert(clip, **of_inversion(config))
        edit = editor.edit(inversion, inversion.prompt, sampling=reconstructing(inversion))
        yield Made(replace(work[0], target=source), "none", 0, edit.frames)
        return
    tuned = tuned_params(editor, clip, config, ways)
    for steps, of_steps in ways.items():
        yield from edit_all(editor.with_unet_params(tuned[steps]), steps, work, clip, config, of_steps)


def tuned_params(
    editor: Editor, clip: UInt8[np.ndarray, "F H W 3"], config: TuneConfig, wanted: Iterable[int]
) -> dict[int, Params]:
    """The tuned parameters after each of so many steps; none after 0.

    All are of one tuning, whose steps depend on nothing that follows, but for a mixer that gives way to another by a
    schedule: that is tuned for each number of steps.
    """
    params: dict[int, Params] = {0: {}}
    counts = sorted(count for count in wanted if count)
    apart = any(map(SCHEDULED.search, editor.unet.params)) or not counts
    for kept in [{count} for count in counts] if apart else [set(counts)]:

        def keep(state: TuningState, kept: set[int] = kept) -> None:
            if state.step in kept:
                tuned = jax.tree.map(jnp.copy, state.tuned)  # which the next step uses up
                params[state.step] = for_edits(tuned, config.tuning)

        own = replace(config, tuning=replace(config.tuning, steps=max(kept)))
        tune(editor, clip, config.prompt or "", own, keep=keep)
    return params


def edit_all(
    editor: Editor,
    steps: int,
    work: list[Task],
    clip: UInt8[np.ndarray, "F H W 3"],
    config: TuneConfig,
    ways: Mapping[str, Way],
) -> Iterator[Made]:
    """The edits of ``clip`` by an ``editor`` that was tuned for so many ``steps``, in each of the ``ways``."""
    prompt = config.prompt or ""
    inversions: dict[tuple[Any, ...], tuple[Inversion, float]] = {}

    def inverted(own: TuneConfig) -> tuple[Inversion, float]:
        settings = of_inversion(own)
        key = tuple(settings.values())
        if key not in inversions:
            inversions[key] = timed(lambda: editor.invert(clip, **settings))
        return inversions[key]

    for name, way in ways.items():
        if name == "mixers" and config.video_model.mixer == "none":
            continue
        negatives: dict[str, Any] = {}  # by what they depend on, for null-text inversion takes minutes
        for task in work:
            if name in MASKED and task.kind in ("background", "style"):
                continue
            own = replace(way(task), video_model=config.video_model, prompt=prompt)
            inversion, spent = inverted(own)
            if own.negative_prompt not in negatives:
                negatives[own.negative_prompt] = negative_prompts(editor, inversion, own)
            negative = negatives[own.negative_prompt]
            mask = true_mask(task, inversion.trajectory.shape[1:4], clip.shape[2]) if name == "true mask" else None
            edit, seconds = timed(partial(edit_once, editor, inversion, caption(task.target), negative, own, mask))
            yield Made(task, name, steps, edit.frames, inversion.row_calls + edit.row_calls, spent + seconds)


class Steps:
    """How many steps of tuning each method gets: the same number, or as many as take the same time.

    The times are measured once and kept in a file, for all clips to be tuned alike.
    """

    def __init__(self, config: TuneConfig, path: Path) -> None:
        self.config, self.path = config, path
        self.seconds: dict[str, float] = json.loads(path.read_text()) if path.exists() else {}

    def measure(self, method: str, editor: Editor, work: list[Task]) -> None:
        if method not in UNTUNED and method not in self.seconds:
            self.seconds[method] = seconds_per_step(method, editor, work, self.config)
            write(self.path, self.seconds)

    def of(self, method: str, equal: Equal) -> int:
        """0 of a method that is not tuned."""
        steps = self.config.tuning.steps
        if method in UNTUNED:
            return 0
        if equal == "steps":
            return steps
        share = self.seconds[REFERENCE] / self.seconds[method]
        return max(1, EXACT_TO * round(steps * share / EXACT_TO))
