"""NVIDIA GPUs that are only described: jax lowers and compiles for them where there is no GPU and no driver.

Compiling needs jax's CUDA plugin and ptxas, and no more of CUDA (``INSTALL``); lowering needs neither.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from unittest.mock import patch

import jax
import numpy as np
from jax._src.cudnn import fused_attention_stablehlo as cudnn_attention
from jax.experimental import topologies
from jax.experimental.mosaic.gpu import core as mosaic_core
from jax.experimental.mosaic.gpu import utils as mosaic_utils
from jax.sharding import AbstractDevice, AbstractMesh, Mesh

from pallas_kernels.device import Device, compiling_for

INSTALL = (
    "pip install jax-cuda13-plugin=={0} jax-cuda13-pjrt=={0} absl-py && pip install --no-deps nvidia-cuda-nvcc"
).format(version("jax"))

#          name                       major minor cores fpus shared/core shared/block     L2    threads/core  memory
TARGETS = {
    "sm_80": ("NVIDIA A100-SXM4-80GB", 8, 0, 108, 64, 167936, 166912, 41943040, 2048, 85_000_000_000),
    "sm_89": ("NVIDIA GeForce RTX 4090", 8, 9, 128, 128, 102400, 101376, 75497472, 1536, 25_700_000_000),
    "sm_90": ("NVIDIA H200", 9, 0, 132, 128, 233472, 232448, 52428800, 2048, 150_000_000_000),
    "sm_100": ("NVIDIA B200", 10, 0, 148, 128, 233472, 232448, 132120576, 2048, 191_000_000_000),
}
CUDNN = (9, 20)


def target_config(name, major, minor, cores, fpus, shared_core, shared_block, l2, threads, memory) -> str:
    """A row of ``TARGETS`` as XLA's GpuTargetConfigProto."""
    return f"""gpu_device_info {{ cuda_compute_capability {{ major: {major} minor: {minor} }}
    threads_per_block_limit: 1024 threads_per_warp: 32 shared_memory_per_block: 49152
    shared_memory_per_core: {shared_core} threads_per_core_limit: {threads} core_count: {cores} fpus_per_core: {fpus}
    block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535 memory_bandwidth: 2000000000000
    l2_cache_size: {l2} clock_rate_ghz: 1.7 device_memory_size: {memory}
    shared_memory_per_block_optin: {shared_block} registers_per_core_limit: 65536 registers_per_block_limit: 65536 }}
    device_description_str: "{name}" platform_name: "CUDA"
    dnn_version_info {{ major: {CUDNN[0]} minor: {CUDNN[1]} }}"""


@contextmanager
def describing(target: str, mesh: AbstractMesh | None = None) -> Iterator[None]:
    """What is traced and lowered inside is for the GPU ``target``, a name of ``TARGETS``.

    ``jax.jit(f).trace(*shapes).lower(lowering_platforms=("cuda",))`` lowers. To compile, give the ``abstract_mesh`` of
    ``described_gpu(target)`` and place the shapes on that mesh: ``jax.jit(f).trace(*shapes).lower().compile()``.
    """
    name, *capability, cores = TARGETS[target][:4]
    if mesh is None:
        mesh = AbstractMesh((), (), abstract_device=AbstractDevice(device_kind=name, num_cores=cores, platform="gpu"))

    def at_least(wanted: str) -> bool:
        return capability >= [int(number) for number in wanted.split(".")]

    def equal(wanted: str) -> bool:
        return capability == [int(number) for number in wanted.split(".")]

    # JAX asks the GPU that is there for these, whatever it lowers for.
    answers = [
        (cudnn_attention, "check_cudnn_version", lambda: 10_000 * CUDNN[0] + 100 * CUDNN[1]),
        (cudnn_attention, "check_compute_capability", at_least),
        (cudnn_attention, "is_cuda_compute_capability_equal", equal),
        *[
            (module, "_infer_arch", lambda: tuple(capability))
            for module in (mosaic_core, mosaic_utils)  # the first up to jax 0.10, the second from 0.11 on
            if hasattr(module, "_infer_arch")
        ],
    ]
    with ExitStack() as stack:
        for module, function, answer in answers:
            stack.enter_context(patch.object(module, function, answer))
        stack.enter_context(compiling_for(Device("gpu", name, tuple(capability)), mesh))
        yield


def described_gpu(target: str) -> Mesh:
    """A mesh of the one GPU ``target``, to compile for; the platform must be the CPU (``JAX_PLATFORMS=cpu``).

    Raises:
        RuntimeError: jax has no CUDA plugin here.
    """
    try:
        topology = topologies.get_topology_desc(
            platform="cuda", topology="1x1x1", target_config=target_config(*TARGETS[target])
        )
    except Exception as error:  # of a type that differs between versions of jax
        raise RuntimeError(
            f"jax {jax.__version__} can't compile for {TARGETS[target][0]}, as it finds no CUDA plugin of its version "
            f"({' '.join(str(error).split())}); no GPU is needed, but install it: {INSTALL}"
        ) from error
    return Mesh(np.array([topology.devices[0]]), ("x",))
