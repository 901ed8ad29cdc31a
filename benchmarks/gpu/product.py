"""One of the product's programs with random values: how long, at what rate, in how much memory."""

import time
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.gpu.kernels import rates
from benchmarks.gpu.timing import Run, times
from benchmarks.gpu.values import filled
from benchmarks.programs import PROGRAMS, Case, Models
from benchmarks.rivals import RIVALS
from vrwkv_jax.models.unet_config import UNetConfig
from vrwkv_jax.models.vae import VAEConfig
from vrwkv_jax.models.video_config import VideoConfig
from vrwkv_jax.system.device_memory import program_bytes
from vrwkv_jax.system.operations import count_operations

TINY_UNET = UNetConfig(
    block_out_channels=(16,),
    down_block_types=("CrossAttnDownBlock2D",),
    up_block_types=("CrossAttnUpBlock2D",),
    layers_per_block=1,
    norm_num_groups=4,
    attention_head_dim=2,
    cross_attention_dim=8,
)
TINY_VAE = VAEConfig(
    block_out_channels=(8,) * 4,
    down_block_types=("DownEncoderBlock2D",) * 4,
    up_block_types=("UpDecoderBlock2D",) * 4,
    norm_num_groups=4,
    mid_block_add_attention=False,
)


def prepare(
    name: str, frames: int, mixer: str, tiny: bool, dtype: str = "bfloat16"
) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """A program with one of ``RIVALS``: the jitted function, its arguments as shapes, and what is static."""
    video = VideoConfig(**RIVALS[mixer])
    size, models = (64, Models(TINY_UNET, video, TINY_VAE)) if tiny else (512, Models(video=video))
    return PROGRAMS[name](Case(name, frames, size, size, dtype, name == "tuning", "", models))


def repeatedly(compiled: Any, arguments: dict[str, Any]) -> Any:
    """Calls ``compiled``; a tuning step gives its arguments away and goes on with what it returns."""
    arguments = dict(arguments)

    def call() -> Any:
        result = compiled(**arguments)
        if "optimizer_state" in arguments:
            arguments["tuned"], arguments["optimizer_state"] = result[:2]
        return result

    return call


def operations(step: Any, arguments: dict[str, Any], static: dict[str, Any]) -> int | None:
    """Counted by hand in the program for CPUs, what --remat computes again included; None: not for while loops."""
    names = list(arguments)

    def program(*values: Any) -> Any:
        return step(**dict(zip(names, values, strict=True)), **static)

    try:
        return count_operations(program, *arguments.values())
    except NotImplementedError:
        return None


def run(case: dict) -> Run:
    """Estimates are XLA's for the very program, its arguments included."""
    was_kept: list[str] = []
    jax.monitoring.register_event_listener(lambda event, **_: was_kept.append(event) if "cache_hit" in event else None)
    step, arguments, static = prepare(case["program"], case["frames"], case["mixer"], case["tiny"])
    counted = operations(step, arguments, static)
    started = time.perf_counter()
    lowered = step.trace(**arguments, **static).lower()
    traced = time.perf_counter()
    compiled = lowered.compile()
    compiled_after = time.perf_counter()
    values = filled(arguments)
    yield None
    memory = compiled.memory_analysis()
    before = peak_bytes()
    call = repeatedly(compiled, jax.device_put(values))
    found: dict[str, Any] = times(call, jax.block_until_ready)
    found["finite"] = finite(call())
    peak = peak_bytes()
    del call
    found |= rates(case["tiny"])
    if counted is not None:
        found |= {"flop": counted, "flop_per_s": counted / found["ms"] * 1e3}
        found["share_of_matrix_rate"] = found["flop_per_s"] / found["matrix_flop_per_s"]
    found |= {
        "estimated_bytes": None if memory is None else program_bytes(memory),
        "peak_bytes": peak if peak is None or peak > before else None,  # else compiling took more, for its trials
        "peak_bytes_of_compiling": before,
        "seconds_to_trace": traced - started,
        "seconds_to_compile_beside_others": None if was_kept else compiled_after - traced,
    }
    yield [found]


def peak_bytes() -> int | None:
    """The most memory that this process has had on the device; CPUs don't say."""
    return (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use")


def finite(result: Any) -> bool:
    """Whether all that a program gives is finite."""
    floats = [x for x in jax.tree.leaves(result) if jnp.issubdtype(x.dtype, jnp.floating)]
    return all(bool(jnp.isfinite(x).all()) for x in floats)
