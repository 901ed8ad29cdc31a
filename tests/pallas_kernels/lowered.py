"""What the program for a GPU calls, which need not be there."""

import jax

from benchmarks.gpu_target import TARGETS, describing
from tests.programs.operations import calls_and_branches


def kernels(f, *arguments, mesh=None, loops=0):
    """How many kernels the program for an H200 calls, which has so many loops and conditionals."""
    with describing("sm_90", mesh):
        found = calls_and_branches(jax.jit(f).trace(*arguments).lower(lowering_platforms=("cuda",)))
    calls = sum(number for name, number in found.items() if "mosaic_gpu" in name)
    assert found.total() == calls + loops, found
    return calls


def calls_in_text(f, *arguments):
    """How often the program's text calls a kernel: once for all calls that are lowered once."""
    with describing("sm_90"):
        text = jax.jit(f).trace(*arguments).lower(lowering_platforms=("cuda",)).as_text()
    return text.count("custom_call @mosaic_gpu")


def four_gpus():
    """A mesh of four H200s, whose axis is "t"."""
    name, cores = TARGETS["sm_90"][0], TARGETS["sm_90"][3]
    device = jax.sharding.AbstractDevice(device_kind=name, num_cores=cores, platform="gpu")
    return jax.sharding.AbstractMesh((4,), ("t",), axis_types=(jax.sharding.AxisType.Auto,), abstract_device=device)


def with_gradients(op, arguments, cotangent):
    out, vjp = jax.vjp(op, *arguments)
    return out, *vjp(cotangent)
