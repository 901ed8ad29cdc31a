"""Loads the parts of a checkpoint, each as a function of flat parameters."""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh

from vrwkv_jax.checkpoint import mixers
from vrwkv_jax.checkpoint.source import Source
from vrwkv_jax.checkpoint.weights_config import WeightsConfig
from vrwkv_jax.diffusion.schedule import NoiseSchedule
from vrwkv_jax.models import params as P
from vrwkv_jax.models.clip_text import CLIPTextEncoder
from vrwkv_jax.models.parameter_rules import ADDED
from vrwkv_jax.models.params import GraphDef, Params
from vrwkv_jax.models.tokenizer import Tokenizer
from vrwkv_jax.models.unet import UNet
from vrwkv_jax.models.unet_config import UNetConfig
from vrwkv_jax.models.vae import AutoencoderKL, VAEConfig
from vrwkv_jax.models.video_config import VideoConfig
from vrwkv_jax.parallel.placement import place, to_host
from vrwkv_jax.system.reporter import SILENT, process_reporter

LARGE = 2**26
"""Numbers of a model that take seconds to read from a disk."""


@dataclass(frozen=True)
class Component:
    """A model apart from its parameters: the static graph, which ``jax.jit`` hashes, and the arrays."""

    graphdef: GraphDef
    params: Params


@dataclass(frozen=True)
class Components:
    """Everything in a checkpoint, ready to run."""

    source: Source
    video: VideoConfig
    unet: Component
    vae: Component
    vae_config: VAEConfig
    text_encoder: Component
    tokenizer: Tokenizer
    schedule: NoiseSchedule

    @classmethod
    def load(
        cls,
        model: str | Path,
        *,
        video: VideoConfig | None,
        dtype: Any,
        seed: int,
        weights: WeightsConfig | None = None,
        bi_wkv: str | None = None,
        described: Callable[["Components"], object] = lambda components: None,
    ) -> "Components":
        """Reads the checkpoint ``model`` (its path, or a hub id); see ``Editor.from_pretrained``.

        ``described`` gets the same with shapes for parameters, before these are read.
        """
        source = Source.find(model, weights)
        tuned = mixers.config_of(source.path)
        video = (video or tuned or VideoConfig()).settled()
        parts = source.describe()
        shapes = cls(
            source,
            video,
            _describe(dtype, UNet, parts.unet, video, bi_wkv=bi_wkv),
            _describe(jnp.float32, AutoencoderKL, parts.vae),
            parts.vae,
            _describe(jnp.float32, CLIPTextEncoder, parts.text_encoder),
            parts.tokenizer,
            parts.schedule,
        )
        source.check_additions({"unet": _pretrained(shapes.unet.params), "text_encoder": shapes.text_encoder.params})
        described(shapes)
        if tuned is not None and tuned != video:
            warnings.warn(
                f"{source.path} has mixers of another configuration ({tuned.mixer}), which are not used", stacklevel=2
            )

        def added(shapes: Params) -> Params:
            return mixers.read(source.path, shapes) if tuned == video else _initial(parts.unet, video, seed)

        return replace(
            shapes,
            unet=_load_unet(source, shapes.unet, added, dtype),
            vae=_load(source, "vae", shapes.vae, jnp.float32),
            text_encoder=_load(source, "text_encoder", shapes.text_encoder, jnp.float32),
        )

    def placed(self, mesh: Mesh | None) -> "Components":
        """The same, with parameters on the devices of ``mesh``; the text encoder's, needed for moments, on the host."""

        def moved(component: Component) -> Component:
            return replace(component, params=place(component.params, mesh))

        on_host = {path: to_host(leaf) for path, leaf in self.text_encoder.params.items()}
        text_encoder = replace(self.text_encoder, params=on_host)
        return replace(self, unet=moved(self.unet), vae=moved(self.vae), text_encoder=text_encoder)


def _describe(dtype: Any, model: Callable[..., nnx.Module], *configuration: Any, **options: Any) -> Component:
    """Shapes for parameters: in ``dtype``, if there is one, but for what is added to what a checkpoint holds."""
    graphdef, shapes = P.described(model, *configuration, **options)
    if dtype is not None:
        pretrained = {path: leaf for path, leaf in shapes.items() if not ADDED.search(path)}
        shapes = shapes | {path: jax.ShapeDtypeStruct(leaf.shape, dtype) for path, leaf in pretrained.items()}
    return Component(graphdef, shapes)


@partial(jax.jit, static_argnames=("config", "video", "seed"))
def _initial(config: UNetConfig, video: VideoConfig, seed: int) -> Params:
    """What a new U-Net begins with where no image checkpoint has anything. The rest is never computed."""
    initial = P.split(UNet(config, video, rngs=P.Keys(seed)))[1]
    return {path: leaf for path, leaf in initial.items() if ADDED.search(path)}


def _load(source: Source, part: str, described: Component, dtype: Any) -> Component:
    return replace(described, params=_read(source, part, described.params, dtype))


def _read(source: Source, part: str, shapes: Params, dtype: Any) -> Params:
    """``source.read``, of which the process's reporter is told where it takes a while."""
    is_large = sum(math.prod(leaf.shape) for leaf in shapes.values()) >= LARGE
    reporter = process_reporter() if is_large else SILENT
    with reporter.stage(f"read {part}", len(shapes), unit="tensor") as advance:

        def placed(count: int) -> None:
            for _ in range(count):
                advance()

        return source.read(part, shapes, dtype, progress=placed)


def _pretrained(params: Params) -> Params:
    """What an image checkpoint has of them."""
    return {path: leaf for path, leaf in params.items() if not ADDED.search(path)}


def _load_unet(source: Source, described: Component, added: Callable[[Params], Params], dtype: Any) -> Component:
    """``added`` gives what no image checkpoint has, by its shapes."""
    shapes = described.params
    new = {path: leaf for path, leaf in shapes.items() if ADDED.search(path)}
    params = _read(source, "unet", _pretrained(shapes), dtype)
    if new:
        params |= added(new)
    return replace(described, params={path: params[path] for path in shapes})
