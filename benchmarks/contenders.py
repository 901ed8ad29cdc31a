"""What the benchmarks of single ops share: contenders that take turns, a table, and a file of results.

Every shape is timed forward ("forward") and forward with all gradients ("both"). The contenders take turns, and the
fastest turn of each counts: other programs on the machine slow some turns, none is sped up. One table is printed, and
benchmarks/results/ gets the same as JSON.

GB/s counts what must move at least, arguments and results once. "of copy" relates that to what copying an array reaches
on this device. Memory is what the compiled program needs beside arguments and results.
"""

import argparse
import platform
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.written import write
from vrwkv_jax.system.about import about

FRAMES = (8, 16, 32, 64, 128)
LEVELS = ((4096, 320), (1024, 640), (256, 1280), (64, 1280))  # tokens per frame, channels


class Op(NamedTuple):
    """An op, and who computes it."""

    name: str
    contenders: dict[str, Callable]
    inputs: Callable[[tuple[int, ...]], dict[str, np.ndarray]]
    """Of a shape: the arguments in their order, and "g", the gradient of a loss with respect to the result."""
    is_cast: Callable[[str, np.ndarray], bool]
    """Whether an input has the benchmark's dtype; the others stay float32."""
    sensible: Callable[[str, tuple[int, ...], bool], bool]
    """Whether a contender can be expected to finish at a shape, on a GPU or not."""
    shapes: Callable[[bool, Any], list[tuple[int, ...]]]
    """What is timed by default, on a GPU or not, for these numbers of frames."""


def gradients(op):
    """``op`` with the gradients of all its arguments; the last argument is that of the result."""

    def run(*arguments):
        *arguments, g = arguments
        y, vjp = jax.vjp(op, *arguments)
        return y, *vjp(g.astype(y.dtype))

    return run


def measure(op: Op, shape, dtype, repeats: int, only) -> list[dict]:
    on_gpu = jax.default_backend() == "gpu"
    values = {n: jnp.asarray(x, dtype if op.is_cast(n, x) else jnp.float32) for n, x in op.inputs(shape).items()}
    g = values.pop("g")
    arguments = list(values.values())
    runs = {}
    for name, contender in op.contenders.items():
        if (only and name not in only) or not op.sensible(name, shape, on_gpu):
            continue
        for phase, f, args in (("forward", contender, arguments), ("both", gradients(contender), [*arguments, g])):
            compiled = jax.jit(f).lower(*args).compile()
            runs[name, phase] = compiled, args
            jax.block_until_ready(compiled(*args))
    runs["copy", "forward"] = jax.jit(lambda x: x + 1).lower(g).compile(), [g]
    seconds = {key: [] for key in runs}
    for _ in range(repeats):
        for key, (compiled, args) in runs.items():
            for _ in range(2):  # the second run counts: the first pays for memory that the one before gave back
                start = perf_counter()
                jax.block_until_ready(compiled(*args))
                elapsed = perf_counter() - start
            seconds[key].append(elapsed)
    copy_rate = 2 * g.nbytes / min(seconds["copy", "forward"])
    given = sum(x.nbytes for x in arguments)
    # The gradients of all arguments leave again, and so they come in twice: g is of the size of the result.
    moved = {"forward": given + g.nbytes, "both": 3 * given + 2 * g.nbytes}
    rows = []
    for (name, phase), (compiled, _) in runs.items():
        if name == "copy":
            continue
        best = min(seconds[name, phase])
        rate = moved[phase] / best
        rows.append(
            {
                "shape": shape,
                "dtype": jnp.dtype(dtype).name,
                "contender": name,
                "phase": phase,
                "ms": 1e3 * best,
                "median_ms": 1e3 * float(np.median(seconds[name, phase])),
                "GB/s": rate / 1e9,
                "of_copy": rate / copy_rate,
                "temporary_MiB": compiled.memory_analysis().temp_size_in_bytes / 2**20,
            }
        )
    return rows


def show(rows: list[dict]) -> None:
    for row in rows:
        shape = "x".join(map(str, row["shape"]))
        print(
            f"{shape:>16} {row['dtype']:9} {row['contender']:17} {row['phase']:8} {row['ms']:9.2f} ms "
            f"(median {row['median_ms']:9.2f}) {row['GB/s']:8.1f} GB/s {row['of_copy']:6.1%} of copy "
            f"{row['temporary_MiB']:8.0f} MiB",
            flush=True,
        )


def run(op: Op, description: str) -> None:
    """The command of a benchmark."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", type=lambda s: tuple(map(int, s.split("x"))), help="such as 1x16384x320")
    parser.add_argument("--frames", nargs="+", type=int, default=FRAMES)
    parser.add_argument("--contenders", nargs="+", choices=op.contenders)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--dtype", default=None, help="default: bfloat16 on a GPU, float32 elsewhere")
    parser.add_argument(
        "--output", type=Path, help=f"JSON file (default: benchmarks/results/{op.name}-DEVICE-jaxVERSION.json)"
    )
    options = parser.parse_args()
    axes = len(op.shapes(False, FRAMES)[0])
    for shape in options.shapes or ():
        if len(shape) != axes or min(shape) < 1:
            parser.error(f"argument --shapes: {'x'.join(map(str, shape))} does not have {axes} sizes of at least 1")
    device = jax.devices()[0]
    on_gpu = device.platform == "gpu"
    dtype = jnp.dtype(options.dtype or ("bfloat16" if on_gpu else "float32"))
    rows = []
    print(f"{device.device_kind}, jax {jax.__version__}, Python {platform.python_version()}")
    for shape in options.shapes or op.shapes(on_gpu, options.frames):
        new = measure(op, shape, dtype, options.repeats, options.contenders)
        show(new)
        rows += new
    name = f"{op.name}-{device.device_kind.replace(' ', '-')}-jax{jax.__version__}.json"
    path = options.output or Path(__file__).parent / "results" / name
    write(path, {**about(), "rows": rows})
    print(f"written to {path}")
