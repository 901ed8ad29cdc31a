"""The pictures of docs/controls.md: of a run of the first command, the source, an edit without and with each control.

    python -m train.tune --output runs/first
    python -m benchmarks.control_pictures runs/first --output docs/controls

The edits are those of ``python -m vrwkv_jax.edit`` with the flags below. One that stands beside another control or
sampler differs from it in these flags alone; ``balanced``, the default preset, is in all of them.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from vrwkv_jax import Editor, built_in, load_run
from vrwkv_jax.commands.cli import run_cli
from vrwkv_jax.config import TuneConfig, parse_edit_command
from vrwkv_jax.editing.edit import Edit
from vrwkv_jax.editing.inversion import Inversion
from vrwkv_jax.media.files import replacing
from vrwkv_jax.media.pictures import save_png
from vrwkv_jax.runs.results import in_pixels, make_edits, of_inversion
from vrwkv_jax.runs.run import FinishedRun
from vrwkv_jax.system.compiled import keep_compiled_programs
from vrwkv_jax.typing import UInt8

HEART = "a blue heart moving in a circle in front of a sunset"
NIGHT = "a yellow star moving in a circle at night"
WATERCOLOUR = "a yellow star moving in a circle in front of a sunset, watercolour"
OFF = "--cross-attention 0 --no-replace-words --features 0"
MASK = "left-half.png"
GAP = 4  # pixels


class Shown(NamedTuple):
    """An edit with some flags, beside one with others."""

    prompt: str
    flags: str
    beside: str = OFF


PICTURES = {
    "default": Shown(HEART, ""),
    "self-attention": Shown(HEART, f"{OFF} --self-attention 0.6"),
    "features": Shown(HEART, f"{OFF} --features 0.6"),
    "cross-attention": Shown(HEART, f"{OFF} --cross-attention 0.6"),
    "replace-words": Shown(HEART, f"{OFF} --cross-attention 0.6 --replace-words"),
    "reweight": Shown(WATERCOLOUR, "--reweight watercolour=-1", ""),
    "mixers": Shown(HEART, f"{OFF} --mixer-keys 0.6"),
    "blend": Shown(HEART, f"{OFF} --blend star heart"),
    "mask": Shown(NIGHT, f"--mask {MASK}", ""),
    "guidance-from-source": Shown(NIGHT, "--guidance-from source", ""),
    "null-text": Shown(HEART, "--guidance-from null_text", ""),
    "guidance-rescale": Shown(HEART, "--guidance-scale 7 --guidance-rescale 0.7", "--guidance-scale 7"),
    "strength": Shown(HEART, "--strength 0.7", ""),
    "dpm": Shown(HEART, "--sampler dpm++", ""),
}


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="a run of python -m train.tune without a video or a model")
    parser.add_argument("--output", type=Path, default=Path("docs/controls"))
    parser.add_argument("--only", nargs="+", choices=PICTURES, default=list(PICTURES))
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    arguments = parse(argv)
    keep_compiled_programs()
    run = load_run(arguments.run)
    editor = run.editor()
    size = run.config.clip
    clip = built_in.clip(size.count, size.width, size.height)
    arguments.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as directory:
        mask = Path(directory) / MASK
        white = np.zeros((*clip.shape[1:3], 3), np.uint8)
        white[:, : white.shape[1] // 2] = 255
        save_png(mask, white)
        edited = _edits(run, editor, clip, mask)
        for name in arguments.only:
            picture = PICTURES[name]
            edit = edited(picture.prompt, picture.flags)
            panels = [clip, edited(picture.prompt, picture.beside).frames, edit.frames]
            if edit.mask is not None:
                panels.append(np.where(in_pixels(edit.mask, clip), clip, clip // 4))
            save(arguments.output / f"{name}.webp", panels)
            print(f"{name}: {picture.flags or 'the default'}", flush=True)


def _edits(run: FinishedRun, editor: Editor, clip: np.ndarray, mask: Path) -> Callable[[str, str], Edit]:
    """The edit under a prompt and with flags, each made once."""

    @cache
    def inverted(arguments: tuple[tuple[str, object], ...]) -> Inversion:
        return editor.invert(clip, **dict(arguments))

    @cache
    def edit(prompt: str, flags: str) -> Edit:
        given = [str(mask) if flag == MASK else flag for flag in flags.split()]
        command = parse_edit_command([str(run.directory), "--prompt", prompt, *given], lambda directory: run.config)
        config: TuneConfig = command.applied_to(run.config)
        return make_edits(editor, inverted(tuple(of_inversion(config).items())), config)[prompt]

    return edit


def save(path: Path, panels: Sequence[UInt8[np.ndarray, "F H W 3"]]) -> None:
    """The clips side by side as an animation."""
    gap = np.full((*panels[0].shape[:2], GAP, 3), 255, np.uint8)
    joined = np.concatenate([part for panel in panels for part in (gap, panel)][1:], axis=2)
    first, *rest = (Image.fromarray(frame) for frame in joined)
    with replacing(path) as part:
        first.save(part, format="WEBP", save_all=True, append_images=rest, duration=125, loop=0, quality=90, method=6)


if __name__ == "__main__":
    sys.exit(run_cli(main))
