"""The product's programs for Stable Diffusion 1.5, as shapes: what a GPU would run, with nothing allocated."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from benchmarks.gpu_target import describing
from vrwkv_jax.config import ControlConfig, TuningConfig
from vrwkv_jax.diffusion.guidance import Guidance
from vrwkv_jax.diffusion.samplers.registry import SAMPLERS
from vrwkv_jax.diffusion.schedule import NoiseSchedule
from vrwkv_jax.editing.controls.plan import neutral_injection
from vrwkv_jax.editing.denoiser import Denoiser
from vrwkv_jax.editing.encoders import decode_frames, encode_frames
from vrwkv_jax.editing.null_text import null_text_step
from vrwkv_jax.editing.steps import controlled_step, inversion_step, sampling_step
from vrwkv_jax.models import params as P
from vrwkv_jax.models.unet import UNet
from vrwkv_jax.models.unet_config import UNetConfig
from vrwkv_jax.models.vae import AutoencoderKL, VAEConfig
from vrwkv_jax.models.video_config import VideoConfig
from vrwkv_jax.system.errors import UserError
from vrwkv_jax.tuning.optimizer import make_optimizer, partition
from vrwkv_jax.tuning.step import tuning_step

TOKENS = 77  # of a prompt
UNET = UNetConfig(cross_attention_dim=768)
VIDEO = VideoConfig()
VAE = VAEConfig(
    down_block_types=("DownEncoderBlock2D",) * 4,
    up_block_types=("UpDecoderBlock2D",) * 4,
    block_out_channels=(128, 256, 512, 512),
    layers_per_block=2,
)


def check_sizes(frames: Sequence[int], pixels: Sequence[int]) -> None:
    """UserError where a benchmark's --frames or --pixels, of a side, can't be those of a clip."""
    if min(frames) < 1 or any(side < 64 or side % 64 for side in pixels):
        raise UserError(f"--frames {frames} and --pixels {pixels}: expected at least one frame, multiples of 64")


@dataclass(frozen=True)
class Models:
    """Of which the programs are: Stable Diffusion 1.5 with the default's mixers unless something else is named."""

    unet: UNetConfig = UNET
    video: VideoConfig = VIDEO
    vae: VAEConfig = VAE


SD15 = Models()


@dataclass(frozen=True)
class Case:
    """One program, and the GPU that it is for."""

    program: str
    frames: int
    width: int
    height: int
    dtype: str
    remat: bool
    gpu: str
    models: Models = SD15


Shape = jax.ShapeDtypeStruct
Program = tuple[Any, dict[str, Any], dict[str, Any]]
"""A jitted function, its arguments as shapes, and what is static."""


def lower(case: Case, mesh: Mesh | None = None) -> jax.stages.Lowered:
    """The program, before XLA compiles it; which it can with the ``mesh`` of ``described_gpu(case.gpu)`` alone."""
    step, arguments, static = PROGRAMS[case.program](case)
    if mesh is None:
        with describing(case.gpu):
            return step.trace(**arguments, **static).lower(lowering_platforms=("cuda",))
    arguments = on_mesh(arguments, mesh)
    with describing(case.gpu, mesh.abstract_mesh):
        return step.trace(**arguments, **static).lower()


def on_mesh(arguments: dict[str, Any], mesh: Mesh) -> dict[str, Any]:
    """Shapes that lie whole on each device of ``mesh``."""
    replicated = NamedSharding(mesh, PartitionSpec())
    return jax.tree.map(lambda x: Shape(x.shape, x.dtype, sharding=replicated), arguments)


def tuning(case: Case) -> Program:
    config = TuningConfig(dtype=case.dtype, remat=case.remat)
    graphdef, tuned, frozen = unet(case)
    state = jax.eval_shape(make_optimizer(config).init, tuned)
    arguments = {
        "frozen": Denoiser(graphdef, NoiseSchedule(), frozen, config.dtype),
        "tuned": tuned,
        "optimizer_state": state,
        "latents": latents(case),
        "encoder_hidden_states": text(case, 1),
        "key": key(),
    }
    return tuning_step, arguments, {"config": config}


