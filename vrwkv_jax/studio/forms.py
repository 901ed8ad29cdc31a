"""From what was filled in on the page to the settings of a command, and the words that start it."""

import math
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from vrwkv_jax import built_in
from vrwkv_jax.config import EditCommand, TuneConfig, command_line, edit_command_line
from vrwkv_jax.config.editing import DEFAULT_PRESET, PRESETS
from vrwkv_jax.config.flags import costing_of, defaults
from vrwkv_jax.config.schema import with_preset
from vrwkv_jax.studio.uploads import UploadedClip
from vrwkv_jax.system.checks import checks_postponed
from vrwkv_jax.system.errors import UserError, printable, quoted

HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")
LABELS = {
    "prompts": "edit prompts",
    "num_inference_steps": "inference steps",
    "guidance_scale": "guidance",
    "steps": "tuning steps",
    "eta": "fresh noise",
}
"""What the page calls a setting, where that is not its name with spaces."""


@dataclass(frozen=True)
class NewRun:
    """The form of a new run. What is None is as the model's defaults have it."""

    clip: UploadedClip | None = None
    """None: the built-in one."""
    model: str | None = None
    prompt: str = ""
    edit_prompts: str = ""
    """One a line."""
    negative_prompt: str = ""
    preset: str = DEFAULT_PRESET
    begin: float = 0.0
    """Seconds into the clip."""
    end: float | None = None
    frames: float | None = None
    stride: float = 0
    """0: as many frames as are between begin and end, evenly spread."""
    width: float | None = None
    height: float | None = None
    steps: float | None = None
    num_inference_steps: float | None = None
    guidance_scale: float | None = None
    seed: float | None = None
    mixer: str | None = None
    sample_every: float | None = None

    def config(self, output: str | None = None) -> TuneConfig:
        """The configuration of the run.

        Raises:
            UserError: something can't be, or is missing; all such is named.
        """
        with _told():
            base = defaults(self.model, None, _preset(self.preset))
            clip, tuning, editing = base.clip, base.tuning, base.editing
            frames = _whole(self.frames, clip.count)
            taken: dict[str, Any] = {
                "frames": frames,
                "width": _whole(self.width, clip.width),
                "height": _whole(self.height, clip.height),
            }
            if self.clip is not None:
                taken |= _taken(self, self.clip, frames)
            prompt, edits = self.prompt.strip(), lines_of(self.edit_prompts)
            if self.clip is None:
                prompt, edits = prompt or built_in.PROMPT, edits or built_in.EDIT_PROMPTS[:1]
            config = replace(
                base,
                model=self.model,
                prompt=prompt or None,
                edit_prompts=edits,
                negative_prompt=self.negative_prompt.strip(),
                output=output,
                seed=_whole(self.seed, base.seed),
                sample_every=_whole(self.sample_every, base.sample_every),
                clip=replace(clip, **taken),
                video_model=replace(base.video_model, mixer=self.mixer or base.video_model.mixer),
                tuning=replace(tuning, steps=_whole(self.steps, tuning.steps)),
                editing=replace(
                    editing,
                    num_inference_steps=_whole(self.num_inference_steps, editing.num_inference_steps),
                    guidance_scale=_number(self.guidance_scale, editing.guidance_scale),
                ),
            )
        if config.prompt is None:
            raise UserError("the prompt is missing: say what the clip shows, such as 'a jeep turns on a road'")
        if not config.edit_prompts:
            raise UserError("the edit prompts are missing: say what an edit shall show, such as 'a red jeep'")
        return config

    def stem(self) -> str:
        """What the run's directory is called after."""
        return "small-clip" if self.clip is None else self.clip.path.stem.rpartition("-")[0]


def tune_words(config: TuneConfig) -> list[str]:
    """The command that makes the run."""
    return ["tune", *command_line(config)]


