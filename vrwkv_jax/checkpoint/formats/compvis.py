"""A single file in the layout of Stable Diffusion's own repository (CompVis), as A1111 and ComfyUI read it."""

import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

from vrwkv_jax.checkpoint import compvis_names, kinds
from vrwkv_jax.checkpoint.compvis_names import Renamed
from vrwkv_jax.checkpoint.configs import text_config, unet_config, vae_config
from vrwkv_jax.checkpoint.derived import Shapes, prediction_of, text_values, unet_values, vae_values
from vrwkv_jax.checkpoint.description import Description
from vrwkv_jax.checkpoint.formats.base import PARTS, WEIGHTS
from vrwkv_jax.checkpoint.native import Progress
from vrwkv_jax.checkpoint.safetensors_files import SafetensorsFile
from vrwkv_jax.checkpoint.tensors import Tensors
from vrwkv_jax.checkpoint.torch_files import TorchFile
from vrwkv_jax.checkpoint.torch_tensors import from_tensors
from vrwkv_jax.checkpoint.weight_files import open_tensors
from vrwkv_jax.diffusion.schedule import NoiseSchedule, PredictionType
from vrwkv_jax.models.params import Params
from vrwkv_jax.models.tokenizer import Tokenizer
from vrwkv_jax.system.errors import UserError, setting

TITLE = "a single file in the layout of Stable Diffusion's own repository (.safetensors or .ckpt)"
CALLED = {"unet": "U-Net", "vae": "VAE", "text_encoder": "text encoder"}
UNLIKE = ("are not those of one Stable Diffusion 1.x or 2.x", "download the file again, or get another of this model")
BASE_STEPS = 875_000  # of the training of Stable Diffusion 2 base: the one file of 2.x in which diffusers sees epsilon


def recognises(checkpoint: Path, part: str) -> bool:
    # Any file of weights: what is in it, be it no such model, describe says best.
    return part in PARTS and checkpoint.is_file() and kinds.is_weights(checkpoint)


def describe(checkpoint: Path, prediction_type: PredictionType | None = None) -> Description:
    found, where = open_tensors(checkpoint), str(checkpoint)
    kinds.check_tensors(checkpoint, found)
    parts = _parts(checkpoint, found)
    shapes = {part: Shapes(tensors_of, where) for part, tensors_of in parts.items()}
    is_sd2 = compvis_names.is_open_clip(found)
    if prediction_type is None:
        prediction_type = _prediction_type(checkpoint, found, is_sd2)
    return Description(
        unet_config(unet_values(shapes["unet"]), where),
        vae_config(vae_values(shapes["vae"]), where),
        text_config(text_values(shapes["text_encoder"], open_clip=is_sd2), where),
        Tokenizer.of_clip(padding="!") if is_sd2 else Tokenizer.of_clip(),
        asdict(_schedule(found, prediction_type)),
    )


def variants(checkpoint: Path, part: str) -> list[str]:
    return []


def tensors(checkpoint: Path, part: str, variant: str | None) -> Tensors:
    return _parts(checkpoint, open_tensors(checkpoint))[part]


def read(checkpoint: Path, part: str, variant: str | None, abstract: Params, dtype: Any, progress: Progress) -> Params:
    found = tensors(checkpoint, part, variant)
    return from_tensors(found, abstract, dtype, where=str(checkpoint), unlike=UNLIKE, progress=progress)


def weights(checkpoint: Path, part: str, variant: str | None) -> list[Path]:
    return [checkpoint]


def notes(checkpoint: Path) -> list[str]:
    """What is to be known of the file besides its description, in sentences."""
    names = list(open_tensors(checkpoint))
    said = []
    if compvis_names.is_averaged(names):
        has_plain = any(name.startswith(compvis_names.UNET) for name in names)
        said.append(
            "of the U-Net it has plain and averaged weights (EMA): the plain ones are used, as diffusers does"
            if has_plain
            else "of the U-Net it has averaged weights (EMA) alone, which are used"
        )
    if left := compvis_names.others(names):
        shown = ", ".join(left[:3]) + (", ..." if len(left) > 3 else "")
        said.append(f"{len(left)} of its tensors are no part of the model and are left: {shown}")
    return said


def _parts(checkpoint: Path, tensors: Tensors) -> dict[str, Renamed]:
    """The tensors of each model by diffusers' names; UserError where one of them is not there."""
    parts = compvis_names.parts(tensors)
    lacking = [CALLED[part] for part in WEIGHTS if part not in parts]
    if lacking:
        kinds.check_tensors(checkpoint, tensors)
    if len(lacking) == len(WEIGHTS):
        names = ", ".join(sorted(tensors)[:3]) or "nothing"
        raise UserError(f"{checkpoint} holds no Stable Diffusion model, but {names}, ...; expected {TITLE}")
    if lacking:
        raise UserError(
            f"{checkpoint} has no {' and no '.join(lacking)}; expected U-Net, VAE and text encoder in one file: get "
            "the whole model, or one in the diffusers layout"
        )
    return {part: Renamed(tensors, sources) for part, sources in parts.items()}


def _prediction_type(checkpoint: Path, tensors: SafetensorsFile | TorchFile, is_sd2: bool) -> PredictionType:
    """What the U-Net predicts, as the file says; where none does, as diffusers takes it, which warns for 2.x."""
    names = set(tensors)
    said = prediction_of(tensors.metadata) if isinstance(tensors, SafetensorsFile) else None
    if "v_pred" in names or said == "v_prediction":
        return "v_prediction"
    if not is_sd2 or said == "epsilon" or _steps(tensors) == BASE_STEPS:
        return "epsilon"
    warnings.warn(
        f"{checkpoint} is a Stable Diffusion 2, which does not say what its U-Net predicts: v_prediction is taken, as "
        "for the models of 768 pixels; for a base model of 512 pixels, or where only noise comes out, give "
        f"{setting('prediction_type', 'epsilon')}",
        stacklevel=2,
    )
    return "v_prediction"


def _steps(tensors: SafetensorsFile | TorchFile) -> object:
    """For how many steps it was trained, where the file of the training says so."""
    name = "global_step"
    if isinstance(tensors, TorchFile) and name in tensors.contents:
        return tensors.contents[name]
    return tensors[name].item() if name in set(tensors) and tensors.shape(name) in ((), (1,)) else None


def _schedule(tensors: Tensors, prediction_type: PredictionType) -> NoiseSchedule:
    """Stable Diffusion's own; with the mark of a schedule that ends in pure noise, one that begins there."""
    if "ztsnr" in set(tensors):
        return NoiseSchedule(prediction_type=prediction_type, rescale_betas_zero_snr=True, timestep_spacing="trailing")
    return NoiseSchedule(prediction_type=prediction_type)
