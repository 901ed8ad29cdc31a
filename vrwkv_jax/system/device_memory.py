"""What a compiled program needs of a device's memory, known before it runs."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
from jax.extend.core import Jaxpr, Literal, Var


@dataclass(frozen=True)
class Estimate:
    """Bytes that a program needs, and those that JAX may use of ``device`` (None: it does not say how many)."""

    needed: int
    capacity: int | None
    device: str
    is_limit: bool = True
    """A GPU gives no more than its capacity; a computer's memory can be swapped."""

    @property
    def fits(self) -> bool:
        return self.capacity is None or self.needed <= self.capacity

    def __str__(self) -> str:
        of = "" if self.capacity is None else f" of the {self.capacity / 1e9:.1f} GB that JAX may use of {self.device}"
        return f"{self.needed / 1e9:.1f} GB{of}"


def estimate(step: Any, *args: Any, **kwargs: Any) -> Estimate:
    """What ``step(*args, **kwargs)``, a jitted function, will need, with all else that is on the device already.

    Compiles ``step``, for good: calling it afterwards with arguments like these compiles nothing. Where XLA does not
    say what its programs need, it is the memory of the arguments alone.
    """
    memory = step.lower(*args, **kwargs).compile().memory_analysis()
    if memory is None:
        arguments = needed = sum(x.nbytes for x in jax.tree.leaves((args, kwargs)) if isinstance(x, jax.Array))
    else:
        arguments, needed = memory.argument_size_in_bytes, program_bytes(memory)
    return _beside_the_rest(needed, arguments)


def estimate_uncompiled(step: Any, *args: Any, **kwargs: Any) -> Estimate:
    """What ``estimate`` will find, roughly: as if XLA kept every array from where it is made to its last use.

    It fuses many, so a program may need less, and what an inner function needs for itself comes on top: Stable
    Diffusion 1.5 tuned on 8 frames at 512x512 in bfloat16 takes 17.5 GB, compiled for an H200; this says 24.1.
    Traces ``step``, for good. Of several devices each takes an even share.
    """
    jaxpr = step.trace(*args, **kwargs).jaxpr.jaxpr
    devices = {x.sharding.num_devices for x in jax.tree.leaves((args, kwargs)) if isinstance(x, jax.Array)}
    share = max(devices, default=1)
    return _beside_the_rest(live_bytes(jaxpr) // share, _bytes(jaxpr.invars) // share)


def live_bytes(jaxpr: Jaxpr) -> int:
    """The most bytes that are alive at once between two equations of ``jaxpr``."""
    last_use = {var: i for i, equation in enumerate(jaxpr.eqns) for var in _variables(equation.invars)}
    last_use |= dict.fromkeys(_variables(jaxpr.outvars), len(jaxpr.eqns))
    alive = most = _bytes((*jaxpr.invars, *jaxpr.constvars))
    for i, equation in enumerate(jaxpr.eqns):
        alive += _bytes([var for var in equation.outvars if var in last_use])
        most = max(most, alive)
        alive -= _bytes([var for var in _variables(equation.invars) if last_use[var] == i])
    return most


def _variables(atoms: Sequence[Var | Literal]) -> set[Var]:
    return {atom for atom in atoms if not isinstance(atom, Literal)}


def _bytes(variables: Iterable[Var]) -> int:
    arrays = (var.aval for var in variables)
    return sum(array.size * array.dtype.itemsize for array in arrays if isinstance(array, jax.core.ShapedArray))


def _beside_the_rest(needed: int, arguments: int) -> Estimate:
    """The estimate of a program that needs so much, its ``arguments`` included, which may be on the device already."""
    device = jax.local_devices()[0]
    statistics = device.memory_stats() or {}  # CPUs have none
    others = max(0, statistics.get("bytes_in_use", 0) - arguments)
    if device.platform == "cpu":
        return Estimate(needed, _ram(), "this computer", is_limit=False)
    return Estimate(needed + others, statistics.get("bytes_limit"), device.device_kind)


def program_bytes(memory: Any) -> int:
    """Arguments, results and all between them, from a compiled program's ``memory_analysis()``."""
    kept = memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
    return int(kept + memory.temp_size_in_bytes)


def _ram() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError):  # Windows has no sysconf, and not every system knows these names
        return None
