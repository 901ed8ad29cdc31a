"""Run by test_eight_devices: on eight devices, tuning and editing steps do what they do on one, and what it takes."""

import os
import re
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
sys.path.insert(0, str(Path(__file__).parents[2]))

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from tests.injections import EVERYWHERE, injection
from tests.models.tiny_unet import TINY, abstract, inputs, randomized
from vrwkv_jax.config import TuningConfig
from vrwkv_jax.diffusion.schedule import NoiseSchedule
from vrwkv_jax.editing import encoders, steps
from vrwkv_jax.editing.denoiser import Denoiser
from vrwkv_jax.editing.null_text import null_text_step
from vrwkv_jax.editing.settings import Sampling
from vrwkv_jax.models import params as P
from vrwkv_jax.models.control import Words
from vrwkv_jax.models.mixers.released import ReleasedConfig
from vrwkv_jax.models.mixers.vrwkv import VRWKVConfig
from vrwkv_jax.models.parameter_rules import SCHEDULED
from vrwkv_jax.models.vae import AutoencoderKL, VAEConfig
from vrwkv_jax.models.video_config import VideoConfig
from vrwkv_jax.parallel import placement
from vrwkv_jax.parallel.mesh import make_mesh
from vrwkv_jax.tuning.optimizer import make_optimizer, partition
from vrwkv_jax.tuning.step import tuning_step

jax.config.update("jax_disable_most_optimizations", True)
placement.SMALL = 256  # so that some parameters of a tiny model are cut

