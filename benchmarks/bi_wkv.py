"""Bi-WKV against what else could mix tokens, over the shapes of Stable Diffusion 1.5 at 512 x 512.

    python -m benchmarks.bi_wkv                  # every shape that is sensible here
    python -m benchmarks.bi_wkv --shapes 1x16384x320 1x4096x320 --repeats 9

Forward and forward + backward of one op: this package's implementations, ``lax.scan`` over the tokens,
``lax.associative_scan`` and attention over the same tokens. One table is printed and benchmarks/results/ gets the same
as JSON. The contenders take turns, and the fastest turn of each counts: other programs on the machine slow some turns,
none is sped up.

GB/s counts what must move at least: k, v and y once (backward: k, v, g, dk, dv in addition). "of copy" relates that to
what copying an array reaches on this device. Memory is what the compiled program needs beside arguments and results.
"""

import argparse
import json
import platform
import time
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from pallas_kernels.bi_wkv import bi_wkv, free_decay
from pallas_kernels.bi_wkv.cases import inputs
from vrwkv_jax.system.about import about

EMPTY = -1e30
LEVELS = ((4096, 320), (1024, 640), (256, 1280), (64, 1280))  # tokens per frame, channels
FRAMES = (8, 16, 32, 64, 128)
HEAD = 64  # channels of an attention head


def token_scan(k, v, decay, bonus):
    """The recurrence token by token: ``lax.scan`` over T, with a running maximum."""
    k, v = (jnp.moveaxis(x.astype(jnp.float32), 1, 0) for x in (k, v))

    def step(state, token):
        m, a, b = state
        key, value = token
        new_m = jnp.maximum(m - decay, key)
        old, new = jnp.exp(m - decay - new_m), jnp.exp(key - new_m)
        return (new_m, a * old + new * value, b * old + new), state

    zero = jnp.zeros_like(k[0])
    start = (zero + EMPTY, zero, zero)
    return _combine(k, v, bonus, lax.scan(step, start, (k, v))[1], lax.scan(step, start, (k, v), reverse=True)[1], 0)


def associative(k, v, decay, bonus):
    """The same by ``lax.associative_scan``: log T passes, all tokens at once."""
    k, v = k.astype(jnp.float32), v.astype(jnp.float32)

    def join(far, near):
        far_steps, far_m, far_a, far_b = far
        steps, near_m, near_a, near_b = near
        far_m = far_m - steps * decay
        m = jnp.maximum(far_m, near_m)
        x, y = jnp.exp(far_m - m), jnp.exp(near_m - m)
        return far_steps + steps, m, far_a * x + near_a * y, far_b * x + near_b * y

    def exclusive(reverse):
        one = jnp.ones((1, k.shape[1], 1), jnp.float32)
        _, *state = lax.associative_scan(join, (one, k, v, jnp.ones_like(k)), axis=1, reverse=reverse)
        rows, side = (slice(1, None), (0, 1)) if reverse else (slice(None, -1), (1, 0))
        fills = (EMPTY, 0.0, 0.0)
        return [
            jnp.pad(x[:, rows], ((0, 0), side, (0, 0)), constant_values=f) for x, f in zip(state, fills, strict=True)
        ]

    return _combine(k, v, bonus, exclusive(False), exclusive(True), None)


def _combine(k, v, bonus, forward, backward, token_axis):
    m = jnp.maximum(jnp.maximum(forward[0], backward[0]), k + bonus)
    f, g, own = jnp.exp(forward[0] - m), jnp.exp(backward[0] - m), jnp.exp(k + bonus - m)
    y = (forward[1] * f + backward[1] * g + own * v) / (forward[2] * f + backward[2] * g + own)
    return y if token_axis is None else jnp.moveaxis(y, 0, 1)


