"""The settings of AdaFlow, and what it can't edit with."""

from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from vrwkv_jax.diffusion.samplers.registry import SAMPLERS
from vrwkv_jax.editing.controls.config import ControlConfig
from vrwkv_jax.editing.settings import Sampling
from vrwkv_jax.models.video_config import VideoConfig
from vrwkv_jax.system.checks import at_least, between, check_fields
from vrwkv_jax.system.errors import UserError, setting


@dataclass(frozen=True)
class AdaFlowConfig:
    """How AdaFlow edits.

    Raises:
        FieldErrors: a value is not possible.
    """

    selection: Literal["adaptive", "uniform"] = "adaptive"
    """Where clips, which have one keyframe each, begin: where the picture changes, or every max_clip frames (as in
    TokenFlow)."""
    frame_similarity: float = 0.75
    """A clip ends where the mean similarity to its first frame is below this."""
    window_similarity: float = 0.6
    """And where the mean over any small window is below this."""
    max_clip: int = 128
    """Most frames of a clip."""
    budget: int = 14
    """Of how many frames a keyframe attends to the tokens that are most like its own; all, where there are fewer."""
    max_keyframes: int = 32
    """Most keyframes that attend to each other; of more, each attends to the nearest ones. Device memory grows with
    it."""
    blend: int = 0
    """Frames on both sides of a clip's border that take from the neighbour's keyframe, too."""

    def __post_init__(self) -> None:
        check_fields(
            self,
            frame_similarity=between(-1, 1),
            window_similarity=between(-1, 1),
            max_clip=at_least(1),
            budget=at_least(1),
            max_keyframes=at_least(1),
            blend=at_least(0),
        )


def check_adaflow(video: VideoConfig, mesh: Mesh | None, sampling: Sampling, controls: ControlConfig) -> None:
    """Raises UserError where clips can't be edited with AdaFlow under these settings."""
    chosen = video.chosen
    if video.mixer != "none":
        raise UserError(f"AdaFlow edits with the image U-Net, expected {setting('mixer', 'none')}, not {video.mixer!r}")
    for name in ("attention", "groupnorm_scope"):
        if getattr(chosen, name) != "frame":
            raise UserError(
                f"AdaFlow edits with the image U-Net: {setting(name)} is {getattr(chosen, name)!r}, expected "
                f"{setting(name, 'frame')}"
            )
    if mesh is not None:
        raise UserError(f"AdaFlow runs on one device, and the mesh has {mesh.size}: leave it out")
    state = jax.eval_shape(SAMPLERS[sampling.sampler].init, jnp.zeros((1, 1, 1, 1, 1)))
    if jax.tree.leaves(state):
        raise UserError(
            f"AdaFlow keeps nothing from step to step but latents, and {setting('sampler')} {sampling.sampler} does: "
            f"choose {setting('sampler', 'ddim')}"
        )
    if controls.blend:
        raise UserError(f"AdaFlow has no local blend: leave {setting('blend')} out, or give a {setting('mask')}")
