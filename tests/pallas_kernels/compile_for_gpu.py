"""Compiles the GPU kernels of every op to machine code for GPUs that are not there, and reads registers and spills.

    pip install jax==V jax-cuda13-plugin==V jax-cuda13-pjrt==V absl-py && pip install --no-deps nvidia-cuda-nvcc
    python -m tests.pallas_kernels.compile_for_gpu

with V a version of jax. Arguments name targets, such as sm_90 sm_89; by default those that the installed jax compiles
for: all from 0.11 on, sm_90 before. A spill, a missing kernel or a failed compilation is an error.
Every target is compiled in a process of its own: a failure of LLVM ends the process.
"""

import os
import re
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from benchmarks.gpu_target import TARGETS, described_gpu, describing

KERNELS = (
    *("bi_wkv_sums", "bi_wkv_carry", "bi_wkv_outputs", "bi_wkv_gradient_sums", "bi_wkv_gradients"),
    *("selective_scan_sums", "selective_scan_carry", "selective_scan_outputs"),
    *("selective_scan_gradient_sums", "selective_scan_gradients"),
)
SHAPE = (2, 65536, 320)  # a clip of 16 frames at 512 x 512, both halves of the guidance
STATES = 16


def supported() -> tuple[str, ...]:
    """The targets that the installed jax compiles the kernels for."""
    older = tuple(map(int, version("jax").split(".")[:2])) < (0, 11)
    return ("sm_90",) if older else tuple(TARGETS)


def compile_for(target: str) -> None:
    """Forward and gradient of each op, in bfloat16: Bi-WKV with a receptance, the selective scan with float32 steps."""
    import jax
    import jax.numpy as jnp
    from jax.sharding import NamedSharding, PartitionSpec

    from pallas_kernels.bi_wkv import bi_wkv, free_decay
    from pallas_kernels.selective_scan import selective_scan

    jax.config.update("jax_platforms", "cpu")
    mesh = described_gpu(target)
    replicated = NamedSharding(mesh, PartitionSpec())

    def shape(*sizes, dtype=jnp.bfloat16):
        return jax.ShapeDtypeStruct(sizes, dtype, sharding=replicated)

    def with_gradients(op):
        def both(g, *arguments):
            y, vjp = jax.vjp(op, *arguments)
            return y, *vjp(g)

        return jax.jit(both)

    def gated(k, v, decay, bonus, receptance):
        bound = free_decay(k.shape[1])
        return bi_wkv(k, v, decay, bonus, receptance=receptance, max_decay=bound, implementation="mosaic")

    def selective(*arguments):
        return selective_scan(*arguments, implementation="mosaic")

    B, T, E = SHAPE
    tokens, channels, read = shape(*SHAPE), shape(E, dtype=jnp.float32), shape(B, T, STATES)
    steps, decays = shape(*SHAPE, dtype=jnp.float32), shape(E, STATES, dtype=jnp.float32)
    for name, op, arguments in (
        ("Bi-WKV", gated, (tokens, tokens, channels, channels, tokens)),
        ("selective scan", selective, (tokens, steps, decays, read, read, channels)),
    ):
        with describing(target, mesh.abstract_mesh):
            memory = with_gradients(op).trace(tokens, *arguments).lower().compile().memory_analysis()
        mebibytes = memory.temp_size_in_bytes / 2**20
        print(f"jax {jax.__version__}: {name}, {mebibytes:.0f} MiB of temporaries at {SHAPE}, compiled")


def report(target: str) -> bool:
    """Compiles in a process of its own, prints a line per kernel; whether all is well."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "MOSAIC_GPU_DUMP_TO": folder}
        command = [sys.executable, "-m", "tests.pallas_kernels.compile_for_gpu", "--one", target]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode:
            print(f"{target}: compilation failed\n{done.stderr[-3000:]}")
            return False
        reports = {path.stem: path.read_text() for path in Path(folder).rglob("*.ptxas")}
    missing = [name for name in KERNELS if not any(stem.startswith(f"{name}_") for stem in reports)]
    spills = 0
    for stem, text in sorted(reports.items()):
        registers = re.search(r"Used (\d+) registers", text)[1]
        spilled = sum(int(n) for n in re.findall(r"(\d+) bytes spill", text))
        spills += spilled
        print(f"{target:7} {stem:32} {registers:>4} registers {spilled:4} bytes spilled")
    for line in (*done.stdout.splitlines(), *(f"no kernel {name} was compiled" for name in missing)):
        print(f"{target:7} {line}")
    return not missing and not spills


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        compile_for(sys.argv[2])
    else:
        sys.exit(not all([report(target) for target in sys.argv[1:] or supported()]))