@dataclass(frozen=True)
class EditAgain:
    """The form of an edit of a run. What is None is as the run has it."""

    prompts: str = ""
    """One a line."""
    negative_prompt: str | None = None
    preset: str | None = None
    seed: float | None = None
    guidance_scale: float | None = None
    num_inference_steps: float | None = None
    eta: float | None = None
    controls: dict[str, Any] = field(default_factory=dict)
    """Settings of controls, by their names."""

    def command(self, run: str, config: TuneConfig, output: str | None = None) -> EditCommand:
        """The command for the run in the directory ``run``, which is configured by ``config``.

        Raises:
            UserError: something can't be, or is missing; all such is named.
        """
        with _told():
            if self.preset is not None:
                config = with_preset(config, _preset(self.preset), **costing_of(config))
            like = EditCommand.like(run, config)
            given = self.controls
            command = replace(
                like,
                prompts=lines_of(self.prompts),
                negative_prompt=like.negative_prompt if self.negative_prompt is None else self.negative_prompt.strip(),
                seed=_whole(self.seed, like.seed),
                output=output,
                editing=replace(
                    like.editing,
                    guidance_scale=_number(self.guidance_scale, like.editing.guidance_scale),
                    num_inference_steps=_whole(self.num_inference_steps, like.editing.num_inference_steps),
                    eta=_number(self.eta, like.editing.eta),
                ),
                controls=replace(like.controls, **{name: value for name, value in given.items() if value is not None}),
            )
        if not command.prompts:
            raise UserError("the edit prompts are missing: say what the edit shall show, such as 'a red jeep'")
        return command


def edit_words(command: EditCommand, config: TuneConfig) -> list[str]:
    """The command that edits the run that is configured by ``config``."""
    return ["edit", *edit_command_line(command, config)]


def checked_model(named: str, listed: Sequence[str], *, any_path: bool) -> str | None:
    """The model that the page names: None for the built-in one.

    Raises:
        UserError: it is neither in the list nor a Hugging Face id, nor, with ``any_path``, there.
    """
    named = named.strip()
    if not named:
        return None
    if named in listed:
        return named
    path = os.path.expanduser(named)
    if any_path and os.path.exists(path):
        return path
    if HUB_ID.fullmatch(named) and not os.path.exists(named):
        return named
    if any_path:
        raise UserError(
            f"{printable(named)} is not there: give the path of a checkpoint, or a Hugging Face id owner/name"
        )
    raise UserError(
        f"{printable(named)} is not in the list: choose one, give a Hugging Face id owner/name, or start the studio "
        "with --model PATH"
    )


def lines_of(text: str) -> tuple[str, ...]:
    """The lines that say something, each once."""
    return tuple(dict.fromkeys(line.strip() for line in text.splitlines() if line.strip()))


def stride_of(begin: int, end: int, frames: int) -> int:
    """How far apart so many frames are, evenly spread from the frame ``begin`` to before the frame ``end``."""
    return max(1, (end - begin - 1) // (frames - 1)) if frames > 1 else 1


def _taken(form: NewRun, clip: UploadedClip, frames: int) -> dict[str, Any]:
    begin = min(max(0, round(form.begin * clip.fps)), clip.frames - 1)
    end = clip.frames if form.end is None else min(clip.frames, max(begin + 1, round(form.end * clip.fps)))
    stride = _whole(form.stride, 0) or stride_of(begin, end, frames)
    needed = begin + (frames - 1) * stride + 1
    if frames > 0 and stride > 0 and needed > end:
        raise UserError(
            f"from {begin / clip.fps:.2f} s to {end / clip.fps:.2f} s there are {end - begin} frames, and {frames} "
            f"frames with stride {stride} need {needed - begin}: take fewer frames, or more of the clip"
        )
    return {"video": str(clip.path), "start": begin, "stride": stride}


@contextmanager
def _told() -> Iterator[None]:
    """Whatever settings in this block can't be is said in one sentence, by the names that the page has for them."""
    with checks_postponed() as problems:
        yield
    if problems:
        said = [
            f"{LABELS.get(name, name.replace('_', ' '))} {quoted(value)} {complaint}"
            for name, (value, complaint) in problems.items()
        ]
        raise UserError("; ".join(said))


def _preset(name: str) -> str:
    if name not in PRESETS:
        raise UserError(f"{printable(name)} is not a preset: choose {', '.join(PRESETS)}")
    return name


def _whole(value: float | None, usual: int) -> int:
    if value is None:
        return usual
    if not math.isfinite(value) or value != int(value):
        raise UserError(f"{value:g} is not a whole number: leave out what is behind the point")
    return int(value)


def _number(value: float | None, usual: float) -> float:
    return usual if value is None else float(value)
