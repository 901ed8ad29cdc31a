"""Tuning in a run's directory, with checkpoints, a log, and samples on the way."""

from dataclasses import asdict, replace
from typing import Any

import jax

from vrwkv_jax.config import TuneConfig
from vrwkv_jax.editing.editor import Editor
from vrwkv_jax.media.pictures import contact_sheet, save_png
from vrwkv_jax.media.video import write_video
from vrwkv_jax.media.writer import Timing
from vrwkv_jax.parallel.hosts import largest, on_first
from vrwkv_jax.parallel.placement import place
from vrwkv_jax.runs.directory import RunDirectory
from vrwkv_jax.runs.log import RunLog, run_log
from vrwkv_jax.runs.results import Clip, check_edits, edit_once, negative_prompts, of_inversion
from vrwkv_jax.system.interruption import Postponed, postponed
from vrwkv_jax.system.reporter import SILENT, Reporter
from vrwkv_jax.tuning.loop import tune
from vrwkv_jax.tuning.run import Run
from vrwkv_jax.tuning.state import TuningState, for_edits, initial_state
from vrwkv_jax.tuning.windows import Windows

DATA = "one clip, of which every step sees all frames"  # so there is no position in it to go back to


def tune_with_checkpoints(
    editor: Editor,
    clip: Clip | Windows,
    timing: Timing,
    config: TuneConfig,
    working: RunDirectory,
    origin: dict[str, Any],
    resume: bool,
    reporter: Reporter = SILENT,
) -> Run:
    """``tune`` with checkpoints and a log in ``working``; with ``resume`` from the newest checkpoint there.

    ``origin`` is the run's provenance. Ctrl-C and SIGTERM wait for the end of the step, whose state is saved.

    Raises:
        UserError: as ``tune``, or every checkpoint is damaged.
        WriteError: a checkpoint can't be written.
    """
    checkpoints = working.checkpoints
    about = {"seed": config.seed, "data": DATA, "config": asdict(config), "provenance": origin}
    steps = config.tuning.steps
    start = None
    if resume:
        like = jax.eval_shape(lambda: initial_state(editor.unet.params, config.tuning, editor.video.mixer))
        start = checkpoints.newest(like)
    done = 0 if start is None else start.step
    if start is not None:  # placed here, where nothing else holds what was read
        start = TuningState(done, *place((start.tuned, start.optimizer), editor.mesh))
    if resume:
        reporter.say(f"resuming after step {done} of {steps}")
    samples = Samples(editor, clip, timing, config, working, reporter)

    with (
        postponed("finishing this step, to save it") as interruption,
        run_log(working, config.tuning, done) as log,
        reporter.stage("tuning", steps, done) as advance,
    ):

        def after_step(**figures: float) -> None:
            log.add(**figures)
            advance(loss=figures["loss"], grad_norm=figures["grad_norm"])

        def keep(state: TuningState) -> None:
            due = state.step == steps or state.step % config.checkpoint_every == 0 or samples.due(state.step)
            _agree(interruption)
            if due or interruption.signal is not None:
                checkpoints.save(state, about)
            interruption.end()
            if samples.due(state.step):
                samples.make(state, log, interruption)

        if start is not None and samples.due(done) and not on_first(working.sample(done, ".png").exists):
            samples.make(start, log, interruption)
        prompt, say = config.prompt or "", reporter.say
        run = tune(editor, clip, prompt, config, start=start, callback=after_step, keep=keep, say=say)
        return replace(run, log=log.entries)


def _agree(interruption: Postponed) -> None:
    """An interruption of one process interrupts all of them."""
    came = largest(interruption.signal or 0)
    if came:  # or one that came since would be lost
        interruption.signal = came


class Samples:
    """What the model makes while it is tuned: the first edit, or, without edits, the clip under its own prompt."""

    def __init__(
        self,
        editor: Editor,
        clip: Clip | Windows,
        timing: Timing,
        config: TuneConfig,
        working: RunDirectory,
        reporter: Reporter = SILENT,
    ):
        self._editor, self._clip, self._timing, self._config = editor, clip, timing, config
        self._working, self._reporter = working, reporter

    def due(self, step: int) -> bool:
        """Whether to make one after ``step``. After the last step come the edits instead."""
        every = self._config.sample_every
        return every > 0 and step % every == 0 and 0 < step < self._config.tuning.steps

    def make(self, state: TuningState, log: RunLog, interruption: Postponed) -> None:
        """Writes an mp4 and a contact sheet, and shows that in the log. An interruption ends it at once."""
        config = self._config
        editor = self._editor.with_unet_params(for_edits(state.tuned, config.tuning))
        prompt = (*config.edit_prompts, config.prompt or "")[0]
        settings = of_inversion(config)
        assert not isinstance(self._clip, Windows), "which no samples are made of"
        with self._reporter.stage(f"sample {state.step}", 2 * settings["num_inference_steps"]) as advance:

            def after_step(*_: object) -> None:
                advance()
                _agree(interruption)
                interruption.end()

            inversion = editor.invert(self._clip, **settings, callback=after_step)
            negative, mask = negative_prompts(editor, inversion, config), check_edits(editor, config)
            edit = edit_once(editor, inversion, prompt, negative, config, mask, after_step)
        sheet = contact_sheet({"source": self._clip, f"after step {state.step}: {prompt}": edit.frames})

        def write() -> None:
            self._working.samples.mkdir(exist_ok=True)
            write_video(self._working.sample(state.step, ".mp4"), edit.frames, self._timing)
            save_png(self._working.sample(state.step, ".png"), sheet)
            log.picture("sample", sheet, state.step)

        on_first(write)
