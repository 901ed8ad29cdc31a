"""How long the programs of one edit take to trace, lower and compile, and what of that the mixers add.

    python -m benchmarks.compile_time                    # for an H200 that need not be there
    python -m benchmarks.compile_time --gpu sm_80 --compile

Stable Diffusion 1.5 at 512 x 512 in bfloat16: a step of sampling with guidance, and a step of tuning with --remat, with
the mixers (vrwkv) and without (none). Lines are those of the program's StableHLO. Nothing is allocated and no GPU is
needed; --compile needs jax's CUDA plugin of the same version. One table is printed, and
benchmarks/results/compile_time.json has the same with versions. Seconds depend on the computer and on what else it
does; lines depend on the versions alone.
"""

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from benchmarks.gpu_target import TARGETS, described_gpu, describing
from benchmarks.programs import PROGRAMS, Case, Models, on_mesh
from benchmarks.written import write
from vrwkv_jax.commands.cli import run_cli
from vrwkv_jax.models.video_config import VideoConfig
from vrwkv_jax.system.about import about
from vrwkv_jax.system.errors import UserError

RESULTS = Path(__file__).parent / "results" / "compile_time.json"
MEASURES = {"lines": "lines", "seconds_to_trace": "trace s", "seconds_to_lower": "lower s"}
COMPILING = {"seconds_to_compile": "compile s"}


def measure(program: str, mixer: Any, frames: int, gpu: str, mesh: Mesh | None) -> dict[str, Any]:
    """Lines and seconds of one program; compiled only where there is a ``mesh`` to compile for."""
    case = Case(program, frames, 512, 512, "bfloat16", program == "tuning", gpu, Models(video=VideoConfig(mixer=mixer)))
    step, arguments, static = PROGRAMS[program](case)
    if mesh is not None:
        arguments = on_mesh(arguments, mesh)
    jax.clear_caches()  # the other program of the pair has traced the same layers
    with describing(gpu, None if mesh is None else mesh.abstract_mesh):
        started = time.perf_counter()
        traced = step.trace(**arguments, **static)
        after_trace = time.perf_counter()
        lowered = traced.lower() if mesh is not None else traced.lower(lowering_platforms=("cuda",))
        after_lower = time.perf_counter()
    row = {
        "program": program,
        "mixer": mixer,
        "frames": frames,
        "gpu": TARGETS[gpu][0],
        "lines": lowered.as_text().count("\n"),
        "seconds_to_trace": after_trace - started,
        "seconds_to_lower": after_lower - after_trace,
    }
    if mesh is not None:
        started = time.perf_counter()
        lowered.compile()
        row["seconds_to_compile"] = time.perf_counter() - started
    return row


def ratios(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """For every program, each measure with mixers over the same without."""
    found = []
    for row in rows:
        for other in rows:
            if row["program"] == other["program"] and (row["mixer"], other["mixer"]) == ("vrwkv", "none"):
                measures = [name for name in MEASURES | COMPILING if name in row]
                found.append({"program": row["program"]} | {name: row[name] / other[name] for name in measures})
    return found


def table(rows: list[dict[str, Any]]) -> str:
    """Every program with and without mixers, and the ratios."""
    measures = {name: title for name, title in (MEASURES | COMPILING).items() if name in rows[0]}
    lines = [f"{'':22}" + "".join(f"{title:>11}" for title in measures.values())]
    for row in rows:
        figures = "".join(f"{row[name]:>11}" if name == "lines" else f"{row[name]:>11.1f}" for name in measures)
        lines.append(f"{row['program']:12}{row['mixer']:10}{figures}")
    for row in ratios(rows):
        lines.append(f"{row['program']:12}{'ratio':10}" + "".join(f"{row[name]:>11.2f}" for name in measures))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--programs", nargs="+", choices=PROGRAMS, default=["sampling", "tuning"])
    parser.add_argument("--gpu", choices=TARGETS, default="sm_90")
    parser.add_argument("--compile", action="store_true", help="compile, too: needs jax's CUDA plugin")
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    if options.frames < 1:
        raise UserError(f"--frames is {options.frames}: expected 1 or more")
    try:
        mesh = described_gpu(options.gpu) if options.compile else None
    except RuntimeError as error:
        raise UserError(str(error)) from error
    rows = []
    for program in options.programs:
        for mixer in ("none", "vrwkv"):
            print(f"{program}, mixer {mixer}", file=sys.stderr, flush=True)
            rows.append(measure(program, mixer, options.frames, options.gpu, mesh))
    made = about() | {"device": f"{TARGETS[options.gpu][0]}, described", "processor_cores": os.cpu_count()}
    write(options.output, {"made": made, "rows": rows, "ratios": ratios(rows)})
    print(f"{table(rows)}\nwritten to {options.output}")


if __name__ == "__main__":
    jax.config.update("jax_platforms", "cpu")  # the GPU is only described
    sys.exit(run_cli(main))
