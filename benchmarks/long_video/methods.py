"""What edits the films: each method as the settings of a long run."""

import re
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from vrwkv_jax import built_in
from vrwkv_jax.config import TuneConfig
from vrwkv_jax.editing.editor import Editor
from vrwkv_jax.editing.long.adaflow.way import AdaFlow
from vrwkv_jax.editing.long.streaming.modes import fixed_decay
from vrwkv_jax.evaluation.films import FilmKind, precision_and_recall, score_film
from vrwkv_jax.runs.checkpoints import checksums
from vrwkv_jax.runs.long.clip import FilmClip
from vrwkv_jax.runs.long.edits import edit_prompts, encode_long, invert_long, way_of
from vrwkv_jax.system.compiled import keep_compiled_programs
from vrwkv_jax.tuning.loop import tune
from vrwkv_jax.tuning.windows import Windows
from vrwkv_jax.world.film import Film, edit_film, random_film, random_montage
from vrwkv_jax.world.scene import BACKGROUNDS, COLOURS, SHAPES, stands_out

STREAMED = ("exact", "look_ahead", "forward", "reset", "causal")
KEYFRAMES = ("uniform", "adaflow", "blended")
METHODS = ("image", *KEYFRAMES, *STREAMED)
SIZE = 64
Edits = dict[FilmKind, Film]


def true_edits(film: Film, rng: np.random.Generator) -> Edits:
    """One of each kind, of backgrounds those of which there is one pattern."""
    scene = film.shots[0].scene
    thing = scene.things[0]
    colours = [c for c in COLOURS if c != thing.colour and stands_out(c, scene.background)]
    backgrounds = [b for b in BACKGROUNDS if b != scene.background and stands_out(thing.colour, b)]
    return {
        "colour": edit_film(film, colour=str(rng.choice(colours))),
        "shape": edit_film(film, shape=str(rng.choice([s for s in SHAPES if s != thing.shape]))),
        "background": edit_film(film, background=str(rng.choice(backgrounds))),
    }


def configured(method: str, config: TuneConfig) -> TuneConfig:
    """``config`` with what makes the method."""
    streamed = method in STREAMED
    mixer = "vrwkv" if streamed else "none"
    mixing = replace(config.video_model.vrwkv, causal=method == "causal")
    video = replace(config.video_model, mixer=mixer, vrwkv=mixing).settled()
    tuning = config.tuning if streamed else replace(config.tuning, steps=0)
    mode: Any = method if streamed else "reset"
    way: Any = "adaflow" if method in KEYFRAMES else "stream"
    long = replace(config.long_video, long=way, stream_mode=mode)
    selection: Any = "uniform" if method == "uniform" else "adaptive"
    adaflow = replace(config.adaflow, selection=selection, blend_frames=8 if method == "blended" else 0)
    if method == "uniform":  # as many keyframes as there are seconds
        adaflow = replace(adaflow, max_clip=25)
    return replace(
        config, video_model=fixed_decay(video, long.tuned_frames), tuning=tuning, long_video=long, adaflow=adaflow
    )


def measure(method: str, number: int, frames: int, shots: tuple[int, int], config: TuneConfig) -> dict[str, Any]:
    """One film by one method. The same number makes the same film."""
    keep_compiled_programs()
    rng = np.random.default_rng(number)
    film = random_film(rng, frames, shot_frames=shots)
    edits = true_edits(film, rng)
    with tempfile.TemporaryDirectory() as directory:
        return run_method(method, film, edits, config, Path(directory))


def keyframes(number: int, frames: int, shots: tuple[int, int], config: TuneConfig) -> dict[str, Any]:
    """How AdaFlow's clips lie to the cuts of a montage, whose shots have nothing to do with each other."""
    keep_compiled_programs()
    film = random_montage(np.random.default_rng(number), frames, shot_frames=shots)
    clip, config = FilmClip(film, SIZE, SIZE), configured("adaflow", config)
    editor = Editor.from_pretrained(built_in.MODEL, video=config.video_model, dtype=config.tuning.dtype)
    with tempfile.TemporaryDirectory() as directory:
        source = encode_long(editor, clip, config, Path(directory) / "source", "built-in")
        way = way_of(editor, len(clip), config, Path(directory))
        assert isinstance(way, AdaFlow)
        return cuts_found(way.starts(source), film)


def cuts_found(starts: list[int], film: Film) -> dict[str, Any]:
    precision, recall = precision_and_recall(starts, film.starts)
    return {"keyframes": len(starts), "cuts": len(film.starts) - 1, "precision": precision, "recall": recall}


def _peak_bytes() -> int:
    """Most memory that this process has had, of Linux."""
    found = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    return 1024 * int(found[1]) if found else 0


def run_method(method: str, film: Film, edits: Edits, config: TuneConfig, directory: Path) -> dict[str, Any]:
    """The scores of a method's edits of one film, by kind, and what it cost."""
    config = replace(
        configured(method, config),
        prompt=film.caption,
        edit_prompts=tuple(target.caption for target in edits.values()),
    )
    clip, seconds = FilmClip(film, SIZE, SIZE), dict[str, float]()
    editor = Editor.from_pretrained(
        built_in.MODEL, video=config.video_model, dtype=config.tuning.dtype, seed=config.seed
    )

    def timed(stage: str, run: Callable[[], Any]) -> Any:
        started = time.perf_counter()
        result = run()
        seconds[stage] = (time.perf_counter() - started) / len(clip)
        return result

    source = timed("encoding", lambda: encode_long(editor, clip, config, directory / "source", "built-in"))
    if config.tuning.steps:
        latents = np.load(directory / "source" / "latents-0000.npy", mmap_mode="r")
        windows = Windows(latents, min(config.long_video.tuned_frames, len(clip)), SIZE, SIZE)
        run = tune(editor, windows, film.caption, config)
        editor = editor.with_unet_params(run.params)
        config = run.config
        seconds["tuning, in all"] = sum(float(entry["seconds"]) for entry in run.log)
    of = checksums({path: editor.unet.params[path] for path in sorted(editor.unet.params)[:1]}) | {"method": method}
    way = way_of(editor, len(clip), config, directory)
    trajectory = timed("inversion", lambda: invert_long(way, source, config, directory / "trajectory", of))
    decoded = timed("edits", lambda: edit_prompts(editor, way, trajectory, config, directory, of))
    seconds["edits"] /= len(edits)
    chunk, scores = config.long_video.chunk_frames, {}
    for kind, target in edits.items():
        decode = lru_cache(maxsize=1)(decoded[target.caption])

        def read(start: int, stop: int, decode: Callable[[int], np.ndarray] = decode) -> np.ndarray:
            numbers = range(start // chunk, -(-stop // chunk))
            whole = np.concatenate([decode(number) for number in numbers])
            return whole[start - numbers.start * chunk :][: stop - start]

        joins = range(chunk, len(clip), chunk)
        scores[kind] = asdict(score_film(read, film, target, kind, size=SIZE, joins=joins))
    row: dict[str, Any] = {
        "scores": scores,
        "seconds_per_frame": seconds,
        "peak_bytes": _peak_bytes(),
    }
    if isinstance(way, AdaFlow):
        row |= cuts_found(way.starts(trajectory), film)
    return row
