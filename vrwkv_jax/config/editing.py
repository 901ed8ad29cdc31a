"""How a clip is inverted and edited: the settings of the commands, and presets of how much work an edit is worth."""

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from tyro.conf import arg

from vrwkv_jax.editing.settings import (
    INFERENCE_STEPS,
    INVERSION_ITERATIONS,
    INVERSION_TOLERANCE,
    NULL_TEXT_ITERATIONS,
    Sampling,
    no_null_text,
)
from vrwkv_jax.media.clip import MOST_FPS
from vrwkv_jax.media.formats import Format
from vrwkv_jax.media.writer import CRF, MOST_CRF
from vrwkv_jax.system.checks import Rule, between, default_shown, optional


@dataclass(frozen=True)
class EditConfig(Sampling):
    """How the clip is inverted and edited."""

    num_inference_steps: int = 50
    """Steps of the inversion and of the sampling, 1 to 1000."""
    guidance_from: Literal["negative_prompt", "source", "null_text"] = "negative_prompt"
    """What guidance leads away from: the negative prompt; the clip's own, which spares what both prompts say; or what
    null-text inversion finds for each step, from which the clip's own prompt leads back to the clip."""
    null_text_iterations: int = 10
    """Optimiser steps of null-text inversion per step of sampling."""
    inversion_prompt: Literal["source", "empty"] = "source"
    """Invert the clip under its own prompt, better for edits with controls, or under the empty one, better without."""
    inversion_iterations: int = 3
    """How often each step of the inversion asks the model: 1 is plain DDIM inversion, more are truer to the clip."""
    inversion_tolerance: float = 0.0
    """Let a step of the inversion end as soon as asking again has moved the latents by less than this share of the
    step, and begin where the last step leads on to; 0.1, say, for half the work. 0: never."""
    fps: Annotated[int | None, arg(metavar="INT", help_behavior_hint=default_shown)] = None
    """Frames per second of the clips written. Not set: the speed of the source."""
    format: Format = "mp4"
    """Form of the edits, alone and side by side: mp4; gif or webp (lossless), without sound; or for each a folder of
    png frames, without times. Masks, samples, and the run's own source and reconstruction stay mp4."""
    crf: int = CRF
    """How strongly x264 compresses edits in mp4, 0 to 51: less is better and larger, 16 looks like the frames."""

    def _rules(self) -> dict[str, Rule]:
        null_text = self.guidance_from == "null_text"
        rules = super()._rules()
        if null_text and not self.is_guided:
            rules["guidance_scale"] = lambda value: "is no guidance, to which null-text inversion adds"
        if null_text and (complaint := no_null_text(self.sampler)):
            rules["guidance_from"] = lambda value: complaint
        return rules | {
            "num_inference_steps": INFERENCE_STEPS,
            "null_text_iterations": NULL_TEXT_ITERATIONS,
            "inversion_iterations": INVERSION_ITERATIONS,
            "inversion_tolerance": INVERSION_TOLERANCE,
            "fps": optional(between(1, MOST_FPS)),
            "crf": between(0, MOST_CRF),
        }

    @property
    def of_frames(self) -> dict[str, Any]:
        """What frames depend on: all settings but those of the files into which they are written."""
        settings = asdict(replace(self, fps=None))
        return {name: value for name, value in settings.items() if name not in ("format", "crf")}


class Preset(NamedTuple):
    """What an edit may cost. docs/presets.md has what each asks of the model, and what that does to edits."""

    steps: float
    """Share of the steps that are usual for the model."""
    inversion_iterations: int
    inversion_tolerance: float
    cache_interval: int

    def applied_to(self, editing: EditConfig, usual_steps: int, guided: float, *, is_long: bool) -> EditConfig:
        """``editing`` at this cost; ``guided`` is the share of the sampled steps that are, from the noisy end.

        A clip that ``is_long`` has neither a tolerance nor feature reuse.
        """
        fewer = replace(
            editing,
            num_inference_steps=round(self.steps * usual_steps),
            inversion_iterations=self.inversion_iterations,
            guidance_interval=(0.0, guided),
        )
        if is_long:
            return fewer
        return replace(fewer, inversion_tolerance=self.inversion_tolerance, cache_interval=self.cache_interval)


PRESETS = {
    "quality": Preset(1.0, 3, 0.1, 1),
    "balanced": Preset(0.6, 3, 0.2, 1),
    "fast": Preset(0.5, 3, 0.3, 2),
}
DEFAULT_PRESET = "balanced"
if TYPE_CHECKING:
    PresetName = str
else:
    PresetName = Literal[*PRESETS]