def attention(k, v, decay, bonus):
    """Softmax attention over the same tokens, k standing for the queries as well."""
    B, T, C = k.shape
    q, k, v = (x.reshape(B, T, C // HEAD, HEAD) for x in (k, k, v))
    return jax.nn.dot_product_attention(q, k, v).reshape(B, T, C)


def ours(k, v, decay, bonus, implementation):
    """As the mixers call it, which vouch for a bound of the decay."""
    return bi_wkv(k, v, decay, bonus, max_decay=free_decay(k.shape[1]), implementation=implementation)


CONTENDERS = {
    "mosaic": partial(ours, implementation="mosaic"),
    "scan": partial(ours, implementation="scan"),
    "lax.scan over T": token_scan,
    "associative_scan": associative,
    "attention": attention,
}


def gradients(op):
    def run(k, v, decay, bonus, g):
        y, vjp = jax.vjp(op, k, v, decay, bonus)
        return y, *vjp(g.astype(y.dtype))

    return run


def sensible(name: str, shape, on_gpu: bool) -> bool:
    """Whether a contender can be expected to finish at this shape."""
    B, T, C = shape
    if name == "mosaic":
        return on_gpu
    if name == "attention":
        return C % HEAD == 0 and (32e9 if on_gpu else 2e9) > B * T * T * (C // HEAD) * 4
    if name == "lax.scan over T":
        return (16384 if on_gpu else 65536) >= T
    return True


def default_shapes(on_gpu: bool, frames) -> list[tuple[int, int, int]]:
    """Joint sequences of all frames' tokens, then the factorised ones: within frames, and within places."""
    shapes = [(1, 16384, 320), (1, 4096, 320), (2, 65536, 320)]
    for tokens, channels in LEVELS:
        for count in frames:
            shapes += [(1, tokens * count, channels), (count, tokens, channels), (tokens, count, channels)]
    limit = 2**31 if on_gpu else 2**23  # elements
    return list(dict.fromkeys(s for s in shapes if np.prod(s) <= limit))


def measure(shape, dtype, repeats: int, only) -> list[dict]:
    on_gpu = jax.default_backend() == "gpu"
    values = inputs(shape, decay=1.0 / shape[1])
    values = {n: jnp.asarray(x, dtype if x.ndim == 3 else jnp.float32) for n, x in values.items()}
    arguments = [values[n] for n in ("k", "v", "decay", "bonus")]
    runs = {}
    for name, op in CONTENDERS.items():
        if (only and name not in only) or not sensible(name, shape, on_gpu):
            continue
        for phase, f, args in (("forward", op, arguments), ("both", gradients(op), [*arguments, values["g"]])):
            compiled = jax.jit(f).lower(*args).compile()
            runs[name, phase] = compiled, args
            jax.block_until_ready(compiled(*args))
    copy = jax.jit(lambda x: x + 1).lower(values["k"]).compile()
    runs["copy", "forward"] = copy, [values["k"]]
    seconds = {key: [] for key in runs}
    for _ in range(repeats):
        for key, (compiled, args) in runs.items():
            for _ in range(2):  # the second run counts: the first pays for memory that the one before gave back
                start = time.perf_counter()
                jax.block_until_ready(compiled(*args))
                elapsed = time.perf_counter() - start
            seconds[key].append(elapsed)
    array = values["k"].nbytes
    copy_rate = 2 * array / min(seconds["copy", "forward"])
    rows = []
    for (name, phase), (compiled, _) in runs.items():
        if name == "copy":
            continue
        best = min(seconds[name, phase])
        rate = (3 if phase == "forward" else 8) * array / best
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", type=lambda s: tuple(map(int, s.split("x"))), help="such as 1x16384x320")
    parser.add_argument("--frames", nargs="+", type=int, default=FRAMES)
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--dtype", default=None, help="default: bfloat16 on a GPU, float32 elsewhere")
    parser.add_argument(
        "--output", type=Path, help="JSON file (default: benchmarks/results/bi_wkv-DEVICE-jaxVERSION.json)"
    )
    options = parser.parse_args()
    device = jax.devices()[0]
    on_gpu = device.platform == "gpu"
    dtype = jnp.dtype(options.dtype or ("bfloat16" if on_gpu else "float32"))
    rows = []
    print(f"{device.device_kind}, jax {jax.__version__}, Python {platform.python_version()}")
    for shape in options.shapes or default_shapes(on_gpu, options.frames):
        new = measure(shape, dtype, options.repeats, options.contenders)
        show(new)
        rows += new
    name = f"bi_wkv-{device.device_kind.replace(' ', '-')}-jax{jax.__version__}.json"
    path = options.output or Path(__file__).parent / "results" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**about(), "rows": rows}, indent=1) + "\n")
    print(f"written to {path}")


if __name__ == "__main__":
    main()
