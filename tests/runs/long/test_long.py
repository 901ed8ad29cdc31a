"""Long runs of a tiny model: both ways from the clip to the edits, interrupted or not, and edits of them later on."""

import json
from contextlib import nullcontext
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from tests.runs.runs import TINY, figures, interrupted_at
from tests.small import made_once
from vrwkv_jax import built_in, edit_long, load_run
from vrwkv_jax.commands import edit, tune
from vrwkv_jax.editing.long.store import LatentStore
from vrwkv_jax.media.video import read_video, write_video
from vrwkv_jax.runs.long.clip import built_in_clip
from vrwkv_jax.system.compiling import is_rehearsal
from vrwkv_jax.system.errors import UserError
from vrwkv_jax.system.operations import count_operations
from vrwkv_jax.system.reporter import Silent

FRAMES, PROMPT = 7, "a blue disc"
LONG = [*TINY[2:], "--num-inference-steps", "2", "--chunk-frames", "3", "--edit-prompt", PROMPT]
STREAM = [*LONG, "--long", "stream", "--tuned-frames", "3", "--steps", "2", "--sampler", "ddim"]
ADAFLOW = [*LONG, "--long", "adaflow", "--sampler", "ddim", "--max-clip", "2"]
WAYS = {"stream": STREAM, "adaflow": [word for word in ADAFLOW if word not in ("--placement", "mid")]}


@pytest.fixture(scope="module")
def source(tmp_path_factory, tiny_checkpoint) -> list[str]:
    path = tmp_path_factory.mktemp("videos") / "long.mp4"
    write_video(path, built_in.clip(FRAMES, 16, 16), fps=10)
    return ["--model", str(tiny_checkpoint), "--video", str(path)]


@pytest.fixture(scope="module", params=WAYS)
def run(request, tmp_path_factory, source) -> tuple[list[str], Path]:
    """The flags of a run that nothing has disturbed, and its directory."""
    flags = [*source, *WAYS[request.param]]

    def make(directory: Path) -> None:
        tune.main([*flags, "--output", str(directory)])

    return flags, made_once(tmp_path_factory, f"long-{request.param}", make)


def contents(run: Path) -> dict[Path, bytes]:
    """All that looks the same whenever it is made."""
    return {
        path.relative_to(run): path.read_bytes()
        for path in run.rglob("*")
        if path.suffix in (".mp4", ".png", ".npy") and "tuned" not in path.parts
    }


def frames(path: Path) -> np.ndarray:
    return read_video(path, frames="all", width=16, height=16)


def test_what_is_there(run):
    _, directory = run
    (clip,) = directory.glob("edits/edit-1-*.mp4")
    assert len(frames(clip)) == len(frames(directory / "source.mp4")) == FRAMES
    assert {path.name for path in (directory / "latents").iterdir()} == {"trajectory"}
    trajectory = [np.load(path) for path in sorted(directory.glob("latents/trajectory/*.npy"))]
    assert len(trajectory) == 3 and all(step.shape[0] == FRAMES for step in trajectory)
    assert not (directory / "unfinished").exists()
    finished = load_run(directory)
    with pytest.raises(UserError, match=r"is of a long clip, whose inversion lies in .*latents chunk by chunk"):
        finished.inversion  # noqa: B018


def test_one_process_alone(source, tmp_path, monkeypatch):
    monkeypatch.setattr("jax.distributed.is_initialized", lambda: True)
    monkeypatch.setattr("jax.process_count", lambda: 4)
    with pytest.raises(UserError, match="--long stream runs in one process, and this is one of 4: start it without"):
        tune.main([*source, *STREAM, "--output", str(tmp_path / "run")])


@pytest.mark.parametrize("writes", [2, 6, 9])
def test_interrupted_and_resumed(run, writes, tmp_path, monkeypatch):
    """In the encoding, in the inversion and in the edit: the same bytes as in one go."""
    flags, whole = run
    with monkeypatch.context() as patched:
        patched.setattr(LatentStore, "write", interrupted_at(LatentStore.write, writes))
        with pytest.raises(KeyboardInterrupt, match=r"resume it with|start again"):
            tune.main([*flags, "--output", str(tmp_path / "run")])
    tune.main(["--resume", "--output", str(tmp_path / "run")])
    assert contents(tmp_path / "run") == contents(whole)
    assert figures(tmp_path / "run") == figures(whole)


def test_edited_again(run, tmp_path):
    """Under the same words it is the same edit; a different inversion is made anew, and the run left alone."""
    _, directory = run
    before = contents(directory)
    edit.main([str(directory), "--prompt", PROMPT, "--output", str(tmp_path / "again")])
    (first,), (again,) = (path.glob("edit-1-*.mp4") for path in (directory / "edits", tmp_path / "again"))
    assert first.read_bytes() == again.read_bytes()
    options = ["--prompt", "a green disc", "--inversion-iterations", "1", "--num-inference-steps", "3"]
    edit.main([str(directory), *options, "--output", str(tmp_path / "other")])
    (other,) = (tmp_path / "other").glob("edit-1-*.mp4")
    assert len(frames(other)) == FRAMES
    options = ["--prompt", PROMPT, "--format", "webp"]
    edit.main([str(directory), *options, "--output", str(tmp_path / "webp")])
    assert {path.suffix for path in (tmp_path / "webp").iterdir() if path.name[0] != "."} == {".webp", ".png"}
    (lossless,) = (tmp_path / "webp").glob("edit-1-*.webp")
    write_video(tmp_path / "same.mp4", frames(lossless), 10)
    assert (tmp_path / "same.mp4").read_bytes() == first.read_bytes()
    assert not (tmp_path / "other" / "unfinished").exists()
    assert contents(directory) == before


