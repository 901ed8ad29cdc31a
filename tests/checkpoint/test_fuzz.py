"""Files of a checkpoint that were damaged at random: an error in one sentence, at once, or what a whole file gives.

    FUZZ_CASES=100000 python -m pytest tests/checkpoint/test_fuzz.py

reads that many, others each time; without it 300 are read, always the same.
"""

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from tests.checkpoint.memory import LINUX, peak_memory
from tests.checkpoint.mutations import json_files, safetensors_files, torch_files, torch_pickles
from tests.checkpoint.watching import watching
from vrwkv_jax.checkpoint.source import Source
from vrwkv_jax.checkpoint.tensors import StoredTensors
from vrwkv_jax.checkpoint.weight_files import WeightFiles, open_tensors
from vrwkv_jax.system.errors import UserError

CASES = int(os.environ.get("FUZZ_CASES", "0"))
TESTS = 5  # below
SECONDS, BYTES = 5, 2**30
CONFIGS = [
    "unet/config.json",
    "vae/config.json",
    "text_encoder/config.json",
    "scheduler/scheduler_config.json",
    "tokenizer/tokenizer_config.json",
    "tokenizer/special_tokens_map.json",
    "tokenizer/vocab.json",
]
INDEX = {"metadata": {}, "weight_map": {"a": "one.safetensors", "b": "one.safetensors", "c": "two.safetensors"}}

pytestmark = LINUX
fuzzed = settings(
    max_examples=(CASES or 300) // TESTS,
    derandomize=not CASES,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


def check(read: Callable[[], object], place: Path) -> None:
    """``read`` succeeds or ends in a sentence about what is in ``place``, without much time or memory."""
    started = time.process_time()
    with peak_memory() as peak:
        try:
            read()
        except UserError as error:
            message = str(error)
            assert str(place) in message or "scheduler configuration" in message, message
            assert len(message) < 2000 and "\n" not in message, message
    assert time.process_time() - started < SECONDS
    assert peak.bytes < BYTES


def check_weights(open_: Callable[[Path], StoredTensors], path: Path) -> None:
    """``check`` for all there is in ``path``; and no code is run meanwhile."""

    def read() -> None:
        with watching() as events:
            try:
                found = open_(path)
                for name in found:
                    array = found[name]
                    assert isinstance(array, np.ndarray) and array.shape == found.shape(name)
            finally:
                assert not events

    check(read, path.parent)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


@fuzzed
@given(content=safetensors_files())
def test_safetensors(place, content):
    (place / "model.safetensors").write_bytes(content)
    check_weights(open_tensors, place / "model.safetensors")


@fuzzed
@given(content=torch_files)
def test_files_of_torch(place, content):
    (place / "model.bin").write_bytes(content)
    check_weights(open_tensors, place / "model.bin")


@fuzzed
@given(content=torch_pickles())
def test_pickles(place, content):
    (place / "model.bin").write_bytes(content)
    check_weights(open_tensors, place / "model.bin")


@pytest.fixture(scope="module")
def shards(place):
    """A directory with two shards and their index."""
    directory = place / "shards"
    directory.mkdir()
    save_file({"a": np.ones(2), "b": np.ones(2)}, directory / "one.safetensors")
    save_file({"c": np.ones(2)}, directory / "two.safetensors")
    return directory


@fuzzed
@given(content=json_files(INDEX))
def test_indexes(shards, content):
    (shards / "model.safetensors.index.json").write_bytes(content)
    check_weights(WeightFiles, shards)


@pytest.fixture(scope="module")
def checkpoint(tiny_checkpoint, place):
    shutil.copytree(tiny_checkpoint, place / "checkpoint")
    return place / "checkpoint"


@fuzzed
@given(data=st.data())
def test_configurations(checkpoint, data):
    file = checkpoint / data.draw(st.sampled_from(CONFIGS))
    original = file.read_bytes()
    try:
        file.write_bytes(data.draw(json_files(json.loads(original))))
        check(lambda: Source(checkpoint).describe(), checkpoint)
    finally:
        file.write_bytes(original)
