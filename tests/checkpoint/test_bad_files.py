"""Files that are damaged, hostile or something else: each ends in one sentence that names the file."""

import json
import pickle
import re
import struct

import numpy as np
import pytest
from safetensors.numpy import save_file

from vrwkv_jax.checkpoint.configs import read_configs
from vrwkv_jax.checkpoint.safetensors_files import SafetensorsFiles
from vrwkv_jax.checkpoint.small_files import read_json
from vrwkv_jax.checkpoint.source import Source
from vrwkv_jax.system.errors import UserError

WEIGHTS = "diffusion_pytorch_model.safetensors"
INDEX = f"{WEIGHTS}.index.json"


def safetensors(header, data=b"", *, length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(shape, begin, end):
    return {"a.weight": {"dtype": "F32", "shape": shape, "data_offsets": [begin, end]}}


DAMAGED = {
    "empty": b"",
    "text": b"<html>404 not found</html>",
    "truncated data": safetensors(entry([2, 3], 0, 24), bytes(23)),
    "truncated header": safetensors(entry([2, 3], 0, 24))[:30],
    "header longer than the file": safetensors(entry([2], 0, 8), bytes(8), length=10**6),
    "header of 4 exabytes": safetensors(entry([2], 0, 8), bytes(8), length=2**62),
    "header of negative length": safetensors(entry([2], 0, 8), bytes(8), length=2**64 - 1),
    "header that is no JSON": safetensors(b"\xff\xfe\x00"),
    "header nested without end": safetensors(b"[" * 100_000),
    "shape and size disagree": safetensors(entry([3], 0, 8), bytes(8)),
    "shape overflows": safetensors(entry([2**62, 8], 0, 8), bytes(8)),
    "negative shape": safetensors(entry([-2], 0, 8), bytes(8)),
    "offsets past the end": safetensors(entry([2], 1000, 1008), bytes(8)),
    "offsets reversed": safetensors(entry([2], 8, 0), bytes(8)),
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_damaged_safetensors(content, tmp_path):
    (tmp_path / WEIGHTS).write_bytes(content)
    with pytest.raises(
        UserError, match=rf"{re.escape(str(tmp_path / WEIGHTS))} can't be read as safetensors \(.+copy it"
    ):
        SafetensorsFiles(tmp_path)


def test_pointer_to_git_lfs(tmp_path):
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 3438167540\n"
    (tmp_path / WEIGHTS).write_bytes(pointer)
    with pytest.raises(UserError, match="git lfs pull"):
        SafetensorsFiles(tmp_path)


def test_types_that_numpy_lacks(tmp_path):
    header = {"a.weight": {"dtype": "F8_E4M3", "shape": [2], "data_offsets": [0, 2]}}
    (tmp_path / WEIGHTS).write_bytes(safetensors(header, bytes(2)))
    with pytest.raises(UserError, match=r"not all of a type that is read.*a.weight \(F8_E4M3\)"):
        Source(tmp_path.parent).read(tmp_path.name, {"a/scale": np.zeros(2)})


@pytest.mark.parametrize(
    ("weight_map", "message"),
    [
        ({"a": "../secret.safetensors"}, "'../secret.safetensors', outside its own directory"),
        ({"a": "/etc/passwd"}, "'/etc/passwd', outside its own directory"),
        ({"a": "sub/x.safetensors"}, "'sub/x.safetensors', outside its own directory"),
        ({"a": ".."}, "which is not there"),
        ({"a": "x" * 5000}, "which is not there"),
        ({"a": "nul\0l"}, "which is not there"),
        ({"a": 5}, "the file 5"),
        ({"a": 5, "b": "x"}, "no index of safetensors shards"),
        ({"a": ["x"]}, "no index of safetensors shards"),
        ("x", "no index of safetensors shards"),
        (None, "no index of safetensors shards"),
        ({"a": "part-1.safetensors"}, "names the shard part-1.safetensors, which is not there"),
    ],
)
def test_hostile_index(weight_map, message, tmp_path):
    directory = tmp_path / "unet"
    directory.mkdir()
    save_file({"a": np.ones(3, np.float32)}, tmp_path / "secret.safetensors")
    (directory / INDEX).write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(UserError, match=f"{re.escape(str(directory / INDEX))}.*{re.escape(message)}"):
        SafetensorsFiles(directory)


@pytest.mark.parametrize("content", ["", "[1]", "{", "\xff", "[" * 100_000, '{"metadata": {}}'])
def test_damaged_index(content, tmp_path):
    (tmp_path / INDEX).write_text(content, encoding="latin-1")
    with pytest.raises(UserError, match=f"{INDEX} is no index of safetensors shards"):
        SafetensorsFiles(tmp_path)


def test_empty_directory(tmp_path):
    with pytest.raises(
        UserError, match=f"{tmp_path} holds no safetensors weights: expected {WEIGHTS}.*only pickles.*with diffusers$"
    ):
        SafetensorsFiles(tmp_path)


@pytest.mark.parametrize("name", ["diffusion_pytorch_model.bin", "pytorch_model.bin", "model.ckpt"])
def test_pickles_are_never_opened(name, tmp_path):
    class Trap:
        def __reduce__(self):
            return (tmp_path.joinpath("sprung").write_text, ("",))

    (tmp_path / name).write_bytes(pickle.dumps({"a.weight": Trap()}))
    for _ in range(2):  # then under the name that is read
        with pytest.raises(UserError, match=r"is a pickle, which is not read|can't be read as safetensors"):
            Source(tmp_path.parent).read(tmp_path.name, {"a/scale": np.zeros(2)})
        (tmp_path / name).rename(tmp_path / WEIGHTS)
        name = WEIGHTS
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "can't be read as JSON"),
        (b"{", "can't be read as JSON"),
        (b"\xff\xfe{}", "can't be read as JSON"),
        (b"[" * 100_000, "can't be read as JSON"),
        (b"[1, 2]", "holds list, expected a JSON object"),
        (b"null", "holds NoneType, expected a JSON object"),
    ],
)
def test_json_that_is_none(content, message, tmp_path):
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(UserError, match=f"{tmp_path / 'config.json'} {message}"):
        read_json(tmp_path / "config.json")


