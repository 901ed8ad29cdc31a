"""A run's programs are compiled ahead of their use: all of them, once, and as the run then calls them."""

import re
from collections import Counter

import jax
import pytest

from tests.train.runs import EDITS, TINY
from train.tune import main

pytestmark = pytest.mark.usefixtures("quick_compilation")

FINISHED = re.compile(r"Finished XLA compilation of jit\((\w+)\)")
# For tuning, inversion, its reconstruction, and pictures.
PLAIN = {"tuning_step": 1, "inversion_step": 1, "sampling_step": 1, "decode_frames": 1}
GUIDED = ["--guidance-scale", "2", "--sampler", "ddim"]


@pytest.mark.parametrize(
    ("width", "flags", "expected"),  # with a width that no other test compiles for
    [
        (24, [], PLAIN | {"sampling_step": 2}),
        (32, ["--mixers", "0.5"], PLAIN | {"controlled_step": 1}),
        (40, [*GUIDED, "--guidance-from", "null_text"], PLAIN | {"sampling_step": 2, "null_text_step": 1}),
        (48, [*GUIDED, "--steps", "0", "--strength", "0.4", "--eta", "0.5"], PLAIN | {"sampling_step": 2}),
    ],
)
def test_in_threads_and_once(width, flags, expected, files, tmp_path, caplog):
    sizes = ["--width", str(width), "--steps", "2"]
    jax.config.update("jax_log_compiles", True)  # jax.log_compiles() is for one thread
    try:
        main([*files, *TINY, *EDITS, *sizes, *flags, "--output", str(tmp_path / "run")])
    finally:
        jax.config.update("jax_log_compiles", False)
    compiled = Counter(
        (found[1], record.threadName == "MainThread")
        for record in caplog.records
        if (found := FINISHED.search(record.getMessage())) and found[1] in {*expected, "tuning_step"}
    )
    wanted = {name: count for name, count in expected.items() if name != "tuning_step" or "0" not in flags}
    assert compiled == {(name, False): count for name, count in wanted.items()}
