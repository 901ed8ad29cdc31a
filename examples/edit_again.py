"""A finished run, edited again from Python: no tuning, no inversion, and a callback that shows how far it is.

A run is what `vrwkv tune` leaves in its directory. Where RUN is not there yet, a small one is made first.
"""

from pathlib import Path

from vrwkv_jax import load_run
from vrwkv_jax.commands.tune import main as tune
from vrwkv_jax.editing.loop import Callback
from vrwkv_jax.media.video import video_fps, write_video
from vrwkv_jax.typing import Array

RUN = Path("runs/example-run")  # "runs/jeep"
SMALL_RUN = ["--frames", "4", "--steps", "10", "--num-inference-steps", "5"]  # flags of `vrwkv tune`
PROMPT = "a green star moving in a circle in front of a sunset"  # "a jeep turns on a road, watercolour"


def progress(total: int) -> Callback:
    """Shows every step of ``total``. A callback that returns False ends the edit there, still noisy."""

    def show(step: int, timestep: int, latents: Array) -> None:
        print(f"step {step + 1} of {total}, noise level {timestep}, spread of the latents {latents.std():.2f}")

    return show


def main() -> None:
    if not RUN.exists():
        tune([*SMALL_RUN, "--output", str(RUN)])
    run = load_run(RUN)
    editing, inversion = run.config.editing, run.inversion
    edit = run.editor().edit(
        inversion,
        PROMPT,
        source_prompt=run.config.prompt,
        sampling=editing,
        controls=run.config.controls,
        callback=progress(inversion.num_inference_steps),
    )
    path = RUN.with_name(f"{RUN.name}-again.mp4")
    write_video(path, edit.frames, fps=video_fps(RUN / "source.mp4"))
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
