"""Counts the operations of a program, which XLA's own cost analysis can't: it takes the body of a loop for one run."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr
from jax.sharding import AbstractDevice, AbstractMesh

from pallas_kernels.device import Device, compiling_for

TO_COUNT = Device("cpu", "to count")


def count_operations(function: Callable[..., Any], *args: Any) -> int:
    """Floating-point operations of ``function(*args)``, nothing being computed; ``args`` may be shapes.

    Of its program for CPUs, wherever it runs: a GPU kernel's body says nothing of how often it runs.

    Two per multiply-add of a matrix product or convolution, one per element of what a reduction takes, one per element
    of what anything else gives (so that copies count, too). Loops count as often as they run, of a conditional the
    dearest branch. Nobody knows how often while loops run, and they are refused.
    """
    described = AbstractDevice(device_kind=TO_COUNT.kind, num_cores=None, platform=TO_COUNT.platform)
    with compiling_for(TO_COUNT, AbstractMesh((), (), abstract_device=described)):
        return _count(jax.make_jaxpr(function)(*args).jaxpr)


def _count(jaxpr: Jaxpr) -> int:
    return sum(map(_count_equation, jaxpr.eqns))


def _count_equation(equation: Any) -> int:
    name, params = equation.primitive.name, equation.params
    inner = [_count(jaxpr) for jaxpr in _jaxprs(params)]
    if name == "scan":
        return int(params["length"]) * sum(inner)
    if name == "cond":
        return max(inner)
    if name == "while":
        raise NotImplementedError("how often does this while loop run?")
    if inner:
        return sum(inner)
    taken: list[int] = [math.prod(variable.aval.shape) for variable in equation.invars]
    given: int = sum(math.prod(variable.aval.shape) for variable in equation.outvars)
    if name == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        left: tuple[int, ...] = equation.invars[0].aval.shape
        return int(2 * given * math.prod(left[axis] for axis in contracted))
    if name == "conv_general_dilated":
        out_features = equation.invars[1].aval.shape[params["dimension_numbers"].rhs_spec[0]]
        return int(2 * given * taken[1] // out_features)
    if name.startswith(("reduce_", "arg", "cum")):
        return max(taken)
    return given


def _jaxprs(params: dict[str, Any]) -> Iterator[Jaxpr]:
    for value in params.values():
        for part in value if isinstance(value, tuple | list) else (value,):
            if isinstance(part, ClosedJaxpr):
                yield part.jaxpr
            elif isinstance(part, Jaxpr):
                yield part
