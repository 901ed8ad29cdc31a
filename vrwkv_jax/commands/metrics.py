"""``vrwkv metrics RUN`` or ``SOURCE EDIT``, or ``python -m vrwkv_jax.metrics``: edited clips against their source."""

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional, arg

from vrwkv_jax.checkpoint.vision_files import load_aesthetic, load_clip, load_dino
from vrwkv_jax.commands.terminal import TERMINAL
from vrwkv_jax.config import messages_name_flags, parse_flags
from vrwkv_jax.config.flags import at_home
from vrwkv_jax.evaluation.figures import TITLES, Figure
from vrwkv_jax.evaluation.measure import EditedClip, MaskFile, Measured, Models, measure
from vrwkv_jax.media.files import replacing
from vrwkv_jax.parallel.devices import check_devices
from vrwkv_jax.runs.directory import RunDirectory
from vrwkv_jax.runs.edited_clips import clips_of_run
from vrwkv_jax.system.about import about
from vrwkv_jax.system.checks import default_shown
from vrwkv_jax.system.compiled import keep_compiled_programs
from vrwkv_jax.system.errors import UserError, printable

Text = Annotated[str | None, arg(metavar="TEXT", help_behavior_hint=default_shown)]
File = Annotated[str | None, arg(metavar="PATH", help_behavior_hint=default_shown)]
Weights = Annotated[str | None, arg(metavar="PATH|ID", help_behavior_hint=default_shown)]


@dataclass(frozen=True)
class Measurement:
    """Measure an edited clip against its source, frame by frame. docs/metrics.md says what each figure hides."""

    source: Annotated[str, Positional, arg(metavar="RUN|SOURCE")]
    """The directory of a finished run, all of whose edits are measured; or the source, a clip."""
    edit: Annotated[str | None, Positional, arg(metavar="EDIT", help_behavior_hint=default_shown)] = None
    """The edited clip, of the same size and as many frames."""
    prompt: Text = None
    """What the edited clip should show. A run knows those of its own edits."""
    source_prompt: Text = None
    """What the source shows, for directional similarity. A run knows it."""
    keep: File = None
    """A mask, picture or clip: what it chooses, such as white, should not change. A run's edits may bring their own."""
    clip: Weights = None
    """CLIP in the layout of transformers, such as openai/clip-vit-large-patch14: its directory, or its hub id."""
    dino: Weights = None
    """DINO in the layout of transformers, such as facebook/dino-vits16: its directory, or its hub id."""
    aesthetic: File = None
    """LAION's aesthetic predictor for the features of --clip: sa_0_4_vit_l_14_linear.pth, or
    sac+logos+ava1-l14-linearMSE.pth."""
    json: File = None
    """File to write the figures to. Not set: clip_metrics.json in the run; none for two clips."""


@messages_name_flags()
def main(argv: Sequence[str] | None = None) -> None:
    """The whole command."""
    flags = parse_flags(Measurement, sys.argv[1:] if argv is None else argv, prog="python -m vrwkv_jax.metrics")
    paths = {name: at_home(getattr(flags, name)) for name in ("source", "edit", "keep", "aesthetic")}
    flags = replace(flags, **paths, json=at_home(flags.json, is_new=True))
    source, source_prompt, edits = _clips(flags)
    target = flags.json
    if target is None and os.path.isdir(flags.source) and flags.edit is None:
        target = str(RunDirectory(Path(flags.source)).clip_metrics)
    if target is not None and not os.path.isdir(Path(target).parent):
        raise UserError(f"--json {target} can't be written: there is no folder {Path(target).parent}: create it")
    check_devices()
    keep_compiled_programs()
    models = _models(flags)
    measured = measure(source, edits, source_prompt=source_prompt, models=models, reporter=TERMINAL)
    print("\n".join(map(printable, _table(source, edits, measured))))
    if target is not None:
        with replacing(target) as part:
            part.write_text(json.dumps(_written(flags, source, source_prompt, edits, measured), indent=2) + "\n")
        print(f"\nwrote {printable(target)}")


