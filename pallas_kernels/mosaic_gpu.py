"""What the GPU kernels have in common, in Pallas Mosaic GPU with Lane semantics."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any, Protocol, cast, runtime_checkable

import jax
import jax.numpy as jnp
from jax.experimental.mosaic.gpu.utils import warpgroup_barrier
from jax.experimental.pallas import mosaic_gpu as plgpu

from pallas_kernels.typing import Array, Float, Int

Layout = Any  # of registers; nor for one with parameters
Index = int | Int[Array, ""]

_LOAD_INDEX = inspect.signature(plgpu.load).parameters.get("idx")
_LOAD_NEEDS_INDEX = _LOAD_INDEX is not None and _LOAD_INDEX.default is inspect.Parameter.empty  # jax 0.10


@runtime_checkable
class Ref(Protocol):
    """Memory that a kernel reads or writes: ``jax.Ref``, or what ``at`` and ``jax.vmap`` make of one."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> jnp.dtype: ...
    @property
    def at(self) -> Any: ...
    def __setitem__(self, index: Any, value: Array) -> None: ...


def load_registers(ref: Ref, layout: Layout) -> Float[Array, "..."]:
    index = ((),) if _LOAD_NEEDS_INDEX else ()
    loaded: Array = plgpu.load(cast(Any, ref), *index, layout=layout, optimized=False)
    return loaded


def gpu_kernel(
    kernel: Callable[..., None],
    out: Sequence[jax.ShapeDtypeStruct],
    scratch: Sequence[Any],
    grid: dict[str, Any],
    interpret: Any,
    *,
    barriers: bool = True,
) -> Callable[..., Sequence[Array]]:
    """``kernel`` as a function of arrays.

    Args:
        barriers: before and behind every store all threads wait for each other. A kernel whose threads read what others
            wrote can also say itself where they wait, by ``wait_for_all``.
    """
    options = {} if interpret is None else {"interpret": interpret}
    params = plgpu.CompilerParams(lowering_semantics=plgpu.LoweringSemantics.Lane, unsafe_no_auto_barriers=not barriers)
    call: Callable[..., Sequence[Array]] = plgpu.kernel(
        kernel, out_type=out, scratch_types=scratch, compiler_params=params, **grid, **options
    )
    return call


def wait_for_all() -> None:
    """The threads of a warpgroup wait for each other, and then see what each of them wrote to shared memory."""

    @plgpu.inline_mgpu()  # type: ignore[untyped-decorator]
    def barrier(_: Any) -> None:
        warpgroup_barrier()

    barrier()