ASKING = {
    "predict_chunk": "vrwkv_jax.editing.long.streaming.streamed",
    "states_before": "vrwkv_jax.editing.long.streaming.streamed",
    "frame_features": "vrwkv_jax.editing.long.adaflow.way",
    "inversion_step": "vrwkv_jax.editing.steps",
    "keyframe_pass": "vrwkv_jax.editing.long.adaflow.steps",
    "chunk_step": "vrwkv_jax.editing.long.adaflow.steps",
}
"""Programs that ask the U-Net, and from where they are called."""


def test_row_calls(run, tmp_path, monkeypatch):
    """Those of all stages are all frames, of any row, that the U-Net is asked for, over the frames of the clip."""
    flags, directory = run
    made = {name: [] for name in ASKING}
    for name, module in ASKING.items():
        monkeypatch.setattr(f"{module}.{name}", Noting(getattr(import_module(module), name), made[name]))
    tune.main([*flags, "--output", str(tmp_path / "run")])
    told = json.loads((tmp_path / "run" / "metrics.json").read_text())["row_calls"]
    asked = sum(map(frames_asked, [call for calls in made.values() for call in calls]))
    if made["states_before"]:
        of_chunk, of_sweep = (operations(made[name][0]) for name in ("predict_chunk", "states_before"))
        assert 0.2 < of_sweep / of_chunk < 0.95  # the decoder of so small a U-Net is small
        asked += len(made["states_before"]) * 3 * of_sweep / of_chunk
    assert sum(told.values()) == pytest.approx(asked / FRAMES, rel=1e-12)
    assert told["inversion"] > told["edits"] > 0
    assert json.loads((directory / "metrics.json").read_text())["row_calls"] == told


class Noting:
    """A program whose calls are written down, but for those of a rehearsal."""

    def __init__(self, program, made):
        self.program, self.made, self.shapes = program, made, program.shapes

    def __call__(self, *args, **kwargs):
        if not is_rehearsal():
            self.made.append((self.program, args, kwargs))
        return self.program(*args, **kwargs)


def frames_asked(call) -> int:
    """In all rows; 0 of a sweep back, which asks a part of the U-Net."""
    program, (_, latents, *_), options = call
    match program.__name__:
        case "predict_chunk":
            return latents.shape[0] * latents.shape[1]
        case "frame_features":
            return len(latents)
        case "inversion_step":
            return latents.shape[1] * int(options["iterations"])
        case "keyframe_pass" | "chunk_step":
            return len(options["asked"].encoder_hidden_states) * len(latents)
    return 0


def operations(call) -> int:
    program, args, options = call
    layers = options["layers"]
    given = {name: value for name, value in options.items() if name != "layers"}
    return count_operations(lambda args, given: program(*args, layers=layers, **given), args, given)


class Counting(Silent):
    """A reporter that counts how far each stage comes, beside how far it said that it would."""

    def __init__(self):
        self.stages = {}

    def stage(self, what, total, done=0, unit="step"):
        self.stages[what] = [done, total]

        def advance(*_, **__):
            self.stages[what][0] += 1

        return nullcontext(advance)


def test_as_a_library(run, tmp_path):
    """One call gives the edit of the command, and says how far it is."""
    _, directory = run
    finished, told = load_run(directory), Counting()
    config = finished.config
    written = edit_long(finished.editor(), config.clip.video, config, tmp_path / "film", told)
    features = ["features"] if config.long_video.long == "adaflow" else []
    assert list(told.stages) == ["encoding", *features, "inversion", "edit 1", "writing"]
    assert all(done == total > 0 for done, total in told.stages.values()), told.stages
    (expected,) = directory.glob("edits/edit-1-*.mp4")
    assert written[PROMPT].read_bytes() == expected.read_bytes()
    assert {path.name for path in (tmp_path / "film" / "latents").iterdir()} == {"trajectory"}


def test_the_built_in_clip_is_made_as_it_is_asked_for():
    whole, clip = built_in.clip(11, 32, 24), built_in_clip(11, 32, 24)
    chunks = list(clip.chunks(4))
    assert [len(chunk) for chunk in chunks] == [4, 4, 3]
    np.testing.assert_array_equal(np.concatenate(chunks), whole)
    np.testing.assert_array_equal(np.concatenate(list(clip.chunks(4, 1))), whole[4:])
    assert clip.digest() != built_in_clip(12, 32, 24).digest()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--sample-every", "1"], "--sample-every is not for --long"),
        (["--mask", "x.png"], "--mask is not for --long"),
        (["--guidance-scale", "2", "--guidance-from", "null_text"], "null_text needs the whole clip"),
        (["--stream-mode", "causal"], "mode causal is for a model that was tuned with causal"),
        (["--attention", "extended"], "attention is extended"),
        (["--bi-wkv", "reference"], "--bi-wkv reference has no states"),
        (["--sampler", "bdia"], "--sampler bdia is not for --long stream"),
        (["--cache-interval", "2"], "--cache-interval is not for --long stream"),
    ],
)
def test_what_needs_the_whole_clip_is_refused(flags, message, source, tmp_path):
    with pytest.raises(UserError, match=message):
        tune.main([*source, *STREAM, *flags, "--output", str(tmp_path / "run")])
    assert not (tmp_path / "run").exists()