def test_json_that_is_not_there(tmp_path):
    (tmp_path / "directory").mkdir()
    for name in ("directory", "nothing"):
        with pytest.raises(UserError, match=f"{tmp_path / name} is missing"):
            read_json(tmp_path / name)


@pytest.mark.parametrize(
    ("part", "values", "message"),
    [
        ("unet", {"_class_name": "UNet3DConditionModel"}, "describes ['UNet3DConditionModel'], expected ['UNet2DC"),
        ("unet", {"_class_name": None}, "describes [None], expected ['UNet2DConditionModel']"),
        ("unet", {"addition_embed_type": "text_time"}, 'addition_embed_type is "text_time", which is not supported'),
        ("unet", {"act_fn": "mish"}, 'act_fn is "mish", which is not supported; expected "silu"'),
        ("unet", {"in_channels": "4"}, 'in_channels is "4", which is not supported; expected an integer'),
        ("unet", {"norm_num_groups": 0}, "norm_num_groups is 0, which is not possible; expected above 0"),
        ("unet", {"norm_eps": -1e-5}, "norm_eps is -1e-05, which is not possible"),
        ("unet", {"block_out_channels": []}, "block_out_channels is [], which is not possible"),
        ("unet", {"attention_head_dim": [8, 0, 8, 8]}, "attention_head_dim is [8, 0, 8, 8], which is not possible"),
        ("unet", {"attention_head_dim": [8]}, "attention_head_dim has 1 entries and block_out_channels has 4"),
        ("unet", {"down_block_types": ["DownBlock2D"]}, "down_block_types has 1 entries and block_out_channels has 4"),
        (
            "unet",
            {"norm_num_groups": 7},
            "block_out_channels is [320, 640, 1280, 1280] and norm_num_groups is [7, 7, 7",
        ),
        ("unet", {"attention_head_dim": 7}, "block_out_channels is [320, 640, 1280, 1280] and attention_head_dim (the"),
        ("vae", {"norm_num_groups": 0}, "norm_num_groups is 0, which is not possible"),
        ("vae", {"scaling_factor": float("nan")}, "scaling_factor is nan, which is not possible"),
        ("text_encoder", {"num_attention_heads": 0}, "num_attention_heads is 0, which is not possible"),
        ("text_encoder", {"num_hidden_layers": -1}, "num_hidden_layers is -1, which is not possible"),
        ("vae", {"_class_name": "AutoencoderTiny"}, "describes ['AutoencoderTiny'], expected ['AutoencoderKL']"),
        ("vae", {"latent_channels": 4.5}, "latent_channels is 4.5, which is not supported"),
        ("text_encoder", {"architectures": ["T5EncoderModel"]}, "describes ['T5EncoderModel'], expected ['CLIPText"),
        ("text_encoder", {"architectures": "x"}, "describes x, expected ['CLIPTextModel']"),
        ("text_encoder", {"hidden_act": "relu"}, 'hidden_act is "relu", which is not supported'),
    ],
)
def test_configuration_of_another_model(part, values, message, tmp_path):
    for name in ("unet", "vae", "text_encoder"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps(values if name == part else {}))
    with pytest.raises(UserError, match=f"{tmp_path / part / 'config.json'}:? {re.escape(message)}"):
        read_configs(tmp_path)
