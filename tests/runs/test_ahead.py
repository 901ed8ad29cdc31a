"""A run's programs are compiled ahead of their use: all of them, once, and as the run then calls them."""

import re
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import jax
import pytest

from tests.runs.runs import EDITS, TINY
from vrwkv_jax import edit_long, load_run
from vrwkv_jax.commands import edit
from vrwkv_jax.commands.tune import main
from vrwkv_jax.runs.long.clip import open_clip
from vrwkv_jax.system.compiling import in_progress

FINISHED = re.compile(r"Finished XLA compilation of jit\((\w+)\)")
# For tuning, inversion, its reconstruction, and pictures.
PLAIN = {"tuning_step": 1, "inversion_step": 1, "sampling_step": 1, "decode_frames": 1}
OTHERS = ("controlled_step", "cached_step", "null_text_step")
# Of the edit beside its source; and of one row, in the inversion, too.
STREAM = {"tuning_step": 1, "states_before": 2, "predict_chunk": 2, "inverse_chunk": 1, "sample_chunk": 1}
# Of the edit beside its source, of the edit alone, and without guidance at the end.
ADAFLOW = {"frame_features": 1, "inversion_step": 1, "keyframe_pass": 3, "take": 2, "chunk_step": 3}
STREAM, ADAFLOW = ({**programs, "decode_frames": 1} for programs in (STREAM, ADAFLOW))
SIZES = [flag for flag in TINY if flag not in ("--placement", "mid")]
EVERY_STEP = ["--guidance-interval", "0.0", "1.0"]
UNGUIDED_END = ["--guidance-interval", "0.0", "0.7"]
GUIDED = ["--guidance-scale", "2", "--sampler", "ddim"]


@pytest.mark.parametrize(
    ("width", "flags", "expected"),  # with a width that no other test compiles for
    [
        pytest.param(24, [], PLAIN | {"sampling_step": 2}, marks=pytest.mark.long),
        (32, ["--mixer-keys", "0.5"], PLAIN | {"sampling_step": 2, "controlled_step": 1}),
        # The last third of the steps without the source: guided, and weighing words by itself in the second edit.
        (
            64,
            [*GUIDED, *EVERY_STEP, "--cross-attention", "0.7", "--reweight", "green=2"],
            PLAIN | {"sampling_step": 2, "controlled_step": 2},
        ),
        # Where the last third is without guidance, too, the program of the reconstruction serves again.
        pytest.param(
            72,
            [*GUIDED, "--cross-attention", "0.7", *UNGUIDED_END],
            PLAIN | {"controlled_step": 1},
            marks=pytest.mark.long,
        ),
        # With the source and without it, all blocks and the shallow ones.
        pytest.param(
            80,
            [*GUIDED, *EVERY_STEP, "--num-inference-steps", "8", "--cross-attention", "0.5", "--cache-interval", "2"],
            PLAIN | {"cached_step": 4},
            marks=pytest.mark.long,
        ),
        pytest.param(
            40,
            [*GUIDED, "--guidance-from", "null_text"],
            PLAIN | {"sampling_step": 2, "null_text_step": 1},
            marks=pytest.mark.long,
        ),
        pytest.param(
            48,
            [*GUIDED, "--steps", "0", "--strength", "0.4", "--eta", "0.5"],
            PLAIN | {"sampling_step": 2},
            marks=pytest.mark.long,
        ),
    ],
)
def test_in_threads_and_once(width, flags, expected, files, tmp_path, caplog):
    sizes = ["--width", str(width), "--steps", "2"]
    with compilations(caplog) as compiled:
        main([*files, *TINY, *EDITS, *sizes, *flags, "--output", str(tmp_path / "run")])
    wanted = {name: count for name, count in expected.items() if name != "tuning_step" or "--steps" not in flags}
    assert compiled == {(name, False): count for name, count in wanted.items()}


def test_edits_of_a_run(files, tmp_path, caplog):
    """With the arrays that were read from its directory, as with those that were just made."""
    run = str(tmp_path / "run")
    main([*files, *TINY, "--width", "56", "--steps", "0", "--output", run])
    jax.clear_caches()
    with compilations(caplog) as compiled:
        flags = ["--guidance-scale", "2", *UNGUIDED_END, "--num-inference-steps", "4"]
        edit.main([run, "--prompt", "a yellow disc", *flags])
    wanted = {"inversion_step": 1, "sampling_step": 3, "decode_frames": 1}  # guided and not, and the reconstruction
    assert compiled == {(name, False): count for name, count in wanted.items()}


@pytest.mark.parametrize(
    ("width", "flags", "expected"),
    [
        (88, ["--long", "stream", "--placement", "mid", "--tuned-frames", "2", "--steps", "2"], STREAM),
        pytest.param(
            104,
            ["--long", "adaflow", "--max-clip", "2", "--max-keyframes", "1", *GUIDED, *UNGUIDED_END],
            ADAFLOW,
            marks=pytest.mark.long,
        ),
    ],
)
def test_long_runs(width, flags, expected, files, tmp_path, caplog):
    """Beside the source in the first two of four steps."""
    parts = ["--frames", "5", "--chunk-frames", "2", "--width", str(width), "--edit-prompt", "a blue disc"]
    steps = ["--num-inference-steps", "4", "--cross-attention", "0.5", "--sampler", "ddim"]
    with compilations(caplog) as compiled:
        main([*files[:2], *SIZES, *parts, *steps, *flags, "--output", str(tmp_path / "run")])
    assert compiled == {(name, False): count for name, count in expected.items()}

    run = load_run(tmp_path / "run")
    jax.clear_caches()
    with compilations(caplog) as compiled:
        edit_long(run.editor(), open_clip(run.config.clip), run.config, tmp_path / "as a library")
    assert compiled == {(name, False): count for name, count in expected.items() if name != "tuning_step"}


@contextmanager
def compilations(caplog) -> Iterator[Counter]:
    """Counts the programs of a run, by name and whether it was the main thread that compiled them."""
    found = Counter()
    while in_progress():  # of a test before this one
        time.sleep(0.05)
    caplog.clear()
    jax.config.update("jax_log_compiles", True)  # jax.log_compiles() is for one thread
    try:
        yield found
    finally:
        jax.config.update("jax_log_compiles", False)
    for record in caplog.records:
        match = FINISHED.search(record.getMessage())
        if match and match[1] in {*PLAIN, *STREAM, *ADAFLOW, *OTHERS}:
            found[match[1], record.threadName == "MainThread"] += 1