SCHEDULE = NoiseSchedule.from_config({"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012})
FRAMES, HEIGHT, WIDTH = 8, 6, 5
COLLECTIVE = re.compile(
    r"(\w+)\[([\d,]*)\]\S* (all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter)(?:-start)?\("
)


def collectives(compiled) -> list[tuple[str, int]]:
    """(kind, elements of its result) of every collective in a compiled program."""
    found = COLLECTIVE.findall(compiled.as_text())
    return [(kind, int(np.prod([int(n) for n in shape.split(",") if n]))) for _, shape, kind in found]


def tune(video: VideoConfig, mesh, config: TuningConfig):
    """Losses and norms of two steps, parameters and optimizer state after them, and what devices exchanged."""
    graphdef, shapes = abstract(video)
    tuned, frozen = partition(placement.place(randomized(shapes), mesh), config.train, video.mixer)
    tuned = {path: jnp.array(leaf, copy=True) for path, leaf in tuned.items()}
    state = placement.place(make_optimizer(config).init(tuned), mesh)
    latents, _, text = inputs(FRAMES, HEIGHT, WIDTH)
    common = {"frozen": Denoiser(graphdef, SCHEDULE, frozen, config.dtype, mesh), "latents": latents}
    metrics, compiled = [], None
    for step in range(2):
        arguments = common | {"tuned": tuned, "optimizer_state": state, "key": jax.random.key(step)}
        arguments["encoder_hidden_states"] = text
        compiled = compiled or tuning_step.lower(**arguments, config=config).compile()
        tuned, state, metric = compiled(**arguments)
        metrics.append([float(metric["loss"]), float(metric["grad_norm"])])
    return metrics, tuned, state, collectives(compiled)


def moments(state) -> list[tuple[str, jax.Array]]:
    """The optimizer's first and second moments, with their parameters' paths."""
    return [
        (keys[-1].key, leaf)
        for keys, leaf in jax.tree_util.tree_flatten_with_path(state)[0]
        if isinstance(keys[-1], jax.tree_util.DictKey)
    ]


def check_tuning(mesh_text: str, video: VideoConfig, config: TuningConfig) -> list[tuple[str, int]]:
    """Two steps on the mesh are two steps on one device; returns what devices exchange in one."""
    mesh = make_mesh(mesh_text, FRAMES, config.batch_size)
    alone, parameters, one_state, _ = tune(video, None, config)
    metrics, tuned, state, exchanged = tune(video, mesh, config)
    np.testing.assert_allclose(metrics, alone, rtol=1e-5, err_msg=mesh_text)
    worst = max(float(np.abs(np.asarray(tuned[path]) - leaf).max()) for path, leaf in parameters.items())
    print(f"{mesh_text}: loss {metrics[-1][0]}, parameters within {worst:.1e}, {dict(Counter(exchanged))}", flush=True)
    assert worst < 1e-5, mesh_text
    for (path, there), (_, here) in zip(moments(state), moments(one_state), strict=True):
        # Gradients, and their squares, that Adam has not yet divided. Those of the decays are sums that cancel to 1 %.
        assert np.abs(np.asarray(there) - here).max() < 1e-4 * np.abs(here).max(), f"{mesh_text}: {path}"
    assert all(leaf.sharding.mesh == mesh for leaf in jax.tree.leaves((tuned, state)))
    assert any(not leaf.is_fully_replicated for leaf in tuned.values()) == (mesh.shape["fsdp"] > 1)
    assert len(moments(state)) == 2 * sum(SCHEDULED.search(path) is None for path in tuned)
    assert all(tuned[path].sharding == leaf.sharding for path, leaf in moments(state))
    return exchanged


def check_editing(mesh_text: str) -> None:
    """Inversion, guided and controlled sampling, null-text inversion, encoding and decoding."""
    mesh = make_mesh(mesh_text, FRAMES)
    graphdef, shapes = abstract(FACTORISED)
    params = randomized(shapes)
    latents, _, text = inputs(FRAMES, HEIGHT, WIDTH, clips=3)
    clip, sampling = latents[:1], Sampling(guidance_scale=3, guidance_rescale=0.5, guidance_mean=0.5, eta=0.5)
    grid = {"timestep": np.int32(500), "previous_timestep": np.int32(400)}
    length = text.shape[1]
    words = Words(jnp.eye(length), jnp.arange(length) < 3, jnp.full(length, 1.5))
    switches = dict.fromkeys(("self_attention", "features", "mixer_keys"), True)
    given = injection(length, cross_attention=words, blend=jnp.ones((2, length)), **switches)

    def results(mesh) -> dict[str, np.ndarray]:
        denoiser = Denoiser(graphdef, SCHEDULE, placement.place(params, mesh), "float32", mesh)
        sampler = {"sampler": "ddim", "eta": np.float32(sampling.eta), "key": jax.random.key(0), "state": ()}
        sampler |= {"guidance": sampling.guidance, "steps_left": np.int32(0)}
        inverted, _ = steps.inversion_step(
            denoiser,
            clip,
            **grid,
            encoder_hidden_states=text[:1],
            guess=clip,
            iterations=np.int32(2),
            tolerance=np.float32(0),
            sampler="ddim",
        )
        sampled, _ = steps.sampling_step(denoiser, clip, **grid, **sampler, encoder_hidden_states=text[1:])
        controlled, _, words = steps.controlled_step(
            denoiser,
            clip,
            source=clip,
            injection=given,
            layers=EVERYWHERE,
            **grid,
            **sampler,
            encoder_hidden_states=text,
        )
        reusing = {"depth": 1, **grid, **sampler, "encoder_hidden_states": text}
        reusing |= {"source": clip, "injection": given, "layers": EVERYWHERE}
        *_, deep = steps.cached_step(denoiser, clip, deep=None, **reusing)
        reused, _, words_reused, _ = steps.cached_step(denoiser, clip / 2, deep=deep, **reusing)
        embedding, *_ = null_text_step(
            denoiser,
            clip,
            target=clip,
            **grid,
            text=text[:1],
            unconditional=text[1:2],
            guidance=sampling.guidance,
            learning_rate=np.float32(1e-2),
            good_enough=np.float32(1e-9),
            iterations=2,
        )
        return {
            "inversion": inverted,
            "sampling": sampled,
            "controlled": controlled,
            "attention": words,
            "reused": reused,
            "attention reused": words_reused,
            "null text": embedding,
        }

    def codec(mesh) -> dict[str, np.ndarray]:
        vae, weights = P.split(AutoencoderKL(VAE, rngs=nnx.Rngs(0)))
        weights = placement.place(weights, mesh)
        frames = np.random.default_rng(0).integers(0, 256, (FRAMES, 12, 10, 3), np.uint8)
        encoded = encoders.encode_frames(vae, VAE, weights, frames, mesh)
        return {"encoded": encoded, "decoded": encoders.decode_frames(vae, VAE, weights, encoded, mesh)[0]}

    alone, spread = results(None) | codec(None), results(mesh) | codec(mesh)
    for name, value in alone.items():
        other, scale = np.asarray(spread[name]), np.abs(value).max()
        if name == "decoded":  # rounded to bytes
            assert np.abs(other.astype(int) - value).max() <= 1, mesh_text
        else:
            np.testing.assert_allclose(other, value, atol=2e-5 * scale, err_msg=f"{name} {mesh_text}")
    print(f"{mesh_text}: editing", flush=True)


VAE = VAEConfig(
    down_block_types=("DownEncoderBlock2D",) * 2,
    up_block_types=("UpDecoderBlock2D",) * 2,
    block_out_channels=(8, 16),
    layers_per_block=1,
    latent_channels=3,
    norm_num_groups=4,
    mid_block_add_attention=False,
)
FACTORISED, JOINT = VideoConfig(), VideoConfig(vrwkv=VRWKVConfig(token_order="joint"))
CHANNELS = TINY.block_out_channels[0]
FRAME = HEIGHT * WIDTH * CHANNELS  # elements of the features of one frame
# Sums over devices are rounded in another order: gradients, which are 1e-3 here, differ by 1e-8. Adam divides them by
# their own size, so that one of 1e-8 would move its parameter anywhere within the learning rate. Hence the epsilon.
ONE = TuningConfig(train="all", learning_rate=1e-3, mixer_lr_scale=1.0, epsilon=1e-5, dtype="float32", remat=False)


def axes() -> None:
    check_tuning("data=8", FACTORISED, replace(ONE, batch_size=8))
    cut = check_tuning("fsdp=8", FACTORISED, ONE)
    assert {kind for kind, _ in cut} >= {"all-gather", "reduce-scatter"}


def mixed() -> None:
    check_tuning("data=2,fsdp=2,frame=2", FACTORISED, replace(ONE, batch_size=4, remat=True))
    for vrwkv in (VRWKVConfig(causal=True, decay_frames=11), VRWKVConfig(causal=True, token_order="joint")):
        check_tuning("frame=4", VideoConfig(vrwkv=vrwkv), ONE)


def attention() -> None:
    """What is neither a mixer nor by the frame, too."""
    others = VideoConfig(
        placement=("transformer",),
        attention="sparse_causal",
        groupnorm_scope="video",
        vrwkv=VRWKVConfig(first_frame="zero"),
    )
    check_tuning("frame=4", others, ONE)
    check_tuning("frame=2", VideoConfig(mixer="none", attention="extended"), ONE)


def rivals() -> None:
    """Mixers that look at all frames at once ask for them."""
    check_tuning("frame=4", VideoConfig(mixer="tune_a_video"), ONE)
    check_tuning("frame=4", VideoConfig(mixer="fluencyve"), ONE)  # convolutions and scans go over the border of devices
    for core in ("time_mix", "state_space"):  # whose weights, and whose states, are of all frames
        check_tuning("frame=4", VideoConfig(mixer="released", released=ReleasedConfig(temporal_core=core)), ONE)


def exchange() -> None:
    """Mixers gather states and never features; one frame goes to the next device, for the frame before."""
    for video, states in ((FACTORISED, 6 * HEIGHT * WIDTH * 8 * CHANNELS), (JOINT, 6 * 8 * CHANNELS)):
        exchanged = check_tuning("frame=8", video, ONE)
        assert {size for kind, size in exchanged if kind == "all-gather"} == {states}, exchanged
        assert {size for kind, size in exchanged if kind == "collective-permute"} == {FRAME}, exchanged
        assert not {"all-to-all", "reduce-scatter"} & {kind for kind, _ in exchanged}, exchanged
        # Three mixers (two skips, the middle) of two halves ask for the frame before, and so do their gradients.
        assert sum(kind == "collective-permute" for kind, _ in exchanged) == 2 * 2 * 3, exchanged


def editing() -> None:
    check_editing("fsdp=2,frame=4")


if __name__ == "__main__":
    {part.__name__: part for part in (editing, axes, mixed, attention, rivals, exchange)}[sys.argv[1]]()
