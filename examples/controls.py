"""One edit without and with controls and a mask, side by side. See docs/controls.md.

Nothing is tuned here, to be quick: frames are edited one by one then, as mixers start as the identity.
"""

from pathlib import Path

import numpy as np

from vrwkv_jax import Editor, built_in
from vrwkv_jax.config import ControlConfig, Sampling
from vrwkv_jax.editing.controls.blend import mask_in_latents
from vrwkv_jax.media.pictures import side_by_side
from vrwkv_jax.media.video import write_video

MODEL: str | Path = built_in.MODEL
FRAMES, SIZE, INFERENCE_STEPS = 4, 64, 5  # 8, 512, 50 for Stable Diffusion 1.5
SAMPLING = Sampling(guidance_scale=3.0)  # 7.5
EDIT_PROMPT = built_in.EDIT_PROMPTS[0]
CONTROLS = ControlConfig(
    cross_attention=0.6,  # words of both prompts keep their attention maps for 60 % of the steps,
    replace_words=True,  # and new words take over those of the words whose place they take
    features=0.6,  # residual blocks give the source's features
    feature_layers=("up_blocks/0",),  # the default is for Stable Diffusion
)
OUTPUT = Path("runs/example-controls")


def main() -> None:
    clip = built_in.clip(FRAMES, SIZE, SIZE)
    editor = Editor.from_pretrained(MODEL)
    inversion = editor.invert(clip, built_in.PROMPT, num_inference_steps=INFERENCE_STEPS)
    places = np.zeros((FRAMES, SIZE, SIZE), bool)  # of a file: read_mask("mask.png", ...).places, of media/mask.py
    places[:, :, : SIZE // 2] = True  # the left half may change
    mask = mask_in_latents(places, *editor.latent_size(SIZE, SIZE))
    clips = {"source": clip}
    for name, controls, where in (
        ("neither", ControlConfig(), None),
        ("controls", CONTROLS, None),
        ("controls and mask", CONTROLS, mask),
    ):
        edit = editor.edit(inversion, EDIT_PROMPT, sampling=SAMPLING, controls=controls, mask=where)
        clips[name] = edit.frames
    OUTPUT.mkdir(parents=True, exist_ok=True)
    write_video(OUTPUT / "side_by_side.mp4", side_by_side(clips), fps=built_in.FPS)
    print(f"wrote {OUTPUT / 'side_by_side.mp4'}")


if __name__ == "__main__":
    main()
