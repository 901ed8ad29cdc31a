"""What can be configured: the sections of a run, their defaults and the values they allow.

The docstring below each field is its ``--help``.
"""

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, UseAppendAction, arg
from tyro.constructors import PrimitiveConstructorSpec

from pallas_kernels.implementation import IMPLEMENTATIONS
from vrwkv_jax.checkpoint.weights_config import WeightsConfig
from vrwkv_jax.config.editing import PRESETS, EditConfig
from vrwkv_jax.editing.controls.config import ControlConfig
from vrwkv_jax.editing.long.adaflow.config import AdaFlowConfig
from vrwkv_jax.editing.long.config import LongConfig
from vrwkv_jax.media.clip import ALL, RULES, Fit
from vrwkv_jax.media.size import FROM_SOURCE
from vrwkv_jax.models.parameter_rules import TRAINED
from vrwkv_jax.models.video_config import VideoConfig
from vrwkv_jax.parallel.mesh import parse_mesh
from vrwkv_jax.system.checks import (
    Rule,
    above,
    at_least,
    between,
    check_fields,
    default_shown,
    distinct,
    optional,
    text,
)
from vrwkv_jax.system.choices import Dtype
from vrwkv_jax.system.errors import setting

Path = Annotated[str | None, arg(metavar="PATH", help_behavior_hint=default_shown)]
Text = Annotated[str | None, arg(metavar="TEXT", help_behavior_hint=default_shown)]
if TYPE_CHECKING:
    BiWKV = str
    Trained = str
else:
    Trained = Literal[*TRAINED]
    BiWKV = Literal["auto", *reversed(IMPLEMENTATIONS)]
_REMAT = {"auto": "auto", "true": True, "false": False}
Remat = Annotated[
    bool | Literal["auto"],
    PrimitiveConstructorSpec(
        nargs=1,
        metavar="{auto,true,false}",
        instance_from_str=lambda words: _REMAT[words[0]],
        is_instance=lambda value: value in _REMAT.values(),
        str_from_instance=lambda value: [str(value).lower()],
        choices=tuple(_REMAT),
    ),
]

FramesOrTime = Annotated[
    int | str,
    PrimitiveConstructorSpec(
        nargs=1,
        metavar="INT|TIME",
        instance_from_str=lambda words: int(words[0]) if words[0].lstrip("-").isdecimal() else words[0],
        is_instance=lambda value: isinstance(value, int | str),
        str_from_instance=lambda value: [str(value)],
    ),
]

_BETA = between(0, 1 - 1e-6)  # at 1 the moving average never moves
_SEED = between(0, 2**32 - 1)  # what jax.random.key takes without 64-bit integers


def _remat(value: object) -> str | None:
    return None if value == "auto" or isinstance(value, bool) else "is not auto, True or False"


def _string(value: object) -> str | None:
    return None if value == "" else text(value)


def _rules_of_editing(editing: "EditConfig", prompt: str) -> dict[str, Rule]:
    """Those of what both commands have. ``prompt`` is the negative one."""
    unused = editing.guidance_from != "negative_prompt" and prompt != ""
    complaint = f"is not used with {setting('guidance_from', editing.guidance_from)}"
    return {"negative_prompt": (lambda value: complaint) if unused else _string, "seed": _SEED}


def _size(value: Any) -> str | None:
    return None if value == FROM_SOURCE else RULES["width"](value)


def _mesh(value: object) -> str | None:
    try:
        parse_mesh(str(value))
    except ValueError as error:
        return str(error)
    return None


def _address(value: object) -> str | None:
    host, _, port = str(value).rpartition(":")
    return None if host and port.isdecimal() else "is not HOST:PORT, such as node1:12345"


@dataclass(frozen=True)
class ClipConfig:
    """Which frames of the source clip are read, and at what size: by their numbers (12) or times (1.5s)."""

    video: Path = None
    """The source clip, or a folder of pictures, 25 for a second. Not set: a clip that the package renders."""
    frames: FramesOrTime = 8
    """Number of frames, or the time that they last (4s), or all: up to the end."""
    start: FramesOrTime = 0
    """First frame to read, counted from 0, or its time (1.5s)."""
    stride: FramesOrTime = 2
    """Read every n-th frame, or one each time (0.2s) has passed."""
    width: int = FROM_SOURCE
    """Width in pixels, a multiple of 8. 0: by the height and the proportions of the source; where both are 0, of about
    512 x 512 pixels in all."""
    height: int = FROM_SOURCE
    """Height in pixels, a multiple of 8, or 0, as for the width."""
    fit: Fit = "crop"
    """Keep the proportions and crop what sticks out, or stretch the whole picture to the size."""

    def __post_init__(self) -> None:
        check_fields(self, video=optional(text), **RULES | {"width": _size, "height": _size})

    @property
    def reading(self) -> dict[str, Any]:
        """The arguments of ``read_video`` and ``read_mask`` but for the path: frames, start, stride, size and fit."""
        return {name: getattr(self, name) for name in (*RULES, "fit")}

    @property
    def count(self) -> int:
        """Number of frames, once ``frames`` is one.

        Raises:
            TypeError: it is a time.
        """
        if not isinstance(self.frames, int):
            raise TypeError(f"how many frames there are in {self.frames} is for the source to say")
        return self.frames


