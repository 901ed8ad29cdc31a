"""A VAE by itself, such as a fine-tuned one that is to take the place of a checkpoint's own.

It is a directory in the diffusers layout, or that of a whole checkpoint, or one file: diffusers' names of tensors,
those of Stable Diffusion's own repository, or a whole checkpoint in one file.
"""

from pathlib import Path
from typing import Any

from vrwkv_jax.checkpoint import compvis_names, kinds
from vrwkv_jax.checkpoint.compvis_names import Renamed
from vrwkv_jax.checkpoint.configs import read_vae_config, vae_config
from vrwkv_jax.checkpoint.derived import Shapes, vae_values
from vrwkv_jax.checkpoint.formats.registry import format_of
from vrwkv_jax.checkpoint.native import Progress
from vrwkv_jax.checkpoint.tensors import Headers
from vrwkv_jax.checkpoint.torch_tensors import from_tensors
from vrwkv_jax.checkpoint.weight_files import open_tensors
from vrwkv_jax.models.params import Params
from vrwkv_jax.models.vae import VAEConfig
from vrwkv_jax.system.errors import UserError, setting

UNLIKE = ("are not those of one VAE of Stable Diffusion", "download the file again, or get another VAE")
EXPECTED = "expected a VAE of Stable Diffusion 1.x or 2.x: a directory in the diffusers layout or one file"


def describe_vae(path: Path) -> VAEConfig:
    """The configuration of the VAE in ``path``; that of a file is seen from its tensors.

    Raises:
        UserError: nothing is there, or no VAE of this kind, or it is damaged.
    """
    if path.is_dir():
        return read_vae_config(_directory(path) / "config.json")
    return vae_config(vae_values(Shapes(_in_file(path), str(path))), str(path))


def load_vae(path: Path, abstract: Params, dtype: Any = None, *, progress: Progress = lambda count: None) -> Params:
    """The parameters of the VAE in ``path``, as ``Source.read`` gives those of a checkpoint's."""
    if path.is_dir():
        checkpoint, part = _directory(path).parent, _directory(path).name
        return format_of(checkpoint, part).read(checkpoint, part, None, abstract, dtype, progress)
    return from_tensors(_in_file(path), abstract, dtype, where=str(path), unlike=UNLIKE, progress=progress)


def vae_weights(path: Path) -> list[Path]:
    """The files that hold the weights of the VAE in ``path``, in an order that is always the same."""
    if path.is_dir():
        checkpoint, part = _directory(path).parent, _directory(path).name
        return format_of(checkpoint, part).weights(checkpoint, part, None)
    return [path]


def vae_tensors(path: Path) -> Headers:
    """What is stored of the VAE in ``path``, by diffusers' names."""
    if path.is_dir():
        checkpoint, part = _directory(path).parent, _directory(path).name
        return format_of(checkpoint, part).tensors(checkpoint, part, None)
    return _in_file(path)


def check_replaces(own: VAEConfig, other: VAEConfig, path: Path) -> None:
    """Raises UserError where a model whose VAE is ``own`` can't have ``other``, the one in ``path``, in its place."""
    for key in ("latent_channels", "scaling_factor", "shift_factor", "downscale"):
        given, expected = getattr(other, key), getattr(own, key)
        if given != expected:
            raise UserError(
                f"{setting('vae')}: {key} of {path} is {given}, and that of the model's own is {expected}; expected a "
                "VAE of the same latents, such as one for Stable Diffusion 1.x and 2.x"
            )


def _directory(path: Path) -> Path:
    """The directory of the VAE itself, absolute: ``path``, or the one in it that a whole checkpoint has."""
    directory = (path / "vae" if (path / "vae").is_dir() else path).absolute()
    if not (directory / "config.json").is_file():
        raise UserError(f"{setting('vae')}: {path} has no config.json of a VAE; {EXPECTED}")
    return directory


def _in_file(path: Path) -> Renamed:
    """The VAE's tensors in the file ``path``, by diffusers' names."""
    if not path.is_file():
        raise UserError(f"{setting('vae')}: there is no {path}; {EXPECTED}")
    kinds.check_file(path)
    tensors = open_tensors(path)
    what = kinds.kind_of(tensors)
    names = [name for name in tensors if not compvis_names.is_no_part(name)]
    is_whole = any(name.startswith(compvis_names.VAE) for name in names)
    sources = compvis_names.vae(names, compvis_names.VAE if is_whole else ("",))
    if what not in (None, kinds.VAE_ALONE, *kinds.CHANNELS.values()) or not any("decoder." in name for name in sources):
        raise UserError(f"{setting('vae')}: {path} is {what or 'no VAE'}; {EXPECTED}")
    return Renamed(tensors, sources)