def inversion(case: Case) -> Program:
    arguments = denoising(case) | {
        "encoder_hidden_states": text(case, 1),
        "guess": latents(case),
        "iterations": Shape((), jnp.int32),
        "tolerance": Shape((), jnp.float32),
    }
    return inversion_step, arguments, {"sampler": "ddim"}


def sampling(case: Case) -> Program:
    arguments = denoising(case) | {
        "state": jax.eval_shape(SAMPLERS["ddim"].init, latents(case)),
        "steps_left": Shape((), jnp.int32),
        "encoder_hidden_states": text(case, 2),
        "guidance": guidance(),
        "eta": Shape((), jnp.float32),
        "key": key(),
    }
    return sampling_step, arguments, {"sampler": "ddim"}


def controlled(case: Case) -> Program:
    _, arguments, static = sampling(case)
    arguments |= {
        "source": latents(case),
        "injection": neutral_injection(TOKENS),
        "encoder_hidden_states": text(case, 3),
    }
    return controlled_step, arguments, static | {"layers": ControlConfig().layers}


def null_text(case: Case) -> Program:
    rate = Shape((), jnp.float32)
    arguments = denoising(case) | {
        "target": latents(case),
        "text": text(case, 1),
        "unconditional": text(case, 1),
        "guidance": guidance(),
        "learning_rate": rate,
        "good_enough": rate,
    }
    return null_text_step, arguments, {"iterations": 10}


def vae_encode(case: Case) -> Program:
    graphdef, params = vae(case.models.vae)
    frames = Shape((case.frames, case.height, case.width, 3), jnp.uint8)
    return encode_frames, {"params": params, "frames": frames}, {"graphdef": graphdef, "config": case.models.vae}


def vae_decode(case: Case) -> Program:
    graphdef, params = vae(case.models.vae)
    channels = case.models.vae.latent_channels
    of_frames = Shape((case.frames, case.height // 8, case.width // 8, channels), jnp.float32)
    return decode_frames, {"params": params, "latents": of_frames}, {"graphdef": graphdef, "config": case.models.vae}


PROGRAMS: dict[str, Callable[[Case], Program]] = {
    "tuning": tuning,
    "inversion": inversion,
    "sampling": sampling,
    "controlled": controlled,
    "null text": null_text,
    "vae encode": vae_encode,
    "vae decode": vae_decode,
}


@cache
def _unet(config: UNetConfig, video: VideoConfig) -> tuple[nnx.GraphDef, P.Params]:
    return P.abstract(lambda rngs: UNet(config, video, rngs=rngs))


def unet(case: Case) -> tuple[nnx.GraphDef, P.Params, P.Params]:
    """The U-Net, and what of it is tuned and what isn't: the one in float32, the other in the case's type."""
    graphdef, shapes = _unet(case.models.unet, case.models.video)
    tuned, frozen = partition(shapes, "mixers", case.models.video.mixer)
    given = {path: Shape(leaf.shape, case.dtype) for path, leaf in frozen.items()}
    return graphdef, {path: Shape(leaf.shape, jnp.float32) for path, leaf in tuned.items()}, given


@cache
def vae(config: VAEConfig) -> tuple[nnx.GraphDef, P.Params]:
    """In float32, as always."""
    return P.abstract(lambda rngs: AutoencoderKL(config, rngs=rngs))


def denoising(case: Case) -> dict[str, Any]:
    """What all steps between noise and latents are given."""
    graphdef, tuned, frozen = unet(case)
    timestep = Shape((), jnp.int32)
    denoiser = Denoiser(graphdef, NoiseSchedule(), tuned | frozen, case.dtype)
    return {"denoiser": denoiser, "latents": latents(case), "timestep": timestep, "previous_timestep": timestep}


def latents(case: Case) -> jax.ShapeDtypeStruct:
    return Shape((1, case.frames, case.height // 8, case.width // 8, case.models.unet.in_channels), jnp.float32)


def guidance() -> Guidance:
    return Guidance(*[Shape((), jnp.float32)] * 3)


def key() -> jax.ShapeDtypeStruct:
    return jax.eval_shape(lambda: jax.random.key(0))


def text(case: Case, rows: int) -> jax.ShapeDtypeStruct:
    return Shape((rows, TOKENS, case.models.unet.cross_attention_dim), jnp.float32)