def _clips(flags: Measurement) -> tuple[Path, str | None, list[EditedClip]]:
    """The source, what it shows, and the edits to measure."""
    mask = None if flags.keep is None else MaskFile(Path(flags.keep), chooses_what_is_kept=True)
    is_run = os.path.isdir(flags.source)
    run = clips_of_run(RunDirectory(Path(flags.source))) if is_run else None
    source = Path(flags.source) if run is None else run.source
    source_prompt = flags.source_prompt if run is None else flags.source_prompt or run.prompt
    if flags.edit is not None:
        return source, source_prompt, [EditedClip(Path(flags.edit), flags.prompt, mask)]
    if run is None:
        raise UserError(
            f"EDIT is missing: give the edited clip behind its source {flags.source}, or the directory of a run alone"
        )
    if flags.prompt is not None:
        raise UserError(f"--prompt is known of the edits of {flags.source}: leave it out, or name one edited clip, too")
    if not run.edits:
        raise UserError(f"the run in {flags.source} has no edits: name an edited clip behind it")
    return source, source_prompt, [edit if mask is None else replace(edit, mask=mask) for edit in run.edits]


def _models(flags: Measurement) -> Models:
    for name, model in (("CLIP", flags.clip), ("DINO", flags.dino)):
        if model is not None:
            TERMINAL.say(f"loading {name} from {printable(model)}")
    return Models(
        None if flags.clip is None else load_clip(flags.clip),
        None if flags.dino is None else load_dino(flags.dino),
        None if flags.aesthetic is None else load_aesthetic(flags.aesthetic),
    )


def _table(source: Path, edits: Sequence[EditedClip], measured: Measured) -> list[str]:
    cuts = measured.cuts
    lines = [f"source {source}: {measured.frames} frames of {measured.width}x{measured.height}, {_cuts(cuts)}"]
    width = max(map(len, TITLES.values()))
    for edit, report in zip(edits, measured.reports, strict=True):
        lines += ["", f"edit {edit.path}" + (f": {edit.prompt}" if edit.prompt else "")]
        lines.append(f"{'':{width}} {'edit':>9} {'source':>9} {'difference':>10}")
        lines += [f"{TITLES[name]:{width}} {_numbers(figure)}" for name, figure in report.figures.items()]
        lines += [f"{TITLES[name]}: skipped, {why}" for name, why in report.skipped.items()]
    return lines


def _numbers(figure: Figure) -> str:
    if figure.source is None:
        return f"{figure.edit:9.4f}"
    return f"{figure.edit:9.4f} {figure.source:9.4f} {figure.edit - figure.source:+10.4f}"


def _cuts(cuts: Sequence[int] | None) -> str:
    if cuts is None:
        return "cuts not looked for"
    shown = ", ".join(map(str, cuts[:10])) + (", ..." if len(cuts) > 10 else "")
    return f"{len(cuts)} cut{'s' * (len(cuts) > 1)}, before frame {shown}" if cuts else "no cuts"


def _written(
    flags: Measurement, source: Path, source_prompt: str | None, edits: Sequence[EditedClip], measured: Measured
) -> dict[str, Any]:
    found = about()
    versions = {package: _version(package) for package in ("opencv-python-headless", "av", "numpy", "pillow")}
    return {
        "source": str(source),
        "source_prompt": source_prompt,
        "frames": measured.frames,
        "width": measured.width,
        "height": measured.height,
        "cuts": measured.cuts,
        "weights": {"clip": flags.clip, "dino": flags.dino, "aesthetic": flags.aesthetic},
        "edits": [
            {
                "edit": str(edit.path),
                "prompt": edit.prompt,
                "mask": None if edit.mask is None else str(edit.mask.path),
                "figures": {name: _values(figure) for name, figure in report.figures.items()},
                "skipped": report.skipped,
            }
            for edit, report in zip(edits, measured.reports, strict=True)
        ],
        **found,
        "versions": found["versions"] | versions,
    }


def _values(figure: Figure) -> dict[str, float]:
    values = {name: value for name, value in asdict(figure).items() if value is not None}
    return values if figure.source is None else values | {"difference": figure.edit - figure.source}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
