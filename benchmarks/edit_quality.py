"""How good edits are, on rendered clips whose true edit is known.

    python -m benchmarks.edit_quality
    python -m benchmarks.edit_quality --clips 6 --methods vrwkv --output runs/trial -- --steps 100 --lr 3e-4
    python -m benchmarks.edit_quality --clips 6 --methods vrwkv --controls all

Every clip shows one thing in a combination of shape, colour and background that the model has never seen. It is edited
four times: another colour, shape, background and style. Three methods take turns:

    reconstruct  no edit: inversion and sampling under the clip's own prompt, the ceiling of all methods
    image        the image U-Net, each frame for itself, untuned
    vrwkv        the video U-Net with mixers, tuned on the clip

``--controls`` edits every clip once for each of the controls named, all from one tuning and one inversion: "none",
each alone, "all", or those that are configured ("default").

What follows ``--`` are settings of ``python -m train.tune``. Every score is written as soon as it is known, and what is
there already is not done again: an interrupted benchmark goes on. One table is printed, with means and 95 % confidence
intervals; the output directory gets it as JSON, and a contact sheet of the best, median and worst edits.
"""

import argparse
import json
import math
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from vrwkv_jax import built_in
from vrwkv_jax.commands.cli import run_cli
from vrwkv_jax.commands.terminal import TERMINAL
from vrwkv_jax.config import TuneConfig, parse_tune_config
from vrwkv_jax.editing.controls.blend import mask_in_latents
from vrwkv_jax.editing.controls.config import ControlConfig
from vrwkv_jax.editing.editor import Editor
from vrwkv_jax.evaluation.edits import Kind, Score, score
from vrwkv_jax.media.pictures import contact_sheet, save_png
from vrwkv_jax.models.video_config import VideoConfig
from vrwkv_jax.runs.results import UNGUIDED, edit_once, negative_prompts, of_inversion
from vrwkv_jax.system.about import about
from vrwkv_jax.system.compiled import keep_compiled_programs
from vrwkv_jax.tuning.loop import tune
from vrwkv_jax.world import Scene, caption, edit, random_scene, render
from vrwkv_jax.world.scene import BACKGROUNDS, COLOURS, SHAPES, STYLES, stands_out

METHODS = ("reconstruct", "image", "vrwkv")
WORDS = "{words}"  # for those of the thing that is edited
NEW_WORDS = "{new words}"  # for those that only the edit's prompt has, with a factor of 2
OLD_WORDS = "{old words}"  # for those that only the clip's prompt has
CONTROLS: dict[str, dict[str, Any]] = {  # the sections' settings that differ from what is configured
    "default": {},
    "none": {"controls": {}},  # controls that are not named are off
    "cross-attention": {"controls": {"cross_attention": 0.6}},
    "replaced words": {"controls": {"cross_attention": 0.6, "replace_words": True}},
    "self-attention": {"controls": {"self_attention": 0.6}},
    "features": {"controls": {"features": 0.6}},
    "mixers": {"controls": {"mixer_keys": 0.6}},
    "reweighted": {"controls": {"reweight": NEW_WORDS}},
    "blend": {"controls": {"blend": WORDS}},
    "true mask": {"controls": {}},  # the best that a mask can do
    "negative prompt": {"controls": {}, "negative_prompt": OLD_WORDS},
    "source guidance": {"controls": {}, "editing": {"guidance_from": "source"}},
    "null text": {"controls": {}, "editing": {"guidance_from": "null_text"}},
    "strength": {"controls": {}, "editing": {"strength": 0.8}},
    "rescale": {"controls": {}, "editing": {"guidance_rescale": 0.7}},
    "dpm++": {"controls": {}, "editing": {"sampler": "dpm++"}},
    "guidance 1.5": {"controls": {}, "editing": {"guidance_scale": 1.5}},
    "guidance 2": {"controls": {}, "editing": {"guidance_scale": 2.0}},
    "guidance 5": {"controls": {}, "editing": {"guidance_scale": 5.0}},
    "words and features": {"controls": {"cross_attention": 0.6, "replace_words": True, "features": 0.6}},
}
MASKED = ("blend", "true mask")  # nothing but the thing may change: not for other backgrounds and styles
SIZE = 64
BRIGHTNESS = np.array((0.299, 0.587, 0.114)) / 255
OPPOSITE = 0.4  # a change of brightness, 0 to 1, from which on two colours count as opposite


@dataclass(frozen=True)
class Task:
    """One edit of one clip."""

    clip: int
    kind: Kind
    source: Scene
    target: Scene

    @property
    def group(self) -> str:
        """The kind; colours of like and of opposite brightness apart."""
        if self.kind != "colour":
            return self.kind
        before, after = (np.array(COLOURS[s.things[0].colour]) @ BRIGHTNESS for s in (self.source, self.target))
        return "colour, opposite" if abs(before - after) >= OPPOSITE else "colour, like"


