"""Files that are damaged, hostile or something else: each ends in one sentence that names the file."""

import json
import re
import struct

import numpy as np
import pytest
from safetensors import SafetensorError
from safetensors.numpy import load, save_file

from vrwkv_jax.checkpoint.configs import read_configs
from vrwkv_jax.checkpoint.small_files import read_json
from vrwkv_jax.checkpoint.source import Source
from vrwkv_jax.checkpoint.weight_files import WeightFiles
from vrwkv_jax.system.errors import UserError

WEIGHTS = "diffusion_pytorch_model.safetensors"
INDEX = f"{WEIGHTS}.index.json"


def safetensors(header, data=b"", *, length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(shape, begin, end, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def one(shape, begin, end, dtype="F32"):
    return {"a.weight": entry(shape, begin, end, dtype)}


def text(value):
    return json.dumps(value)


# Of each file, what is wrong with it in the words of the error.
DAMAGED = {
    "empty": (b"", "it is empty"),
    "a web page": (b" <html>404 not found</html>", "it is a web page"),
    "text": (b"404 not found", "it begins with a header of 2338616625289506868 bytes"),
    "too short": (b"\x08\0", "it has 2 bytes"),
    "truncated data": (
        safetensors(one([2, 3], 0, 24), bytes(23)),
        "cut off: the file has 103 bytes, expected 104",
    ),
    "no data": (safetensors(one([2, 3], 0, 24)), "cut off: the file has 80 bytes, expected 104"),
    "more data": (safetensors(one([2], 0, 8), bytes(9)), "it is too long: the file has 85 bytes, expected 84"),
    "truncated header": (
        safetensors(one([2, 3], 0, 24))[:30],
        "cut off: the file has 30 bytes, and its header alone 72",
    ),
    "header longer than the file": (
        safetensors(one([2], 0, 8), bytes(8), length=10**6),
        "the file has 84 bytes, and its header alone 1000000",
    ),
    "header of 10 GB": (safetensors(one([2], 0, 8), bytes(8), length=10**10), "a header of 10000000000 bytes"),
    "header of 20 MB": (safetensors(b"{" + b" " * 2 * 10**7 + b"}"), "a header of 20000002 bytes, expected at most"),
    "header of negative length": (safetensors(one([2], 0, 8), bytes(8), length=2**64 - 1), "a header of 184467"),
    "header that is no text": (safetensors(b"\xff\xfe\x00"), "its header is no JSON object"),
    "header that is no JSON": (safetensors(b'{"a"'), "Expecting ':'"),
    "header that is no UTF-8": (safetensors(b'{"\xff": 1}'), "can't decode"),
    "header with NaN": (safetensors(b'{"a": NaN}'), "NaN is no JSON"),
    "header that is a list": (safetensors(b"[1]"), "its header is no JSON object"),
    "header nested without end": (safetensors(b'{"a":' + b"[" * 100_000), "recursion"),
    "header with a number without end": (safetensors(b'{"a": ' + b"9" * 100_000 + b"}"), "limit"),
    "a name twice": (
        safetensors(f'{{"a": {text(entry([1], 0, 4))}, "a": {text(entry([1], 4, 8))}}}'.encode(), bytes(8)),
        "'a' is there twice",
    ),
    "a key twice": (
        safetensors(b'{"a": {"dtype": "F32", "shape": [1], "shape": [2], "data_offsets": [0, 8]}}', bytes(8)),
        "'shape' is there twice",
    ),
    "a long name": (safetensors({"x" * 1001: entry([1], 0, 4)}, bytes(4)), "of a tensor has 1001 characters"),
    "no description": (safetensors({"a": 5}), "'a' is not described by dtype, shape and data_offsets"),
    "half a description": (safetensors({"a": {"dtype": "F32", "shape": []}}), "'a' is not described by"),
    "more than a description": (safetensors({"a": entry([1], 0, 4) | {"x": 1}}, bytes(4)), "'a' is not described by"),
    "an unknown type": (safetensors(one([2], 0, 8, "F31"), bytes(8)), "of the type 'F31', expected one of F64, F32"),
    "a type that is none": (safetensors(one([2], 0, 8, [[]]), bytes(8)), "of the type of a list, expected"),
    "shape and size disagree": (safetensors(one([3], 0, 8), bytes(8)), "F32 [3], takes 12 bytes, and its data_offsets"),
    "2^40 elements": (safetensors(one([2**20, 2**20], 0, 8), bytes(8)), "takes 4398046511104 bytes"),
    "a shape that overflows": (safetensors(one([2**62, 8], 0, 8), bytes(8)), "takes 147573952589676412928 bytes"),
    "a shape of more axes": (safetensors(one([2**62] * 65, 0, 8), bytes(8)), "has the shape of a list"),
    "absurd sizes": (safetensors(one([10**4000] * 3, 0, 8), bytes(8)), "has the shape of absurd numbers"),
    "a negative shape": (safetensors(one([-2], 0, 8), bytes(8)), "has the shape [-2]"),
    "a shape of fractions": (safetensors(one([2.0], 0, 8), bytes(8)), "has the shape of a list"),
    "a shape of true": (safetensors(one([True], 0, 4), bytes(4)), "has the shape of a list"),
    "no shape": (safetensors(one(None, 0, 4), bytes(4)), "has the shape of a NoneType"),
    "offsets past the end": (safetensors(one([2], 1000, 1008), bytes(8)), "have a hole between them: one ends at 0"),
    "offsets reversed": (safetensors(one([2], 8, 0), bytes(8)), "takes 8 bytes, and its data_offsets are [8, 0]"),
    "three offsets": (safetensors({"a": entry([1], 0, 4) | {"data_offsets": [0, 4, 4]}}, bytes(4)), "[0, 4, 4]"),
    "a hole": (
        safetensors({"a": entry([1], 0, 4), "b": entry([1], 8, 12)}, bytes(12)),
        "'a' and 'b' have a hole between them: one ends at 4, one begins at 8",
    ),
    "an overlap": (
        safetensors({"b": entry([2], 2, 10), "a": entry([1], 0, 4)}, bytes(10)),
        "'a' and 'b' overlap: one ends at 4, one begins at 2",
    ),
    "the same place twice": (
        safetensors({"a": entry([1], 0, 4), "b": entry([1], 0, 4)}, bytes(4)),
        "'a' and 'b' overlap",
    ),
    "notes that are numbers": (safetensors({"__metadata__": {"a": 1}}), "its __metadata__ is not made of texts"),
    "notes that are a list": (safetensors({"__metadata__": ["a"]}), "its __metadata__ is not made of texts"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_safetensors(name, tmp_path):
    content, reason = DAMAGED[name]
    (tmp_path / WEIGHTS).write_bytes(content)
    with pytest.raises(UserError) as caught:
        WeightFiles(tmp_path)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / WEIGHTS} can't be read as safetensors ("), message
    assert reason in message and message.endswith("download or copy it again") and len(message) < 1000, message


def test_what_is_refused_is_no_safetensors_for_the_library_either():
    """But for what it lets pass: names twice, of which it takes one, and what is too large for us."""
    for name, (content, _) in DAMAGED.items():
        if name not in ("a name twice", "a key twice", "a long name", "more than a description", "header of 20 MB"):
            with pytest.raises((SafetensorError, OverflowError)):
                load(content)


def test_pointer_to_git_lfs(tmp_path):
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 3438167540\n"
    (tmp_path / WEIGHTS).write_bytes(pointer)
    with pytest.raises(UserError, match="git lfs pull"):
        WeightFiles(tmp_path)


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
        ({"a": "a\nb"}, r"names the shard 'a\nb', which is not there"),
        ({"a": 5}, "is no index of shards"),
        ({"a": 5, "b": "x"}, "is no index of shards"),
        ({"a": ["x"]}, "is no index of shards"),
        ("x", "is no index of shards"),
        (None, "is no index of shards"),
        ({"a": "part-1.safetensors"}, "names the shard 'part-1.safetensors', which is not there"),
    ],
)
def test_hostile_index(weight_map, message, tmp_path):
    directory = tmp_path / "unet"
    directory.mkdir()
    save_file({"a": np.ones(3, np.float32)}, tmp_path / "secret.safetensors")
    (directory / INDEX).write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(UserError, match=f"{re.escape(str(directory / INDEX))}.*{re.escape(message)}"):
        WeightFiles(directory)


@pytest.mark.parametrize("content", ["", "[1]", "{", "\xff", "[" * 100_000, '{"metadata": {}}'])
def test_damaged_index(content, tmp_path):
    (tmp_path / INDEX).write_text(content, encoding="latin-1")
    with pytest.raises(UserError, match=f"{INDEX} (is no index of shards|can.t be read as JSON|holds list)"):
        WeightFiles(tmp_path)


def test_empty_directory(tmp_path):
    with pytest.raises(
        UserError, match=f"{tmp_path} holds no weights: expected {WEIGHTS}, .*pytorch_model.bin, or shards"
    ):
        WeightFiles(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "can't be read as JSON"),
        (b"{", "can't be read as JSON"),
        (b"\xff\xfe{}", "can't be read as JSON"),
        (b"[" * 100_000, "can't be read as JSON"),
        (b"[1, 2]", "holds list, expected a JSON object"),
        (b"null", "holds NoneType, expected a JSON object"),
        (b"{" + b" " * 2**24 + b"}", "has more than 16 MiB"),
        (b'{"a": ' + b"9" * 5000 + b"}", "can't be read as JSON"),
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
        ("unet", {"addition_embed_type": "other"}, 'addition_embed_type is "other", which is not supported'),
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
