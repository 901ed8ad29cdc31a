"""The whole way as a library: a clip, a model, tuning, inversion, an edit, files.

Runs as it is, with the small model and the clip that come with the package: too few steps for a good edit, enough to
see every part at work. For a clip of yours set the constants as the comments say.
"""

from dataclasses import replace
from pathlib import Path

from vrwkv_jax import Editor, built_in, tune
from vrwkv_jax.config import Sampling
from vrwkv_jax.config.schema import SMALL
from vrwkv_jax.media.pictures import contact_sheet, save_png
from vrwkv_jax.media.video import read_video, write_video

MODEL: str | Path = built_in.MODEL  # "stable-diffusion-v1-5/stable-diffusion-v1-5"
VIDEO: str | None = None  # "jeep.mp4"
PROMPT = built_in.PROMPT  # "a jeep turns on a road"
EDIT_PROMPT = built_in.EDIT_PROMPTS[0]  # "a red sports car turns on a road"
FRAMES, STRIDE, SIZE, FPS = 4, 1, 64, 8  # 8, 2, 512, 12
CONFIG = replace(SMALL, tuning=replace(SMALL.tuning, steps=10))  # TuneConfig()
CONTROLS = SMALL.controls  # TuneConfig().controls
INFERENCE_STEPS, GUIDANCE = 5, 3.0  # 50, 7.5
OUTPUT = Path("runs/example-clip")


def main() -> None:
    if VIDEO is None:
        clip = built_in.clip(FRAMES, SIZE, SIZE)
    else:
        clip = read_video(VIDEO, frames=FRAMES, stride=STRIDE, width=SIZE, height=SIZE)
    editor = Editor.from_pretrained(MODEL)
    run = tune(editor, clip, PROMPT, CONFIG, callback=lambda step, loss, **_: print(f"step {step}: loss {loss:.4f}"))
    editor = editor.with_unet_params(run.params)
    inversion = editor.invert(clip, PROMPT, num_inference_steps=INFERENCE_STEPS)
    edit = editor.edit(inversion, EDIT_PROMPT, sampling=Sampling(guidance_scale=GUIDANCE), controls=CONTROLS)
    OUTPUT.mkdir(parents=True, exist_ok=True)
    write_video(OUTPUT / "edited.mp4", edit.frames, fps=FPS)
    save_png(OUTPUT / "contact_sheet.png", contact_sheet({PROMPT: clip, EDIT_PROMPT: edit.frames}))
    print(f"wrote {OUTPUT / 'edited.mp4'} and {OUTPUT / 'contact_sheet.png'}")


if __name__ == "__main__":
    main()
