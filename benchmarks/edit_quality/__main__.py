"""How well clips are edited, where the true edit is known.

    python -m benchmarks.edit_quality
    python -m benchmarks.edit_quality --mixer all --world hard --controls default none
    python -m benchmarks.edit_quality --mixer all --equal steps time --clips 6 --output runs/trial -- --steps 50
    python -m benchmarks.edit_quality --clips 6 --mixer vrwkv --controls all
    python -m benchmarks.edit_quality --clips 6 --mixer vrwkv --seed 5 --budget

A clip of the plain world shows one flat thing before a background that stands still; of the hard world things with
textures that deform, hide each other and leave the picture, a camera that moves and light that changes. Each shows a
combination of shape, colour and background that the model has never seen, and is edited four times: another colour,
shape and background, and another style (plain) or material (hard). The methods take turns:

    truth        the true edit, as it is rendered: what each figure is at best
    reconstruct  no edit: inversion and sampling under the clip's own prompt, the ceiling of all methods
    image        the image U-Net, each frame for itself, not tuned
    none         the same, its queries tuned on the clip
    extended     the same, its self-attention over all frames
    vrwkv, ...   the mixers, tuned on the clip

With ``--equal time`` every method is tuned for as long as vrwkv is (to 5 steps), instead of for as many steps; with
``--equal steps time`` the clips of both come from one tuning, and there is a table for each. ``--controls`` edits
every clip once for each of the controls named, all from one tuning and one inversion: "none", each alone, "all", or
those that are configured ("default").

``--budget`` edits every clip once with each of the flags named, such as "--cache-interval 2 --inversion-iterations 1",
or with all that ask the model for less, and draws the quality of vrwkv's edits against row-calls and seconds.

What follows ``--`` are settings of ``python -m train.tune``, such as ``--width 96 --height 96`` for a ``--model`` of
that size, or ``--frames 32`` for longer clips. Every score is written as soon as it is known, into a file for these
settings, and what is there already is not done again: an interrupted benchmark goes on. Tables are printed, with means
and 95 % confidence intervals; after each, the differences from vrwkv, or from the first flags of a budget, clip by
clip, which say more, for clips differ by more than methods do. The output directory gets all as JSON, and a contact
sheet of the best, the median and the worst edit by vrwkv.
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np

from benchmarks.edit_quality.budget import WAYS, draw
from benchmarks.edit_quality.controls import CONTROLS, controlled
from benchmarks.edit_quality.methods import METHODS, REFERENCE, UNEDITED, Equal, Made, Steps, Way, load, run_method
from benchmarks.edit_quality.summary import differences, sheet, show, summary
from benchmarks.edit_quality.tasks import FRAMES, TASKS, Task, World, scores
from benchmarks.written import write
from vrwkv_jax import built_in
from vrwkv_jax.commands.cli import run_cli
from vrwkv_jax.commands.terminal import TERMINAL
from vrwkv_jax.config import TuneConfig, parse_tune_config
from vrwkv_jax.evaluation.edits import rendered
from vrwkv_jax.media.files import replacing
from vrwkv_jax.media.pictures import save_png
from vrwkv_jax.system.about import about
from vrwkv_jax.system.compiled import keep_compiled_programs
from vrwkv_jax.system.errors import UserError
from vrwkv_jax.world import caption


def scored(directory: Path, run: str, world: World, method: str, made: Made) -> dict[str, Any]:
    """The row of one edit; its clips go into ``directory``, under a name that begins with that of the ``run``."""
    task, edited = made.task, made.frames
    name = f"{run}-{method}-{made.steps}-{made.controls}-{task.clip:03}-{task.kind}.npz".replace(" ", "-")
    source, truth = (rendered(scene, *edited.shape[:2])[0] for scene in (task.source, task.target))
    np.savez_compressed(directory / name, source=source, truth=truth, edited=edited)
    return {
        "method": method,
        "controls": made.controls,
        "steps": made.steps,
        "clip": task.clip,
        "group": "unedited" if method == "reconstruct" else task.group,
        "file": name,
        "score": scores(world, task, edited) | {"row_calls": made.row_calls, "seconds": made.seconds},
        "prompt": caption(task.source),
        "edit_prompt": caption(task.target),
    }


def options_of(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.edit_quality",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", help="trained on the rendered world; by default the built-in one")
    parser.add_argument("--world", choices=TASKS, default="plain")
    parser.add_argument("--clips", type=int, default=24)
    parser.add_argument("--mixer", nargs="+", choices=("all", *METHODS), default=("reconstruct", "image", "vrwkv"))
    parser.add_argument("--equal", nargs="+", choices=get_args(Equal), default=("steps",))
    parser.add_argument("--controls", nargs="+", choices=("all", *CONTROLS), default=("default",))
    parser.add_argument(
        "--budget", nargs="*", metavar="FLAGS", help="of train.tune; by default all that make it cheaper"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the clips")
    parser.add_argument("--output", type=Path, default=Path("runs/edit-quality"))
    return parser.parse_args(arguments)


def config_of(flags: Sequence[str], world: World) -> TuneConfig:
    config = parse_tune_config(flags)
    width, height = config.clip.width, config.clip.height
    if width != height or width < 1:
        raise UserError(f"--width is {width} and --height {height}; expected the same of both, from 8 pixels on")
    if any(word.split("=")[0] == "--frames" for word in flags):
        return config
    return replace(config, clip=replace(config.clip, frames=FRAMES[world]))


def ways_of(options: argparse.Namespace, config: TuneConfig, rest: list[str]) -> dict[str, Way]:
    """How edits are configured: under the controls named, or by the flags of ``--budget``."""
    if options.budget is None:
        names = CONTROLS if "all" in options.controls else options.controls
        return {name: partial(controlled, config, name) for name in names}
    flags = options.budget or WAYS
    parsed = {words: config_of([*rest, *words.split()], options.world) for words in flags}
    return {words: partial(_always, own) for words, own in parsed.items()}


class Scores:
    """Rows of edits in a file, after a line with the ``settings`` that all of them have in common."""

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        self.path, self._settings = path, settings
        self.rows = [json.loads(line) for line in path.read_text().splitlines()[1:]] if path.exists() else []
        self._done = {self._key(row) for row in self.rows}

    def add(self, rows: list[dict[str, Any]]) -> None:
        self.rows += rows
        with replacing(self.path) as part:
            part.write_text("".join(json.dumps(line) + "\n" for line in (self._settings, *self.rows)))
        self._done |= {self._key(row) for row in rows}

    def __contains__(self, key: tuple[str, int, str, int]) -> bool:
        return key in self._done

    @staticmethod
    def _key(row: dict[str, Any]) -> tuple[str, int, str, int]:
        return row["method"], row["clip"], row["controls"], row["steps"]


def _always(config: TuneConfig, task: Task) -> TuneConfig:
    return config


def main() -> None:
    own, rest = sys.argv[1:], []
    if "--" in own:
        own, rest = own[: own.index("--")], own[own.index("--") + 1 :]
    options = options_of(own)
    if options.clips < 1:
        raise UserError(f"--clips is {options.clips}; expected at least 1")
    config = config_of(rest, options.world)
    ways = ways_of(options, config, rest)
    methods = tuple(METHODS) if "all" in options.mixer else tuple(options.mixer)
    keep_compiled_programs()
    options.output.mkdir(parents=True, exist_ok=True)
    settings = {
        "tune": asdict(config),
        "model": options.model or "built-in",
        "world": options.world,
        "clips_seed": options.seed,
    }
    run = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]
    kept = Scores(options.output / f"scores-{run}.jsonl", settings)
    work = list(TASKS[options.world](options.clips, options.seed))
    editors = {method: load(method, options.model or built_in.MODEL, config) for method in methods}
    steps = Steps(config, options.output / f"seconds_per_step-{run}.json")
    for method in dict.fromkeys((REFERENCE, *methods) if "time" in options.equal else methods):
        steps.measure(method, editors.get(method) or load(method, options.model or built_in.MODEL, config), work[0])
    counts = {method: {steps.of(method, equal) for equal in options.equal} for method in methods}
    with TERMINAL.stage("clips", options.clips * len(methods)) as advance:
        for of_clip in work:
            clip = of_clip[0].clip
            for method in methods:
                of_method = {"none": partial(_always, config)} if method in UNEDITED else ways
                left = {
                    count: {name: way for name, way in of_method.items() if (method, clip, name, count) not in kept}
                    for count in sorted(counts[method])
                }
                left = {count: of_count for count, of_count in left.items() if of_count}
                if left:
                    made = run_method(method, editors[method], of_clip, config, left)
                    kept.add([scored(options.output, run, options.world, method, edit) for edit in made])
                advance()
    shown = {*ways, *(["none"] if set(methods) & set(UNEDITED) else [])}
    rows = [
        row
        for row in kept.rows
        if row["clip"] < options.clips and row["method"] in methods and row["controls"] in shown
    ]
    tables, less = {}, {}
    reference = ("method", REFERENCE) if options.budget is None else ("controls", next(iter(ways)))
    for equal in options.equal:
        tuned_for = {method: steps.of(method, equal) for method in methods}
        of_equal = [row for row in rows if row["steps"] == tuned_for[row["method"]]]
        tables[equal] = summary(of_equal)
        print(f"\nequal {equal}: " + ", ".join(f"{method} {count}" for method, count in tuned_for.items() if count))
        show(tables[equal])
        less[equal] = differences([row for row in of_equal if row["method"] not in UNEDITED], *reference)
        if less[equal]:
            print(f"\nless {reference[1]}, of {options.clips} clips:")
            show(less[equal])
    write(
        options.output / "summary.json",
        {**about(), **settings, "seconds_per_step": steps.seconds, "equal": tables, "less": less},
    )
    if options.budget is not None and REFERENCE in methods:
        draw(options.output / "budget.png", [row for row in tables[options.equal[0]] if row["method"] == REFERENCE])
    if there := [row for row in rows if row["method"] == REFERENCE and (options.output / row["file"]).exists()]:
        save_png(options.output / "best-median-worst.png", sheet(options.output, there))
    print(f"written to {options.output}")


if __name__ == "__main__":
    sys.exit(run_cli(main))
