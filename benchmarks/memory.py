"""How much memory tuning and editing with Stable Diffusion 1.5 take on a GPU, compiled for one that need not be there.

    pip install jax-cuda13-plugin==V jax-cuda13-pjrt==V absl-py
    python -m benchmarks.memory                          # 8 to 128 frames at 512 x 512 in bfloat16
    python -m benchmarks.memory --frames 64 128 --programs tuning

with V the version of jax. No parameter is ever allocated: shapes go in, and XLA says what memory its program asks for.
That is compiled, not measured; and compiled up to PTX, for memory is settled before ptxas makes machine code of it. It
is all that the program needs, arguments (parameters, optimizer state) included. What else the process keeps on the GPU
comes on top: the VAE (0.3 GB), the tuned parameters as they were before tuning (0.65 GB), and what cuDNN's
convolutions and attention ask for as their workspace.

    tuning       a step of python -m train.tune with --train mixers and, unless --no-remat is given, --remat
    inversion    a step of inversion
    sampling     a step of sampling with guidance: two rows
    controlled   the same beside the source (--self-attention and the like): three rows
    null text    a step of null-text inversion (--guidance-from null_text)
    vae encode   the clip's frames to latents
    vae decode   the edit's latents to frames

A program takes a few minutes to compile on two cores. Every figure is written as soon as it is known, and a program
that was compiled before by the same versions is not compiled again. benchmarks/results/memory.json has them all.
"""

import argparse
import hashlib
import json
import sys
import time
from dataclasses import fields
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from benchmarks.gpu_target import TARGETS, described_gpu
from benchmarks.programs import PROGRAMS, Case, lower
from benchmarks.written import write
from vrwkv_jax.commands.cli import run_cli
from vrwkv_jax.system.about import about
from vrwkv_jax.system.device_memory import program_bytes
from vrwkv_jax.system.errors import UserError

# Memory is settled before PTX is made: the code may be bad, if it is made soon.
QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
NO_ASSEMBLER = """\
#!/bin/sh
# Stands in for ptxas, which would assemble hundreds of kernels that nobody runs: says a version, writes anything.
while [ $# -gt 0 ]; do
    case "$1" in
        --version) echo "Cuda compilation tools, release 13.0, V13.0.88"; exit;;
        -o) echo nothing > "$2";;
    esac
    shift
done
"""
RESULTS = Path(__file__).parent / "results" / "memory.json"


def compiled(lowered: jax.stages.Lowered) -> dict[str, float]:
    """The compiled program's bytes, and how long that took."""
    started = time.perf_counter()
    with TemporaryDirectory() as cuda:
        assembler = Path(cuda) / "bin" / "ptxas"
        assembler.parent.mkdir()
        assembler.write_text(NO_ASSEMBLER)
        assembler.chmod(0o755)
        options = {**QUICK, "xla_gpu_cuda_data_dir": cuda}
        memory = lowered.compile(compiler_options=options).memory_analysis()
    return {
        "total": program_bytes(memory),
        "arguments": memory.argument_size_in_bytes,
        "temporaries": memory.temp_size_in_bytes,
        "results": memory.output_size_in_bytes,
        "results_in_place_of_arguments": memory.alias_size_in_bytes,
        "seconds_to_compile": round(time.perf_counter() - started),
    }


def fit(frames: list[int], totals: list[float]) -> dict[str, float]:
    """Total bytes as a line over the frames: its two numbers, and the largest share by which a total misses it."""
    per_frame, fixed = np.polyfit(frames, totals, 1)
    line = fixed + per_frame * np.array(frames)
    return {
        "bytes_per_frame": float(per_frame),
        "fixed_bytes": float(fixed),
        "largest_deviation": float(np.max(np.abs(line / np.array(totals) - 1))),
    }


