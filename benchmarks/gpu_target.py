"""NVIDIA GPUs that are only described: jax compiles for them to machine code where there is no GPU and no driver.

It needs jax's CUDA plugin and ptxas, and no more of CUDA (``INSTALL``).
"""

from importlib.metadata import version

import jax
import numpy as np
from jax.experimental import topologies
from jax.sharding import Mesh

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


def target_config(name, major, minor, cores, fpus, shared_core, shared_block, l2, threads, memory) -> str:
    """A row of ``TARGETS`` as XLA's GpuTargetConfigProto."""
    return f"""gpu_device_info {{ cuda_compute_capability {{ major: {major} minor: {minor} }}
    threads_per_block_limit: 1024 threads_per_warp: 32 shared_memory_per_block: 49152
    shared_memory_per_core: {shared_core} threads_per_core_limit: {threads} core_count: {cores} fpus_per_core: {fpus}
    block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535 memory_bandwidth: 2000000000000
    l2_cache_size: {l2} clock_rate_ghz: 1.7 device_memory_size: {memory}
    shared_memory_per_block_optin: {shared_block} registers_per_core_limit: 65536 registers_per_block_limit: 65536 }}
    platform_name: "CUDA" dnn_version_info {{ major: 9 minor: 10 }} device_description_str: "{name}" """


def described_gpu(target: str) -> Mesh:
    """A mesh of the one GPU ``target``, a name of ``TARGETS``.

    Arguments are ``jax.ShapeDtypeStruct`` s on it, and ``jax.jit(f).trace(...).lower().compile()`` runs under
    ``jax.sharding.use_abstract_mesh(mesh.abstract_mesh)``. The platform must be the CPU (``JAX_PLATFORMS=cpu``).

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
