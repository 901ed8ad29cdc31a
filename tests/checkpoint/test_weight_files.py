"""Which files of a directory hold its weights, and what an index of shards may say."""

import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from tests.checkpoint.hub_cache import put_into_cache
from tests.checkpoint.pipelines import make_models, save_pipeline
from tests.checkpoint.shapes import PARTS, shapes
from vrwkv_jax.checkpoint.safetensors_files import SafetensorsFile
from vrwkv_jax.checkpoint.source import Source
from vrwkv_jax.checkpoint.torch_files import TorchFile
from vrwkv_jax.checkpoint.weight_files import WeightFiles, find, open_tensors
from vrwkv_jax.system.errors import UserError

SAFE, BIN = "diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin"


@pytest.fixture(scope="module")
def models():
    return make_models()


def put(path: Path, value: float, name: str = "a") -> None:
    """A file of weights with one tensor, whose ``value`` says which file it was."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".safetensors":
        save_file({name: np.full(2, value, np.float32)}, path, {"note": str(value)})
    else:
        torch.save({name: torch.full((2,), float(value))}, path)


def put_index(path: Path, weight_map: object) -> Path:
    path.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return path


@pytest.mark.parametrize(
    "names",
    [
        (SAFE, "diffusion_pytorch_model.fp16.safetensors", BIN, "diffusion_pytorch_model.fp16.bin"),
        ("model.safetensors", "model.fp16.safetensors", "pytorch_model.bin", "pytorch_model.fp16.bin"),
    ],
)
def test_safetensors_come_first_then_full_precision(names, tmp_path):
    for value, name in enumerate(names):
        put(tmp_path / name, value)
        put(tmp_path / name.replace("model.", "model.non_ema.").replace(".fp16", ""), 7)
    for value, name in enumerate(names):
        assert find(tmp_path) == [tmp_path / name]
        np.testing.assert_array_equal(WeightFiles(tmp_path)["a"], [value, value])
        (tmp_path / name).unlink()
    with pytest.raises(UserError, match=f"{tmp_path} holds no weights in full precision or fp16; there are: non_ema$"):
        find(tmp_path)


@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
def test_a_variant_that_is_asked_for(suffix, tmp_path):
    stem = "diffusion_pytorch_model"
    for value, variant in enumerate(("", ".fp16", ".non_ema", ".ema-pruned.v2")):
        put(tmp_path / f"{stem}{variant}.{suffix}", value)
    put(tmp_path / "other.bf16.safetensors", 9)
    for value, variant in ((0, None), (1, "fp16"), (2, "non_ema"), (3, "ema-pruned.v2")):
        np.testing.assert_array_equal(WeightFiles(tmp_path, variant)["a"], [value, value])
        assert find(tmp_path, variant) == WeightFiles(tmp_path, variant).files
    message = (
        "holds no weights of the variant 'bf16'; there are: ema-pruned.v2, fp16, non_ema; name one of these, or none"
    )
    with pytest.raises(UserError, match=re.escape(f"{tmp_path} {message}")):
        WeightFiles(tmp_path, "bf16")


def test_no_variant_is_there(tmp_path):
    put(tmp_path / SAFE, 0)
    with pytest.raises(UserError, match="of the variant 'fp16'; there are: none of any variant"):
        WeightFiles(tmp_path, "fp16")


@pytest.mark.parametrize(
    "options", [{}, {"max_shard_size": "150KB"}, {"max_shard_size": "150KB", "variant": "non_ema"}]
)
def test_shards_and_variants_as_diffusers_and_transformers_write_them(options, models, tmp_path):
    save_pipeline(tmp_path, models, **options)
    for part in PARTS:
        found = WeightFiles(tmp_path / part, options.get("variant"))
        assert (len(found.files) > 1) == ("max_shard_size" in options)
        expected = models[part].state_dict()
        assert set(found) == set(expected)
        for name, tensor in expected.items():
            np.testing.assert_array_equal(found[name], tensor.numpy())


@pytest.mark.parametrize("shards", [False, True])
def test_bin_files_of_a_pipeline(shards, models, tmp_path):
    save_pipeline(tmp_path, models)
    safe = {part: Source(tmp_path).read(part, abstract) for part, abstract in shapes(tmp_path).items()}
    for part in PARTS:
        stem = "pytorch_model" if part == "text_encoder" else "diffusion_pytorch_model"
        for file in (tmp_path / part).glob("*.safetensors"):
            file.unlink()
        tensors = models[part].state_dict()
        if not shards:
            torch.save(tensors, tmp_path / part / f"{stem}.bin")
            continue
        files = [f"{stem}-{number:05}-of-00002.bin" for number in (1, 2)]
        weight_map = {name: files[index % 2] for index, name in enumerate(tensors)}
        for file in files:
            torch.save({name: tensors[name] for name in tensors if weight_map[name] == file}, tmp_path / part / file)
        put_index(tmp_path / part / f"{stem}.bin.index.json", weight_map)
    for part, abstract in shapes(tmp_path).items():
        for path, array in Source(tmp_path).read(part, abstract).items():
            np.testing.assert_array_equal(array, safe[part][path], err_msg=path)


@pytest.fixture
def index(tmp_path):
    """The index of two shards, with a tensor each."""
    put(tmp_path / "unet" / "one.safetensors", 1, "a")
    put(tmp_path / "unet" / "two.safetensors", 2, "b")
    return put_index(tmp_path / "unet" / f"{SAFE}.index.json", {"a": "one.safetensors", "b": "two.safetensors"})


def refused(index: Path, message: str) -> None:
    with pytest.raises(UserError) as caught:
        WeightFiles(index.parent)
    assert str(caught.value).startswith(str(index.parent)) and re.search(message, str(caught.value)), str(caught.value)


def test_an_index_and_its_shards_agree(index):
    assert WeightFiles(index.parent)["b"][0] == 2
    put_index(index, {"a": "one.safetensors", "b": "two.safetensors", "c": "two.safetensors", "d": "one.safetensors"})
    refused(
        index, r"index\.json names tensors that its shards lack \('c', 'd'\): index and shards are not of one download"
    )
    put_index(index, {"a": "one.safetensors", "b": "two.safetensors", "c\n": "one.safetensors"})
    refused(index, r"names tensors that its shards lack \('c\\n'\)")
    put_index(index, {"a": "one.safetensors"})
    assert list(WeightFiles(index.parent)) == ["a"]
    put(index.parent / "one.safetensors", 1, "x")
    refused(index, r"names tensors that its shards lack \('a'\)")
    put_index(index, {"x": "one.safetensors", "b": "one.safetensors", "y": "two.safetensors"})
    refused(index, r"names tensors that its shards lack \('y'\)")
    put_index(index, {"x": "two.safetensors", "b": "one.safetensors"})
    refused(index, r"says of tensors another shard than has them \('x', 'b'\)")
    save_file({name: np.zeros(1) for name in "bcdefgh"}, index.parent / "two.safetensors")
    put_index(index, {"x": "one.safetensors", "b": "two.safetensors"})
    refused(index, r"does not name tensors that are in its shards \('c', 'd', 'e', 'f', 'g' and 1 more\)")


def test_a_tensor_that_two_shards_have(index):
    put(index.parent / "two.safetensors", 2, "a")
    put_index(index, {"a": "one.safetensors", "b": "two.safetensors"})
    refused(index, "the tensor 'a' is in two of its shards, one.safetensors and two.safetensors")


def test_links_that_lead_out(index, tmp_path):
    (index.parent / "two.safetensors").rename(tmp_path / "elsewhere.safetensors")
    (index.parent / "two.safetensors").symlink_to(tmp_path / "elsewhere.safetensors")
    refused(
        index, f"two.safetensors is a link to {tmp_path}/elsewhere.safetensors, outside of the checkpoint: put a copy"
    )
    (tmp_path / "elsewhere.safetensors").rename(index.parent / "real.safetensors")
    (index.parent / "two.safetensors").unlink()
    (index.parent / "two.safetensors").symlink_to("real.safetensors")
    assert WeightFiles(index.parent)["b"][0] == 2
    (index.parent).rename(tmp_path / "moved")
    index.parent.symlink_to(tmp_path / "moved")
    assert WeightFiles(index.parent)["b"][0] == 2


def test_the_links_of_the_hub_s_cache(index, cache):
    put_into_cache(cache, "owner/name", index.parent.parent)
    [shard] = cache.rglob("snapshots/*/unet/two.safetensors")
    assert shard.is_symlink() and "blobs" in os.readlink(shard)
    assert WeightFiles(shard.parent)["b"][0] == 2


def test_an_index_that_is_a_bomb(index):
    index.write_text('{"weight_map": ' + "[" * 100_000)
    refused(index, "can't be read as JSON")
    index.write_bytes(b" " * 2**24 + b"{}")
    refused(index, "has more than 16 MiB")


@pytest.mark.parametrize("name", ["model.ckpt", "model", "model.safetensors", "model.bin"])
def test_one_file_is_opened_by_its_content(name, tmp_path):
    put(tmp_path / "x.safetensors", 1)
    shutil.copy(tmp_path / "x.safetensors", tmp_path / name)
    found = open_tensors(tmp_path / name)
    assert type(found) is SafetensorsFile and found.metadata == {"note": "1"} and found["a"][0] == 1
    for options in ({}, {"_use_new_zipfile_serialization": False}):
        torch.save({"a": torch.full((2,), 2.0)}, tmp_path / name, **options)
        found = open_tensors(tmp_path / name)
        assert type(found) is TorchFile and found["a"][0] == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it is empty"),
        (b"<!DOCTYPE html><html>", "it is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 3438167540\n", "git lfs pull"),
        (b"GGUF" + bytes(100), "neither safetensors nor a file of torch.save"),
        (b"cos\nsystem\n(S'touch sprung'\ntR.", "neither safetensors nor a file of torch.save"),
        (bytes(257) + b"ustar" + bytes(200), "it is a tar file, as PyTorch wrote before 0.1.10"),
    ],
)
def test_one_file_that_is_something_else(content, message, tmp_path):
    (tmp_path / "model.ckpt").write_bytes(content)
    with pytest.raises(UserError, match=f"{tmp_path}/model.ckpt can't be read as .*{re.escape(message)}"):
        open_tensors(tmp_path / "model.ckpt")


def test_what_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", "nothing", "."):
        for opened in (open_tensors, SafetensorsFile, TorchFile):
            with pytest.raises(UserError, match=f"{tmp_path}.*(no regular file|is a directory)"):
                opened(tmp_path / name)