@dataclass(frozen=True)
class TuningConfig:
    """How the model is tuned on the clip."""

    steps: int = 300
    """Optimiser steps."""
    batch_size: int = 1
    """Draws of timestep and noise per step."""
    learning_rate: Annotated[float, arg(name="lr", aliases=("--learning-rate",))] = 3e-5
    """Learning rate of the weights."""
    mixer_lr_scale: float = 150.0
    """The mixers' mu, decay, bonus and gains learn at this multiple of the rate, without weight decay."""
    mixer_strength: float = 1.0
    """Share of what the tuned mixers add that edits get, 0 to 1: with less they keep less of what the clip looks like,
    such as its old background. It changes what tuning gives, not how it goes."""
    train: Trained = "mixers"
    """Tune the mixers and what their method tunes beside them (most: the attentions' to_q), or every parameter of the
    U-Net."""
    weight_decay: float = 0.01
    """AdamW's weight decay."""
    beta1: float = 0.9
    """AdamW's decay of the gradients' mean."""
    beta2: float = 0.999
    """AdamW's decay of the gradients' square."""
    epsilon: float = 1e-8
    """AdamW's epsilon."""
    max_grad_norm: float = 1.0
    """Scale gradients down to this global norm."""
    dtype: Dtype = "auto"
    """Precision of the computation, of editing, too. Parameters that train stay float32. auto: bfloat16 on NVIDIA GPUs
    from compute capability 8.0 on, float32 elsewhere."""
    remat: Remat = "auto"
    """Recompute activations in the backward pass: less memory, more time. auto: where there is too little memory
    without. --remat alone is true, --no-remat false."""

    def __post_init__(self) -> None:
        check_fields(
            self,
            steps=at_least(0),
            batch_size=at_least(1),
            learning_rate=above(0),
            mixer_lr_scale=above(0),
            mixer_strength=between(0, 1),
            weight_decay=at_least(0),
            beta1=_BETA,
            beta2=_BETA,
            epsilon=above(0),
            max_grad_norm=above(0),
            remat=_remat,
        )


WORDS_AND_FEATURES = ControlConfig(cross_attention=0.6, replace_words=True, features=0.5)
"""The controls with which edits were best in docs/edit-quality.md."""


@dataclass(frozen=True)
class TuneConfig:
    """Tune a video model on one clip and its sentence, then edit the clip by other sentences.

    The defaults depend on whether a model is named. Shown are those of this command line: add --model for the others.
    """

    model: Path = None
    """Directory, converted checkpoint or Hugging Face hub id. Not set: the built-in small model of rendered shapes."""
    prompt: Text = None
    """What the clip shows."""
    edit_prompts: Annotated[UseAppendAction[tuple[str, ...]], arg(name="edit-prompt", metavar="TEXT")] = ()
    """What an edit shall show. Give it once for each edit."""
    negative_prompt: Annotated[str, arg(metavar="TEXT")] = ""
    """What edits shall not show."""
    output: Path = None
    """Directory of the run. Not set: runs/ and the name of the clip."""
    overwrite: bool = False
    """Replace a run that is there already."""
    resume: bool = False
    """Resume the unfinished run in --output. Settings that are not given are that run's."""
    checkpoint_every: int = 50
    """Save the state of the tuning every n steps, and keep the last two."""
    sample_every: int = 0
    """Make the first edit with the model as it is every n steps of tuning, into samples/. 0: never."""
    seed: int = 33
    """Seed of all random numbers."""
    mesh: Annotated[str | None, arg(metavar="AXES", help_behavior_hint=default_shown)] = None
    """Devices that share the work, such as data=1,fsdp=2,frame=4: draws of noise, parameters, and frames of the clip.
    Not set: all there are, as suits the clip."""
    bi_wkv: BiWKV = "auto"
    """What computes Bi-WKV, the recurrence of the mixers: kernels for NVIDIA GPUs (mosaic), compiled JAX (scan), or the
    dense formula (reference). auto: the fastest that the device can run."""
    coordinator: Annotated[str | None, arg(metavar="HOST:PORT", help_behavior_hint=default_shown)] = None
    """The first of several processes that a launcher (srun, mpirun, torchrun, Kubernetes) has started, where the
    launcher does not say it."""
    weights: WeightsConfig = field(default_factory=WeightsConfig)
    clip: ClipConfig = field(default_factory=ClipConfig)
    video_model: VideoConfig = field(default_factory=VideoConfig)
    tuning: TuningConfig = field(default_factory=TuningConfig)
    editing: EditConfig = field(default_factory=EditConfig)
    controls: ControlConfig = WORDS_AND_FEATURES
    long_video: LongConfig = field(default_factory=LongConfig)
    adaflow: AdaFlowConfig = field(default_factory=AdaFlowConfig)

    def __post_init__(self) -> None:
        check_fields(
            self,
            model=optional(text),
            prompt=optional(text),
            edit_prompts=distinct(text),
            **_rules_of_editing(self.editing, self.negative_prompt),
            output=optional(text),
            checkpoint_every=at_least(1),
            sample_every=at_least(0),
            mesh=optional(_mesh),
            coordinator=optional(_address),
        )

    @property
    def inversion_prompt(self) -> str:
        """What the clip is inverted under."""
        return (self.prompt or "") if self.editing.inversion_prompt == "source" else ""


