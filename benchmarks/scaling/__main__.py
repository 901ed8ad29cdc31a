"""Measures what is missing, and prints and draws all there is."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import jax

import benchmarks.scaling
from benchmarks.gpu_target import TARGETS, described_gpu
from benchmarks.power_law import exponent
from benchmarks.programs import check_sizes
from benchmarks.rivals import RIVALS
from benchmarks.scaling import layers, steps
from benchmarks.scaling.summary import all_exponents, draw, table
from benchmarks.written import write
from vrwkv_jax.commands.cli import run_cli
from vrwkv_jax.system.about import about
from vrwkv_jax.system.errors import UserError

RESULTS = Path(__file__).parents[1] / "results" / "scaling.json"
Row = dict[str, Any]


class Kept:
    """The rows of a file, which is written after each; a row is known by what it is about, device and versions."""

    def __init__(self, path: Path) -> None:
        self.path = path
        known = json.loads(path.read_text()) if path.exists() else {}
        self.rows: dict[str, list[Row]] = {part: known.get(part, []) for part in ("layers", "memory")}

    def find(self, part: str, same: Row) -> Row | None:
        return next((row for row in self.rows[part] if same.items() <= row.items()), None)

    def add(self, part: str, row: Row, same: Row) -> None:
        """In the place of what is known of the ``same``."""
        self.rows[part] = [other for other in self.rows[part] if not same.items() <= other.items()] + [row]
        write(self.path, {**self.rows, "exponents": all_exponents(self.rows["layers"], self.rows["memory"])})


def measure_layers(kept: Kept, options: argparse.Namespace) -> None:
    made = {name: about()[name] for name in ("device", "versions")}
    for level in range(len(layers.LEVELS)):
        for pixels in options.pixels:
            for name in options.mixer or layers.LAYERS:
                if name not in layers.LAYERS:
                    continue
                taken: list[tuple[int, float]] = []
                for frames in sorted(options.frames):
                    same = {"layer": name, "frames": frames, "pixels": pixels, "level": level} | made
                    row = kept.find("layers", same)
                    is_old = row is not None and row.get("how", "whole") not in ("whole", layers.BY_SHARES)
                    if row is None or is_old or ("ms" not in row and row["limit_s"] < options.seconds):
                        say(f"{name}, {frames} frames of {pixels} x {pixels}, level {level}")
                        expected = seconds_expected(taken, frames)
                        row = layers.measure(name, frames, pixels, level, options.seconds, expected) | about()
                        kept.add("layers", row, same)
                    if "ms" in row:
                        taken.append((frames, row["ms"]))


def seconds_expected(taken: list[tuple[int, float]], frames: int) -> float:
    """Of one run with so many ``frames``, given pairs of fewer frames and milliseconds: as the last two have grown."""
    if not taken:
        return 0.0
    (known, ms), growth = taken[-1], 2.0
    if len(taken) > 1:
        growth = exponent([n for n, _ in taken[-2:]], [t for _, t in taken[-2:]])
    return ms / 1e3 * (frames / known) ** growth


def measure_memory(kept: Kept, options: argparse.Namespace) -> None:
    try:
        mesh = described_gpu(options.gpu)
    except RuntimeError as error:
        raise UserError(str(error)) from error
    versions = about()["versions"]
    for frames in sorted(options.frames):
        for pixels in options.pixels:
            for name in options.mixer or RIVALS:
                if name not in RIVALS:
                    continue
                for program in options.programs:
                    same = {"method": name, "program": program, "frames": frames, "pixels": pixels}
                    same |= {"gpu": TARGETS[options.gpu][0], "versions": versions}
                    if kept.find("memory", same) is None:
                        say(f"{program} with {name}, {frames} frames of {pixels} x {pixels}")
                        row = steps.measure(name, program, frames, pixels, options.gpu, mesh) | about()
                        kept.add("memory", row, same)


def say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scaling",
        description=benchmarks.scaling.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = dict.fromkeys((*layers.LAYERS, *RIVALS))
    parser.add_argument("--parts", nargs="+", choices=("layers", "memory"), default=("layers",))
    parser.add_argument("--mixer", nargs="+", choices=names, help="by default all")
    parser.add_argument("--frames", nargs="+", type=int, default=(8, 16, 32, 64, 128))
    parser.add_argument("--pixels", nargs="+", type=int, default=(256, 512), help="of a side, a multiple of 64")
    parser.add_argument("--seconds", type=float, default=30.0, help="that one run of a layer may take")
    parser.add_argument("--programs", nargs="+", choices=steps.PROGRAMS, default=steps.PROGRAMS)
    parser.add_argument("--gpu", choices=TARGETS, default="sm_90")
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    if "memory" in options.parts:
        jax.config.update("jax_platforms", "cpu")  # the GPU is only described
    check_sizes(options.frames, options.pixels)
    kept = Kept(options.output)
    if "layers" in options.parts:
        measure_layers(kept, options)
    if "memory" in options.parts:
        measure_memory(kept, options)
    print(table(kept.rows["layers"], kept.rows["memory"]))
    draw(options.output.with_suffix(".png"), kept.rows["layers"], kept.rows["memory"])
    print(f"written to {options.output} and {options.output.with_suffix('.png')}")


if __name__ == "__main__":
    sys.exit(run_cli(main))
