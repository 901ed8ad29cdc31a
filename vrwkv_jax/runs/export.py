"""A tuned run as a checkpoint: the image model in the diffusers layout, and the mixers beside it."""

import json
import os
from dataclasses import asdict
from pathlib import Path

from vrwkv_jax.checkpoint import mixers
from vrwkv_jax.checkpoint.conversion import write_models
from vrwkv_jax.checkpoint.target import CARD, check_apart, new_checkpoint
from vrwkv_jax.models.parameter_rules import ADDED
from vrwkv_jax.runs.directory import RunDirectory
from vrwkv_jax.runs.run import FinishedRun, load_run
from vrwkv_jax.system.reporter import SILENT, Reporter


def is_run(path: str | Path) -> bool:
    """Whether ``path`` is the directory of a run, finished or not."""
    return RunDirectory(Path(os.path.expanduser(path))).config.is_file()


def export(
    directory: str | Path, destination: str | Path, *, overwrite: bool = False, reporter: Reporter = SILENT
) -> str:
    """Writes the model of the finished run in ``directory`` to the new directory ``destination``.

    What was tuned of the image model is in its U-Net, which diffusers loads; what was not is bit for bit what it was.
    The mixers are in ``mixers/``. ``Editor.from_pretrained(destination)`` is the tuned model again. Returns one line
    that says what was written.

    Raises:
        UserError: there is no finished run, or its model is gone, or ``destination`` exists or can't be written.
    """
    run = load_run(Path(os.path.expanduser(directory)))
    destination = Path(os.path.expanduser(destination))
    with new_checkpoint(destination, overwrite=overwrite) as part:
        source = run.source()
        check_apart(destination, [run.directory.path, *source.inputs()])
        tuned_image = {path: leaf for path, leaf in run.params.items() if not ADDED.search(path)}
        write_models(source, source.describe(), part, tuned=tuned_image, reporter=reporter)
        added = {path: leaf for path, leaf in run.params.items() if ADDED.search(path)}
        if added:
            mixers.save(part, run.config.video_model, added)
        (part / CARD).write_text(_card(run), encoding="utf-8")
    what = f"{len(added)} tensors of mixers and {len(tuned_image)} tuned ones of the image model"
    return f"wrote {destination}: {what}"


def _card(run: FinishedRun) -> str:
    """The text of README.md."""
    config, origin = run.config, run.metrics.get("provenance", {})
    weights = "\n".join(f"| `{name}` | `{sha256}` |" for name, sha256 in origin.get("weights_sha256", {}).items())
    settings = json.dumps({"video_model": asdict(config.video_model), "tuning": asdict(config.tuning)}, indent=2)
    base = "the small model of rendered shapes that vrwkv-jax ships"
    if config.model is not None:  # of a path the name alone: who reads this does not have it, nor need to know it
        base = f"`{Path(config.model).name if os.path.exists(config.model) else config.model}`"
    return f"""\
# A video model tuned on one clip

Made by [vrwkv-jax](https://pypi.org/project/vrwkv-jax/) on {origin.get("date", "an unknown date")} from {base}.

- What the clip shows: {config.prompt}
- The clip: {config.clip.frames} frames of {config.clip.width} x {config.clip.height}, SHA-256 of its pixels
  `{origin.get("clip_sha256", "unknown")}`
- Mixer: `{config.video_model.mixer}`; tuned for {config.tuning.steps} steps

`Editor.from_pretrained` of vrwkv-jax loads this directory with its mixers, and diffusers' `StableDiffusionPipeline`
loads it without them, as an image model. It was tuned on the one clip: what else it shows is the base model's.

## Weights of the base model

| File | SHA-256 |
|---|---|
{weights}

## Settings

```json
{settings}
```

## Licence

These weights are derived from those of the base model, and its licence holds for them; that of Stable Diffusion 1.x and
2.x (CreativeML Open RAIL-M, Open RAIL++-M) asks you to pass on its restrictions of use. The clip may have rights of its
own.
"""
