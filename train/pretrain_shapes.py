"""``python -m train.pretrain_shapes``: train the small model that the package ships.

Renders frames, trains the VAE on them, then U-Net and text encoder on its latents, writes a checkpoint in the diffusers
layout, and measures what it draws. Started again with the same --output it goes on where it was stopped. With --start
it takes tokenizer and the weights to begin with from a model that is already there.

A larger one, for a GPU: --size 128 --channels 64 --frames 100000 --minutes 60. Frames are drawn first, by all
processors: one draws about 250 of 64 x 64 pixels a second, 96 of 96 x 96, 57 of 128 x 128.
"""

if __name__ == "__main__":  # before the imports, in whose seconds Ctrl-C shall be one line, too
    import sys

    from vrwkv_jax.commands.cli import run_module

    sys.exit(run_module("train.pretrain_shapes"))

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from train.pretrain.autoencoder import VAE, train_vae
from train.pretrain.card import measure, model_card
from train.pretrain.data import frames
from train.pretrain.fit import LOG, Recipe, check_unchanged, seconds_spent
from train.pretrain.text_to_image import (
    SCHEDULERS,
    TEXT_LENGTH,
    UNET,
    Prediction,
    text_config,
    train_text_to_image,
    with_new_words,
)
from vrwkv_jax.checkpoint.save import save_pipeline
from vrwkv_jax.config.flags import at_home
from vrwkv_jax.editing.components import Components
from vrwkv_jax.editing.encoders import encode_frames
from vrwkv_jax.media.files import replacing
from vrwkv_jax.models import params as P
from vrwkv_jax.models.params import Params
from vrwkv_jax.models.tokenizer import Tokenizer, add_words, write_byte_tokenizer
from vrwkv_jax.models.unet_config import UNetConfig
from vrwkv_jax.models.vae import AutoencoderKL
from vrwkv_jax.models.video_config import VideoConfig
from vrwkv_jax.parallel.devices import check_devices
from vrwkv_jax.runs import own
from vrwkv_jax.runs.checkpoints import CHECKPOINTS
from vrwkv_jax.system.about import about
from vrwkv_jax.system.checks import above, at_least, check_fields, default_shown, multiple_of, optional
from vrwkv_jax.system.compiled import keep_compiled_programs
from vrwkv_jax.system.errors import UserError

SETTINGS = "settings.json"  # in training/
VAE_STEPS = 5000  # of a new one
VAE_SHARE = 0.2  # of the minutes, where it is trained


@dataclass(frozen=True)
class PretrainConfig:
    """Train the small model on the rendered world."""

    output: Path = Path("runs/shapes-model")
    """Directory for the checkpoint; training/ in it holds what is needed to go on after an interruption."""
    frames: int = 40_000
    """Frames to render."""
    size: int = 64
    """Pixels of a side: a multiple of 16, at least 32."""
    channels: int | None = None
    """Of the U-Net's first level, a multiple of 16; its second has twice as many. By default 48, or as --start has."""
    vae_steps: int | None = None
    """Steps of 16 frames for the VAE. By default 5000, or none with --start, whose VAE then stays as it is."""
    unet_steps: int = 5000
    """Steps of 32 frames for U-Net and text encoder."""
    minutes: float | None = None
    """Minutes of training instead of numbers of steps; a fifth of them for the VAE, where that is trained."""
    seed: int = 0
    """Of the frames, the noise and the first weights."""
    start: Annotated[Path | None, tyro.conf.arg(metavar="PATH", help_behavior_hint=default_shown)] = None
    """A model that this command has made: training goes on from it."""
    prediction: Prediction = "v_prediction"
    """What the U-Net predicts: v, with a schedule that ends at zero SNR, or noise, with Stable Diffusion 1.5's own."""

    def __post_init__(self) -> None:
        check_fields(
            self,
            frames=at_least(1),
            size=lambda size: at_least(32)(size) or multiple_of(16)(size),
            channels=optional(multiple_of(16)),
            vae_steps=optional(at_least(1 if self.start is None else 0)),
            unet_steps=at_least(1),
            minutes=optional(above(0)),
        )


