"""What follows tuning: inversion, edits, files to look at, metrics."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np

from vrwkv_jax.editing.editor import Editor
from vrwkv_jax.evaluation.psnr import psnr
from vrwkv_jax.media.files import replacing
from vrwkv_jax.media.pictures import loss_curve
from vrwkv_jax.media.video import write_video
from vrwkv_jax.media.writer import Timing
from vrwkv_jax.models import params as P
from vrwkv_jax.parallel.hosts import on_first
from vrwkv_jax.runs import own
from vrwkv_jax.runs.checkpoints import checksums
from vrwkv_jax.runs.directory import CLIPS, RunDirectory
from vrwkv_jax.runs.kept import Kept
from vrwkv_jax.runs.results import Clip, invert_and_reconstruct, make_edits, write_results
from vrwkv_jax.runs.row_calls import RowCalls
from vrwkv_jax.runs.run import save_inversion
from vrwkv_jax.system.about import about
from vrwkv_jax.system.reporter import SILENT, Reporter
from vrwkv_jax.tuning.run import Run


def finish(
    run: Run,
    editor: Editor,
    clip: Clip,
    timing: Timing,
    directory: RunDirectory,
    seconds: dict[str, float],
    origin: dict[str, Any],
    reporter: Reporter = SILENT,
) -> None:
    """Inverts and edits ``clip`` with the tuned ``editor``, and fills ``directory``.

    ``seconds`` holds the time of the stages so far and gains that of the others; ``origin`` is the run's provenance.
    Resumes what was interrupted, and leaves a run that is finished but for tidying up.
    """
    config = run.config
    alone = jax.process_count() == 1  # several would have to agree on what is kept
    kept = Kept(directory.results, checksums(run.params)) if alone else None
    row_calls = RowCalls()
    with timed(seconds, "inversion and reconstruction"):
        source = editor.encode(clip)
        inversion, reconstruction = invert_and_reconstruct(editor, source, config, kept, reporter, row_calls)
    with timed(seconds, "edits"):
        edits = make_edits(editor, inversion, config, kept, reporter, row_calls)

    def write() -> None:
        save_inversion(directory, inversion)
        write_video(directory.source, clip, timing)
        write_video(directory.reconstruction, reconstruction, timing)
        own.remove(directory.edits.path, CLIPS)  # of other prompts, before an interruption
        results = directory.edits_in(config.editing.format)
        results.path.mkdir(exist_ok=True)
        write_results(results, clip, reconstruction, edits, timing, config.editing.crf)
        if run.log:
            loss_curve(directory.loss_curve, [entry["loss"] for entry in run.log])

    with timed(seconds, "writing"):
        on_first(write)
    metrics = {
        "reconstruction_psnr_db": psnr(reconstruction, clip),
        "autoencoder_psnr_db": psnr(editor.decode(source), clip),
        "tuned_parameters": P.count(run.params),
        "all_parameters": P.count(editor.unet.params),
        "bi_wkv": origin["bi_wkv"],
        "dtype": config.tuning.dtype,
        "remat": config.tuning.remat,
        "seconds": {stage: round(value, 2) for stage, value in seconds.items()},
        "row_calls": dict(row_calls),
        "seconds_per_step": _seconds_per_step(run),
        "provenance": origin,
        **about(),
    }

    def end() -> None:
        with replacing(directory.metrics) as part:
            part.write_text(json.dumps(metrics, indent=2) + "\n")

    on_first(end)


@contextmanager
def timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    seconds[stage] = seconds.get(stage, 0.0) + time.perf_counter() - started


def _seconds_per_step(run: Run) -> float | None:
    """The median, without the first step, which had to be compiled."""
    seconds = [entry["seconds"] for entry in run.log[1:] or run.log]
    return float(np.median(seconds)) if seconds else None
