"""Runs the methods, each in a process of its own, and prints one table."""

import argparse
import json
import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

import benchmarks.long_video
from benchmarks.long_video.methods import METHODS, keyframes, measure
from benchmarks.written import write
from vrwkv_jax.commands.cli import run_cli
from vrwkv_jax.config import parse_tune_config
from vrwkv_jax.system.about import about

RESULTS = Path(__file__).parents[1] / "results" / "long-video.json"
Row = dict[str, Any]


def table(rows: list[Row]) -> str:
    """Means over films and kinds of edits, a line for each method and length; and where clips begin."""
    edited = [row for row in rows if "scores" in row]
    names = list(next(iter(edited[0]["scores"].values()))) if edited else []
    lines = [f"{'':12}{'frames':>8}" + "".join(f"{name:>15}" for name in (*names, "s per frame", "GB"))]
    for method, frames in dict.fromkeys((row["method"], row["frames"]) for row in edited):
        own = [row for row in edited if (row["method"], row["frames"]) == (method, frames)]
        cells = []
        for name in names:
            found = [s[name] for row in own for s in row["scores"].values() if s[name] is not None]
            cells.append(f"{np.mean(found):.3f}" if found else "-")
        spent = [row["seconds_per_frame"]["inversion"] + row["seconds_per_frame"]["edits"] for row in own]
        cells += [f"{np.mean(spent):.3f}", f"{max(row['peak_bytes'] for row in own) / 1e9:.2f}"]
        lines.append(f"{method:12}{frames:>8}" + "".join(f"{cell:>15}" for cell in cells))
    for row in rows:
        if "keyframes" in row:
            shares = (row["precision"], row["recall"])
            precision, recall = ("-" if share is None else f"{share:.0%}" for share in shares)
            counts = f"{row['keyframes']} clips, {row['cuts']} cuts"
            lines.append(
                f"{row['method']:12}{row['frames']:>8}  {counts}: {precision} of the clips begin at one, {recall} found"
            )
    return "\n".join(lines)


def main() -> None:
    own, rest = sys.argv[1:], []
    if "--" in own:
        own, rest = own[: own.index("--")], own[own.index("--") + 1 :]
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.long_video",
        description=benchmarks.long_video.__doc__ + "\nWhat follows -- are settings of python -m train.tune.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--method", nargs="+", choices=(*METHODS, "cuts"), default=(*METHODS, "cuts"))
    parser.add_argument("--frames", nargs="+", type=int, default=(240,))
    parser.add_argument("--films", type=int, default=2)
    parser.add_argument("--shot", nargs=2, type=int, default=(40, 90), help="least and most frames of a shot")
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args(own)
    config = replace(parse_tune_config(rest), edit_prompts=())
    known = json.loads(options.output.read_text())["rows"] if options.output.exists() else []
    settings = json.loads(json.dumps({"tune": asdict(config), "shot": options.shot}))
    rows = [row for row in known if row["settings"] == settings]
    context = multiprocessing.get_context("spawn")
    for frames in options.frames:
        for number in range(options.films):
            for method in options.method:
                same = {"method": method, "frames": frames, "film": number}
                if any(same.items() <= row.items() for row in rows):
                    continue
                print(f"{method}, film {number} of {frames} frames", file=sys.stderr, flush=True)
                arguments = (number, frames, tuple(options.shot), config)
                with ProcessPoolExecutor(1, context) as pool:
                    task = (
                        pool.submit(keyframes, *arguments)
                        if method == "cuts"
                        else pool.submit(measure, method, *arguments)
                    )
                    made = task.result()
                rows.append(same | made | about() | {"settings": settings})
                write(options.output, {"rows": rows})
    print(table([row for row in rows if row["method"] in options.method]))
    print(f"written to {options.output}")


if __name__ == "__main__":
    sys.exit(run_cli(main))