def main(argv: Sequence[str] | None = None) -> None:
    config = tyro.cli(PretrainConfig, args=argv, prog="python -m train.pretrain_shapes")
    output = Path(at_home(str(config.output), is_new=True))
    config = replace(config, output=output, start=config.start and config.start.expanduser())
    training = config.output / "training"
    check_devices()
    keep_compiled_programs()
    made = None if config.start is None else _made(config.start, config)
    unet_config = _unet_config(config, made)
    _claim(config.output, training)
    _check_settings(config, training / SETTINGS)
    vae_steps = config.vae_steps if config.vae_steps is not None else VAE_STEPS if made is None else 0
    pictures, captions = frames(config.frames, config.size, config.seed)
    if made is None:
        write_byte_tokenizer(config.output / "tokenizer", captions, TEXT_LENGTH)
        vae, scaling_factor, first = None, 1.0, None
    else:
        joined = add_words(made.source.path / "tokenizer", config.output / "tokenizer", captions)
        vae, scaling_factor = made.vae.params, made.vae_config.scaling_factor
        first = (made.unet.params, with_new_words(made.text_encoder.params, joined))
    minutes = None
    if vae is None or vae_steps:
        minutes = config.minutes and VAE_SHARE * config.minutes
        rate = 2e-3 if vae is None else 1e-3
        recipe = Recipe(vae_steps, learning_rate=rate, minutes=minutes, seed=config.seed)
        vae = train_vae(pictures, recipe, training / "vae", vae)
        latents = encode(vae, pictures)
        scaling_factor = 1 / float(latents.std())
    else:
        latents = encode(vae, pictures)

    tokenizer = Tokenizer.from_pretrained(config.output / "tokenizer")
    left = config.minutes and config.minutes - (minutes or 0)
    recipe = Recipe(config.unet_steps, learning_rate=1e-3, minutes=left, seed=config.seed)
    ids, empty = tokenizer(captions), tokenizer([""])[0]
    unet, text_encoder = train_text_to_image(
        latents * scaling_factor,
        ids,
        empty,
        tokenizer.vocab_size,
        config.prediction,
        recipe,
        training / "unet",
        unet_config,
        first,
    )
    models = {
        "unet": (asdict(unet_config) | {"sample_size": config.size // VAE.downscale}, half(unet)),
        "vae": (asdict(VAE) | {"sample_size": config.size, "scaling_factor": scaling_factor}, half(vae)),
        "text_encoder": (asdict(text_config(tokenizer.vocab_size)), half(text_encoder)),
    }
    save_pipeline(config.output, models, SCHEDULERS[config.prediction])

    print("drawing 200 prompts that training never saw", file=sys.stderr)
    figures = measure(config.output, config.size, config.seed + 1)
    settings = {name: value for name, value in asdict(config).items() if name != "output" and value is not None}
    hours = sum(seconds_spent(log.parent) for log in training.glob(f"*/{LOG}")) / 3600
    (config.output / "README.md").write_text(model_card(settings, config.size, hours, figures, about()))
    print("".join(f"{name}: {value}\n" for name, value in figures.items()) + f"wrote {config.output}")


def _made(start: Path, config: PretrainConfig) -> Components:
    """The model to begin with; UserError where this command did not make it, or is about to write over it."""
    if start.resolve() == config.output.resolve():
        raise UserError(f"--start and --output are both {start}: name another directory to write to")
    made = Components.load(start, video=VideoConfig(mixer="none"), dtype=jnp.float32, seed=config.seed)
    parts = made.source.describe()
    vae, text = replace(parts.vae, scaling_factor=VAE.scaling_factor), parts.text_encoder
    if vae != VAE or text != text_config(text.vocab_size):
        raise UserError(f"--start {start} is no model that this command has made: its VAE or text encoder is another")
    return made


def _unet_config(config: PretrainConfig, made: Components | None) -> UNetConfig:
    """The U-Net that is trained; UserError where that of --start has another number of channels."""
    channels = config.channels
    if made is None:
        first = channels or UNET.block_out_channels[0]
        return replace(UNET, block_out_channels=(first, 2 * first))
    unet = made.source.describe().unet
    if channels not in (None, unet.block_out_channels[0]):
        raise UserError(
            f"--channels is {channels}, but the U-Net of --start {config.start} has {unet.block_out_channels[0]}: "
            "leave out one of the two"
        )
    return unet


def _claim(directory: Path, training: Path) -> None:
    """Makes ``training`` in ``directory``; UserError where that holds something else than what this command made."""
    begun = any(own.wrote(training / part, CHECKPOINTS) for part in ("vae", "unet"))
    if own.is_filled(directory) and not own.is_marked(training, own.PRETRAINING) and not begun:
        raise UserError(f"--output {directory} is not empty and holds no training to go on with: name another")
    try:
        training.mkdir(parents=True, exist_ok=True)
        own.mark(training, own.PRETRAINING)
    except OSError as error:
        raise UserError(f"--output {directory} can't be made ({error.strerror}): name another directory") from error


def _check_settings(config: PretrainConfig, path: Path) -> None:
    """Keeps what decides the data and the models; UserError where training was begun with something else."""
    names = ("frames", "size", "channels", "seed", "start", "prediction")
    values = {name: getattr(config, name) for name in names}
    settings = {f"--{name}": x if isinstance(x, int | None) else str(x) for name, x in values.items()}
    if not path.exists():
        with replacing(path) as part:
            part.write_text(json.dumps(settings))
        return
    try:
        earlier = dict(json.loads(path.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{path} is damaged: delete it if you know that nothing else has changed") from error
    check_unchanged(config.output, "other settings", earlier, settings)


def encode(vae: Params, pictures: np.ndarray) -> np.ndarray:
    """Latents in the VAE's own units."""
    graphdef = P.abstract(lambda rngs: AutoencoderKL(VAE, rngs=rngs))[0]
    parts = np.array_split(pictures, -(-len(pictures) // 500))
    unscaled = [np.asarray(encode_frames(graphdef, VAE, vae, part)) / VAE.scaling_factor for part in parts]
    return np.concatenate(unscaled)


def half(params: Params) -> Params:
    """As float16, the form in which checkpoints are passed on."""
    halved: Params = jax.tree.map(lambda leaf: leaf.astype(jnp.float16), params)
    return halved