def tasks(clips: int, seed: int) -> Iterator[list[Task]]:
    """For each clip its four edits."""
    rng = np.random.default_rng(seed)
    for clip in range(clips):
        scene = random_scene(rng, held_out=True, things=1)
        while scene.things[0].motion == "still":
            scene = random_scene(rng, held_out=True, things=1)
        source, thing = Scene(scene.things, scene.background), scene.things[0]
        colours = [c for c in COLOURS if c != thing.colour and stands_out(c, source.background)]
        backgrounds = [b for b in BACKGROUNDS if b != source.background and stands_out(thing.colour, b)]
        changes: dict[Kind, dict[str, str]] = {
            "colour": {"colour": str(rng.choice(colours))},
            "shape": {"shape": str(rng.choice([s for s in SHAPES if s != thing.shape]))},
            "background": {"background": str(rng.choice(backgrounds))},
            "style": {"style": str(rng.choice([s for s in STYLES if s != "plain"]))},
        }
        yield [Task(clip, kind, source, edit(source, **change)) for kind, change in changes.items()]


def load(method: str, model: str | Path, config: TuneConfig) -> Editor:
    video = config.video_model if method == "vrwkv" else VideoConfig(mixer="none")
    return Editor.from_pretrained(model, video=video, dtype=config.tuning.dtype, seed=config.seed)


def controlled(config: TuneConfig, name: str, task: Task) -> TuneConfig:
    """``config`` with the controls of that name."""
    before, after = (re.findall(r"\b(?!an?\b)\w+", caption(scene)) for scene in (task.source, task.target))
    words = {
        WORDS: tuple(dict.fromkeys((task.source.things[0].shape, task.target.things[0].shape))),
        NEW_WORDS: tuple(f"{word}=2" for word in dict.fromkeys(after) if word not in before),
        OLD_WORDS: " ".join(word for word in before if word not in after),
    }
    off = ControlConfig(feature_layers=config.controls.feature_layers)
    for section, values in CONTROLS[name].items():
        if isinstance(values, dict):
            configured = off if section == "controls" else getattr(config, section)
            own = replace(configured, **{key: words.get(value, value) for key, value in values.items()})
        else:
            own = words.get(values, values)
        config = replace(config, **{section: own})
    return config


def true_mask(task: Task, latents: tuple[int, int, int]) -> np.ndarray:
    """Where the thing is before or after the edit, for ``latents`` of that many frames, rows and columns."""
    masks = np.maximum(*(render(scene, latents[0], SIZE)[1][:, 0] for scene in (task.source, task.target)))
    return mask_in_latents(masks > 0.01, *latents[1:])


def run_method(
    method: str, editor: Editor, work: list[Task], config: TuneConfig, controls: Sequence[str]
) -> Iterator[tuple[Task, str, np.ndarray]]:
    """The edited clips of one source clip, for each of ``controls``."""
    source = work[0].source
    clip, prompt = render(source, config.clip.frames, SIZE)[0], caption(source)
    if method == "vrwkv":
        editor = editor.with_unet_params(tune(editor, clip, prompt, config).params)
    config = replace(config, prompt=prompt)
    inversion = editor.invert(clip, **of_inversion(config))
    if method == "reconstruct":
        unchanged = replace(work[0], target=source)
        yield unchanged, "none", editor.edit(inversion, inversion.prompt, sampling=UNGUIDED).frames
        return
    for name in controls:
        if method == "image" and name == "mixers":
            continue  # which it has not
        negatives: dict[str, Any] = {}  # by what they depend on, for null-text inversion takes minutes
        for task in work:
            if name in MASKED and task.kind in ("background", "style"):
                continue
            own = controlled(config, name, task)
            if own.negative_prompt not in negatives:
                negatives[own.negative_prompt] = negative_prompts(editor, inversion, own)
            negative = negatives[own.negative_prompt]
            mask = true_mask(task, inversion.trajectory.shape[1:4]) if name == "true mask" else None
            yield task, name, edit_once(editor, inversion, caption(task.target), negative, own, mask).frames


def scored(directory: Path, method: str, task: Task, controls: str, edited: np.ndarray) -> dict[str, Any]:
    """The row of one edit; its clips go into ``directory``."""
    name = f"{method}-{controls.replace(' ', '-')}-{task.clip:03}-{task.kind}.npz"
    source, truth = (render(scene, *edited.shape[:2])[0] for scene in (task.source, task.target))
    np.savez_compressed(directory / name, source=source, truth=truth, edited=edited)
    return {
        "method": method,
        "controls": controls,
        "clip": task.clip,
        "group": "unedited" if method == "reconstruct" else task.group,
        "file": name,
        "score": asdict(score(edited, task.source, task.target, task.kind)),
        "prompt": caption(task.source),
        "edit_prompt": caption(task.target),
    }


