"""Runs the cases, keeps their rows and prints the table."""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import benchmarks.gpu
from benchmarks.gpu.cases import PARTS, Case, cases
from benchmarks.gpu.summary import describe, summary
from benchmarks.gpu.turns import in_turns
from benchmarks.written import write
from vrwkv_jax.commands.cli import run_cli

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "gpu.json"
ABOUT = "import json; from vrwkv_jax.system.about import about; print(json.dumps(about()))"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=benchmarks.gpu.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--tiny", action="store_true", help="small sizes, to see whether all of it runs")
    parser.add_argument("--seconds", type=float, default=480, help="no case goes on for longer than that in all")
    parser.add_argument(
        "--beside", type=int, default=max(1, (os.cpu_count() or 1) // 2), help="processes that compile at a time"
    )
    parser.add_argument(
        "--output", type=Path, help="JSON file (default: benchmarks/results/gpu.json; with --tiny none that stays)"
    )
    options = parser.parse_args()
    output = options.output or (Path(tempfile.mkdtemp()) / "gpu.json" if options.tiny else RESULTS)
    deadline = time.monotonic() + options.seconds
    made = json.loads(subprocess.check_output([sys.executable, "-c", ABOUT], text=True).splitlines()[-1])
    made["source"] = source()
    rows = json.loads(output.read_text())["rows"] if output.exists() else []
    missing = [case for case in cases(options.parts, options.tiny) if not is_known(case, made, rows)]
    while missing and time.monotonic() < deadline:
        batch, missing = missing[: options.beside], missing[options.beside :]
        for case, result in in_turns(batch, deadline):
            print(describe(case, result), flush=True)
            if isinstance(result, list):
                rows = [row for row in rows if row["case"] != case or not same_place(row["made"], made)]
                rows += [{"case": case, "made": made, **row} for row in result]
                write(output, {"rows": rows})
    if missing:
        print(f"{len(missing)} cases are left; the same command goes on with them")
    print(summary(mine(rows, made, options.tiny)))
    print(f"{made['device']}, jax {made['versions']['jax']}; written to {output}")


def is_known(case: Case, made: dict[str, Any], rows: list[dict[str, Any]]) -> bool:
    return any(row["case"] == case and same_place(row["made"], made) for row in rows)


def same_place(made: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether the figures are of the same device, versions and source."""
    return all(made.get(name) == other.get(name) for name in ("device", "versions", "source"))


def source() -> str:
    """What the code that is measured is known by: it changes with every line."""
    found = hashlib.sha256()
    for part in ("pallas_kernels", "vrwkv_jax", "train", "benchmarks"):
        for path in sorted((ROOT / part).rglob("*.py")):
            found.update(path.read_bytes())
    return found.hexdigest()[:12]


def mine(rows: list[dict[str, Any]], made: dict[str, Any], tiny: bool) -> list[dict[str, Any]]:
    return [row for row in rows if same_place(row["made"], made) and row["case"]["tiny"] == tiny]


if __name__ == "__main__":
    sys.exit(run_cli(main))