SMALL = TuneConfig(
    clip=ClipConfig(frames=8, stride=1, width=64, height=64),
    tuning=TuningConfig(steps=100, learning_rate=1e-3, mixer_lr_scale=5.0, mixer_strength=0.5),
    editing=EditConfig(num_inference_steps=20, guidance_scale=3.0, guidance_mean=0.0),
    controls=replace(WORDS_AND_FEATURES, feature_layers=("up_blocks/0",)),
)
"""The defaults where no model is named, for the small model of rendered shapes; without a preset."""


def with_preset(config: TuneConfig, preset: str, *, is_small: bool, is_long: bool) -> TuneConfig:
    """``config`` with edits that cost what the ``preset`` of PRESETS allows, for the small model or any other."""
    usual = (SMALL if is_small else TuneConfig()).editing.num_inference_steps
    return replace(config, editing=PRESETS[preset].applied_to(config.editing, usual, is_long=is_long))


def defaults_of_long(config: TuneConfig, long: str) -> TuneConfig:
    """The defaults in the place of those of ``config`` where a clip is ``long``: all of its frames; and AdaFlow edits
    with the image model as it is."""
    config = replace(config, clip=replace(config.clip, frames=ALL, stride=1))
    if long == "adaflow":
        tuning = replace(config.tuning, steps=0)
        config = replace(config, video_model=replace(config.video_model, mixer="none"), tuning=tuning)
    return config


@dataclass(frozen=True)
class EditCommand:
    """Edit the clip of a tuned run by new sentences. What is not given is as the run was configured."""

    run: Annotated[Positional[str], arg(metavar="RUN")]
    """Directory of the run, made by python -m train.tune."""
    prompts: Annotated[
        UseAppendAction[tuple[str, ...]], arg(name="prompt", aliases=("--edit-prompt",), metavar="TEXT")
    ] = ()
    """What the edit shall show. Give it once for each edit."""
    negative_prompt: Annotated[str, arg(metavar="TEXT")] = ""
    """What the edit shall not show."""
    seed: int = 33
    """Seed of all random numbers."""
    bi_wkv: BiWKV = "auto"
    """What computes Bi-WKV, the recurrence of the mixers, as for python -m train.tune."""
    output: Path = None
    """Directory of the edited clips. Not set: inside the run."""
    model: Path = None
    """Where the run's model lies now. Not set: where it was."""
    weights: WeightsConfig = field(default_factory=WeightsConfig)
    editing: EditConfig = field(default_factory=EditConfig)
    controls: ControlConfig = field(default_factory=ControlConfig)

    def __post_init__(self) -> None:
        check_fields(
            self,
            run=text,
            prompts=distinct(text),
            **_rules_of_editing(self.editing, self.negative_prompt),
            output=optional(text),
            model=optional(text),
        )

    @classmethod
    def like(cls, run: str, config: TuneConfig) -> "EditCommand":
        """The command that edits as the run was configured."""
        return cls(
            run,
            negative_prompt=config.negative_prompt,
            seed=config.seed,
            bi_wkv=config.bi_wkv,
            weights=config.weights,
            editing=config.editing,
            controls=config.controls,
        )

    def applied_to(self, config: TuneConfig) -> TuneConfig:
        """The run's configuration with what this command says in its place (``output`` stays the run's)."""
        return replace(
            config,
            model=self.model or config.model,
            edit_prompts=self.prompts or config.edit_prompts,
            negative_prompt=self.negative_prompt,
            seed=self.seed,
            bi_wkv=self.bi_wkv,
            weights=self.weights,
            editing=self.editing,
            controls=self.controls,
        )


_FLAGS = {"learning_rate": "--lr", "edit_prompts": "--edit-prompt", "prompts": "--prompt", "run": "RUN"}
"""Those that are not called as their setting is."""


def flag_of(name: str, value: object = None) -> str:
    """The flag of a setting, or how a command line gives it a ``value``."""
    flag = _FLAGS.get(name, f"--{name.replace('_', '-')}")
    return flag if value is None or value is True else f"{flag} {value}"
