"""Whatever stands in a checkpoint's small files: one sentence, at once, or a model that can be built at once."""

import json
import os
import shutil
import time

import pytest

from vrwkv_jax.checkpoint.source import Source
from vrwkv_jax.system.errors import UserError

FILES = [
    "unet/config.json",
    "vae/config.json",
    "text_encoder/config.json",
    "scheduler/scheduler_config.json",
    "tokenizer/tokenizer_config.json",
]
ODD = [
    None,
    True,
    0,
    2,
    -1,
    0.5,
    10**9,
    1e300,
    float("nan"),
    "",
    "many",
    "x" * 10**6,
    [],
    [1] * 10**5,
    [[]],
    {},
    {"a": 1},
]


@pytest.fixture
def copy(tiny_checkpoint, tmp_path):
    shutil.copytree(tiny_checkpoint, tmp_path / "copy")
    return tmp_path / "copy"


@pytest.mark.parametrize("name", FILES)
def test_no_value_ends_in_a_traceback_or_takes_long(name, copy):
    original = json.loads((copy / name).read_text())
    refused = 0
    for key in original:
        for value in ODD:
            (copy / name).write_text(json.dumps(original | {key: value}))
            started = time.process_time()
            try:
                Source(copy).describe()
            except UserError as error:
                refused += 1
                assert len(str(error)) < 1000, (key, str(error)[:2000])
            assert time.process_time() - started < 2, (key, value)
    assert refused > len(original)


@pytest.mark.parametrize(
    ("name", "key", "value", "expected"),
    [
        ("unet/config.json", "layers_per_block", 1000, "at most 3"),
        ("unet/config.json", "transformer_layers_per_block", 10**6, "at most 2"),
        ("unet/config.json", "block_out_channels", [8] * 9, "at most 8 entries"),
        ("unet/config.json", "_class_name", ["UNet2DConditionModel"], "this is no SD"),
        ("vae/config.json", "layers_per_block", 1000, "at most 3"),
        ("text_encoder/config.json", "num_hidden_layers", 10**5, "at most 48"),
        ("scheduler/scheduler_config.json", "num_train_timesteps", 10**9, "at most 100000"),
        ("scheduler/scheduler_config.json", "_class_name", ["DDIMScheduler"], "expected one of"),
        ("tokenizer/tokenizer_config.json", "model_max_length", 2, "model_max_length is 2, not 3 to 4096"),
        ("tokenizer/tokenizer_config.json", "model_max_length", "long", "model_max_length is 'long', not"),
    ],
)
def test_what_no_such_model_has_is_named(name, key, value, expected, copy):
    values = json.loads((copy / name).read_text())
    (copy / name).write_text(json.dumps(values | {key: value}))
    with pytest.raises(UserError, match=expected):
        Source(copy).describe()


@pytest.mark.parametrize("name", ["unet/config.json", "tokenizer/vocab.json", "tokenizer/added_tokens.json"])
def test_a_pipe_is_no_file_of_a_checkpoint(name, copy, tmp_path):
    from vrwkv_jax.checkpoint.conversion import convert

    (copy / name).unlink(missing_ok=True)
    os.mkfifo(copy / name)
    with pytest.raises(UserError) as caught:
        convert(copy, tmp_path / "converted")
    assert name.split("/")[1] in str(caught.value) and "space" not in str(caught.value)
    assert not (tmp_path / "converted").exists()
