"""``vrwkv mask RUN --words star --output star.mp4``: where words are in a run's clip, as a mask for ``--mask``."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
from tyro.conf import Positional, arg

from vrwkv_jax.commands.terminal import TERMINAL
from vrwkv_jax.config import messages_name_flags, parse_flags
from vrwkv_jax.config.flags import at_home
from vrwkv_jax.editing.word_mask import THRESHOLD, asked, chosen_tokens
from vrwkv_jax.media.files import check_place
from vrwkv_jax.media.overlay import overlay
from vrwkv_jax.media.reader import VideoReader
from vrwkv_jax.media.video import read_video, write_video
from vrwkv_jax.parallel.devices import check_devices
from vrwkv_jax.runs.run import FinishedRun, load_run
from vrwkv_jax.system.checks import between, check_fields, default_shown, distinct, text
from vrwkv_jax.system.compiled import keep_compiled_programs
from vrwkv_jax.system.errors import UserError, printable


@dataclass(frozen=True)
class MaskCommand:
    """Make a mask of where words are in the clip of a finished run, told from the model's attention to them.

    It serves as --mask of vrwkv edit and vrwkv tune. A clip beside it shows it over the source.
    """

    run: Annotated[Positional[str], arg(metavar="RUN")]
    """Directory of the run, made by vrwkv tune."""
    words: Annotated[tuple[str, ...], arg(metavar="WORD [WORD ...]")]
    """Words of the run's prompt: the mask is white where any of them is."""
    output: Annotated[str, arg(metavar="FILE")]
    """The mask to write, such as star.mp4. Beside it goes star_over_source.mp4."""
    threshold: float = THRESHOLD
    """Share of the strongest attention, above the median, from which on a place belongs to the words: less for more."""
    model: Annotated[str | None, arg(metavar="PATH", help_behavior_hint=default_shown)] = None
    """Where the run's model lies now. Not set: where it was."""

    def __post_init__(self) -> None:
        check_fields(self, run=text, words=_some, output=_mp4, threshold=between(0, 1))


def _some(value: object) -> str | None:
    return distinct(text)(value) if value else "names no word"


def _mp4(value: object) -> str | None:
    return text(value) or (None if str(value).lower().endswith(".mp4") else "is no name of an mp4: end it in .mp4")


@messages_name_flags()
def main(argv: Sequence[str] | None = None) -> None:
    """The whole command. The run is left as it is."""
    command = parse_flags(MaskCommand, sys.argv[1:] if argv is None else argv, prog="vrwkv mask")
    mask_file = Path(at_home(command.output, is_new=True))
    overlay_file = mask_file.with_name(f"{mask_file.stem}_over_source.mp4")
    run = load_run(at_home(command.run))
    if run.whole_inversion is None:
        raise UserError(f"the run in {run.directory} is of a long clip, for which no mask of words can be made")
    for path in (mask_file, overlay_file):
        if path.exists():
            raise UserError(f"--output: {path} is there already: name another file, or remove it")
    check_place(mask_file.parent, "--output")
    check_devices()
    keep_compiled_programs()
    _make(command, run, mask_file, overlay_file)
    print(f"\nwrote {printable(mask_file)}\n      {printable(overlay_file)}")


def _make(command: MaskCommand, run: FinishedRun, mask_file: Path, overlay_file: Path) -> None:
    clip, prompt = run.config.clip, run.config.prompt or ""
    film = VideoReader(run.directory.source, frames=clip.count, width=clip.width, height=clip.height)
    source = read_video(run.directory.source, frames=clip.count, width=clip.width, height=clip.height)
    config = replace(run.config, model=at_home(command.model) or run.config.model)
    TERMINAL.say(f"loading {printable(config.model or 'the small built-in model')}")
    editor = run.editor(config)
    chosen_tokens(editor.components.tokenizer, prompt, command.words)  # or an error, before the stage begins
    inversion = run.inversion
    with TERMINAL.stage("attention", asked(inversion)) as advance:
        mask = editor.word_mask(inversion, command.words, command.threshold, source_prompt=prompt, callback=advance)
    named = " ".join(map(repr, command.words))
    if not mask.any():
        raise UserError(f"attention to {printable(named)} is the same everywhere, which makes no mask: try other words")
    TERMINAL.say(f"{printable(named)}: {mask.mean():.1%} of the clip")
    timing = replace(film.timing(None), sound=None)
    mask_file.parent.mkdir(parents=True, exist_ok=True)
    white = np.repeat(255 * mask[..., None].astype(np.uint8), 3, axis=-1)
    write_video(overlay_file, overlay(source, mask), timing)
    write_video(mask_file, white, timing)