def summary(rows: list[dict]) -> list[dict]:
    """Per method, controls and group of edits: how many, and each figure's mean and half 95 % confidence interval."""
    groups: dict[tuple[str, str, str], list[dict]] = {}
    for row in rows:
        names = (row["group"],) if row["method"] == "reconstruct" else (row["group"], "all")
        for name in names:
            groups.setdefault((row["method"], row["controls"], name), []).append(row["score"])
    result = []
    for (method, controls, group), scores in sorted(groups.items()):
        figures = {}
        for name in (f.name for f in fields(Score)):
            values = [s[name] for s in scores if s[name] is not None]
            if values:
                half = 1.96 * np.std(values, ddof=1) / math.sqrt(len(values)) if len(values) > 1 else None
                figures[name] = {"mean": float(np.mean(values)), "half_interval": half and float(half)}
        result.append(
            {"method": method, "controls": controls, "group": group, "edits": len(scores), "figures": figures}
        )
    return result


def show(rows: list[dict]) -> None:
    names = [f.name for f in fields(Score)]
    print(f"{'':12}{'':19}{'':18}{'n':>4}" + "".join(f"{name:>16}" for name in names))
    for row in rows:
        cells = []
        for name in names:
            figure = row["figures"].get(name)
            half = "" if not figure or figure["half_interval"] is None else f" ±{figure['half_interval']:.2f}"
            cells.append(f"{figure['mean']:.2f}{half}" if figure else "-")
        print(
            f"{row['method']:12}{row['controls']:19}{row['group']:18}{row['edits']:>4}"
            + "".join(f"{cell:>16}" for cell in cells)
        )


def sheet(directory: Path, rows: list[dict]) -> np.ndarray:
    """Source, truth and result of the best, median and worst edit, by PSNR against the truth."""
    ranked = sorted((r for r in rows if r["method"] == "vrwkv"), key=lambda r: -r["score"]["psnr"])
    labelled = {}
    for name, row in zip(("best", "median", "worst"), (ranked[0], ranked[len(ranked) // 2], ranked[-1]), strict=True):
        with np.load(directory / row["file"]) as clips:
            labelled |= {
                f"{name}: source, {row['prompt']}": clips["source"],
                f"{name}: true edit to {row['edit_prompt']}": clips["truth"],
                f"{name}: edited, {row['score']['psnr']:.1f} dB": clips["edited"],
            }
    return contact_sheet(labelled)


def main() -> None:
    own, rest = sys.argv[1:], []
    if "--" in own:
        own, rest = own[: own.index("--")], own[own.index("--") + 1 :]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="trained on the rendered world; by default the built-in one")
    parser.add_argument("--clips", type=int, default=24)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--controls", nargs="+", choices=("all", *CONTROLS), default=("default",))
    parser.add_argument("--seed", type=int, default=0, help="of the clips")
    parser.add_argument("--output", type=Path, default=Path("runs/edit-quality"))
    options = parser.parse_args(own)
    config = parse_tune_config(rest)
    controls = tuple(CONTROLS) if "all" in options.controls else tuple(options.controls)
    keep_compiled_programs()
    options.output.mkdir(parents=True, exist_ok=True)
    settings = {
        "tune": asdict(config),
        "model": options.model or "built-in",
        "clips_seed": options.seed,
        "controls": controls,
    }
    path = options.output / "scores.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    done = {(row["method"], row["clip"]) for row in rows if row["settings"] == json.loads(json.dumps(settings))}
    rows = [row for row in rows if (row["method"], row["clip"]) in done]
    editors = {method: load(method, options.model or built_in.MODEL, config) for method in options.methods}
    with TERMINAL.stage("clips", options.clips * len(options.methods)) as advance, path.open("a") as file:
        for work in tasks(options.clips, options.seed):
            for method in options.methods:
                if (method, work[0].clip) not in done:
                    made = run_method(method, editors[method], work, config, controls)
                    new = [scored(options.output, method, *edit) for edit in made]
                    rows += new
                    file.writelines(json.dumps({**row, "settings": settings}) + "\n" for row in new)
                    file.flush()
                advance()
    rows = [row for row in rows if row["clip"] < options.clips]
    table = summary(rows)
    show(table)
    (options.output / "summary.json").write_text(json.dumps({**about(), **settings, "rows": table}, indent=1) + "\n")
    if any(row["method"] == "vrwkv" for row in rows):
        save_png(options.output / "best-median-worst.png", sheet(options.output, rows))
    print(f"written to {options.output}")


if __name__ == "__main__":
    sys.exit(run_cli(main))