def fits(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """``fit`` for every program and setting that there are three lengths of clips of."""
    groups: dict[tuple, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(setting(row), []).append(row)
    return [
        {**some[0]["case"], "frames": lengths, **fit(lengths, [row["total"] for row in some])}
        for some in groups.values()
        if len(lengths := [row["case"]["frames"] for row in some]) >= 3
    ]


def setting(row: dict[str, Any]) -> tuple:
    """What a row is about, but for the frames."""
    return tuple(value for name, value in row["case"].items() if name != "frames")


def table(rows: list[dict[str, Any]]) -> str:
    """Every case with its memory in GB, and the lines through them."""
    lines = [
        f"{'':11}{'frames':>7}{'pixels':>11}{'dtype':>10}{'remat':>6}{'GB':>8}{'arguments':>11}{'temporaries':>13}  GPU"
    ]
    for row in sorted(rows, key=lambda row: (*map(str, setting(row)), row["case"]["frames"])):
        case = Case(**row["case"])
        gb = {name: row[name] / 1e9 for name in ("total", "arguments", "temporaries")}
        lines.append(
            f"{case.program:11}{case.frames:>7}{f'{case.width}x{case.height}':>11}{case.dtype:>10}"
            f"{'yes' if case.remat else 'no':>6}{gb['total']:>8.2f}{gb['arguments']:>11.2f}{gb['temporaries']:>13.2f}"
            f"  {TARGETS[case.gpu][0]}"
        )
    for line in fits(rows):
        lines.append(
            f"{line['program']}: {line['fixed_bytes'] / 1e9:.2f} GB and {line['bytes_per_frame'] / 1e9:.3f} GB "
            f"per frame, {line['largest_deviation']:.1%} off at most"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", nargs="+", type=int, default=[8, 16, 32, 64, 128])
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--height", type=int, default=512)
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16")
    parser.add_argument("--remat", action=argparse.BooleanOptionalAction, default=True, help="concerns tuning alone")
    parser.add_argument("--programs", nargs="+", choices=PROGRAMS, default=["tuning", "sampling"])
    parser.add_argument("--gpu", choices=TARGETS, default="sm_90")
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    if min(options.frames) < 1 or any(size < 8 or size % 8 for size in (options.width, options.height)):
        raise UserError(
            f"{options.frames} frames of {options.width}x{options.height} pixels: expected at least one frame, and "
            "multiples of 8 for --width and --height"
        )
    try:
        mesh = described_gpu(options.gpu)
    except RuntimeError as error:
        raise UserError(str(error)) from error
    rows = json.loads(options.output.read_text())["rows"] if options.output.exists() else []
    size = options.width, options.height
    for frames in options.frames:
        for program in options.programs:
            case = Case(program, frames, *size, options.dtype, options.remat and program == "tuning", options.gpu)
            rows = add(case, mesh, rows)
            write(options.output, {"rows": rows, "fits": fits(rows)})
    print(f"compiled, not measured\n{table(rows)}\nwritten to {options.output}")


def named(case: Case) -> dict[str, Any]:
    """Without the models, which are always the same here."""
    return {field.name: getattr(case, field.name) for field in fields(case) if field.name != "models"}


def add(case: Case, mesh: Mesh, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """``rows`` with that of ``case``, which is compiled unless the very same program was."""
    print(f"compiling {case.program}, {case.frames} frames", file=sys.stderr, flush=True)
    lowered = lower(case, mesh)
    program = hashlib.sha256(lowered.as_text().encode()).hexdigest()
    made = about() | {"device": f"{TARGETS[case.gpu][0]}, described: compiled, not measured"}
    same = {"case": named(case), "program_sha256": program, "versions": made["versions"]}
    if any(same.items() <= {**row, "versions": row["made"]["versions"]}.items() for row in rows):
        return rows
    others = [row for row in rows if row["case"] != named(case)]
    return [*others, {"case": named(case), **compiled(lowered), "program_sha256": program, "made": made}]


if __name__ == "__main__":
    jax.config.update("jax_platforms", "cpu")  # the GPU is only described
    sys.exit(run_cli(main))
