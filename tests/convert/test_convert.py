"""``python -m convert``: the directory it writes, and all the ways it can leave none."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from diffusers import StableDiffusionPipeline
from safetensors.numpy import load_file, save_file

from tests.checkpoint.hub_cache import put_into_cache
from tests.checkpoint.shapes import shapes
from vrwkv_jax.checkpoint import conversion, native
from vrwkv_jax.checkpoint.conversion import convert
from vrwkv_jax.checkpoint.source import Source
from vrwkv_jax.checkpoint.weights_config import WeightsConfig
from vrwkv_jax.models.params import Params
from vrwkv_jax.system.errors import UserError

ROOT = Path(__file__).parents[2]
FILES = {
    "model_index.json",
    "unet/config.json",
    "vae/config.json",
    "text_encoder/config.json",
    "scheduler/scheduler_config.json",
    "tokenizer/vocab.json",
    "tokenizer/merges.txt",
    "tokenizer/tokenizer_config.json",
    "tokenizer/special_tokens_map.json",
}


@pytest.fixture
def source(checkpoint, tmp_path):
    """A copy to do damage to, made of links inside, for speed."""
    for file in [file for file in checkpoint.rglob("*") if file.is_file()]:
        copy = tmp_path / "source" / file.relative_to(checkpoint)
        copy.parent.mkdir(parents=True, exist_ok=True)
        os.link(file, copy)
    return tmp_path / "source"


def load(directory) -> dict[str, Params]:
    return {part: Source(directory).read(part, abstract) for part, abstract in shapes(directory).items()}


def small_files(directory) -> set[str]:
    files = (file.relative_to(directory) for file in directory.rglob("*") if file.is_file())
    return {str(file) for file in files if native.DIRECTORY not in file.parts}


def assert_same_weights(actual, expected, dtype=np.float16):
    theirs = load(expected)
    for part, ours in load(actual).items():
        assert native.is_native(actual / part) and ours.keys() == theirs[part].keys()
        for path, array in ours.items():
            assert array.dtype == dtype
            np.testing.assert_array_equal(array, theirs[part][path].astype(dtype), err_msg=path)


def test_what_is_written_is_the_same_model(source, tmp_path, capfd):
    line = convert(source, tmp_path / "converted")
    assert capfd.readouterr() == ("", "")
    parts = "unet in float16, vae in float16, text_encoder in float16"
    assert re.fullmatch(rf"wrote {tmp_path / 'converted'}: {parts}, \d\.\d MB in all", line)
    assert small_files(tmp_path / "converted") == FILES
    for name in FILES:
        assert (tmp_path / "converted" / name).read_bytes() == (source / name).read_bytes()
    assert_same_weights(tmp_path / "converted", source)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["converted", "source"]


@pytest.mark.long
def test_bfloat16_and_a_converted_source(source, tmp_path):
    assert "unet in bfloat16, vae in bfloat16, text_encoder in bfloat16" in convert(source, tmp_path / "a", "bfloat16")
    assert_same_weights(tmp_path / "a", source, jnp.bfloat16)
    assert "unet in float32" in convert(tmp_path / "a", tmp_path / "b", "float32")
    assert_same_weights(tmp_path / "b", tmp_path / "a", np.float32)


def test_from_the_hub_s_cache(cache, checkpoint, tmp_path):
    put_into_cache(cache, "owner/name", checkpoint)
    convert("owner/name", tmp_path / "converted")
    assert small_files(tmp_path / "converted") == FILES
    assert not any(file.is_symlink() for file in (tmp_path / "converted").rglob("*"))
    assert_same_weights(tmp_path / "converted", checkpoint)


def test_only_known_files_are_copied_and_links_within_become_files(source, tmp_path):
    for name in ("unet/pytorch_model.bin", "tokenizer/code.py", "scheduler/secret.json", "README.md", ".env"):
        (source / name).write_text("x")
    (source / "tokenizer" / "vocab.json").rename(source / "vocab.json")
    (source / "tokenizer" / "vocab.json").symlink_to("../vocab.json")
    convert(source, tmp_path / "converted")
    assert small_files(tmp_path / "converted") == FILES
    assert not (tmp_path / "converted" / "tokenizer" / "vocab.json").is_symlink()


@pytest.mark.parametrize("name", ["tokenizer/special_tokens_map.json", "unet/config.json"])
def test_links_that_lead_outside_are_not_followed(name, source, tmp_path):
    secret = tmp_path / "secret.json"
    secret.write_bytes((source / name).read_bytes())
    (source / name).unlink()
    (source / name).symlink_to(secret)
    message = f"{source / name} is a link to {secret}, outside of the checkpoint"
    assert_refused(source, tmp_path, message)


def test_directories_that_are_links_outside(source, tmp_path):
    (source / "tokenizer").rename(tmp_path / "elsewhere")
    (source / "tokenizer").symlink_to(tmp_path / "elsewhere")
    assert_refused(source, tmp_path, "outside of the checkpoint", others=["elsewhere"])


def assert_refused(source, tmp_path, message, others=()):
    """Converting ends in one error, and in nothing else: no directory, whole or half."""
    before = sorted(file.name for file in tmp_path.iterdir())
    with pytest.raises(UserError, match=re.escape(message)):
        convert(source, tmp_path / "converted")
    assert sorted(file.name for file in tmp_path.iterdir()) == before
    assert set(others) <= set(before)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("unet/config.json", b"{", "can't be read as JSON"),
        ("vae/config.json", None, "is missing"),
        ("scheduler/scheduler_config.json", b"{}[]", "can't be read as JSON"),
        ("scheduler/scheduler_config.json", b'{"_class_name": "FlowMatch"}', "_class_name"),
        ("tokenizer/vocab.json", None, "has no vocab.json"),
        ("unet/diffusion_pytorch_model.safetensors", b"PK", "can't be read as safetensors"),
        ("text_encoder/model.safetensors", None, "holds no weights"),
    ],
)
def test_a_damaged_source_leaves_nothing(name, content, message, source, tmp_path):
    (source / name).unlink()
    if content is not None:
        (source / name).write_bytes(content)
    assert_refused(source, tmp_path, message)


def test_weights_of_another_model(source, tmp_path):
    file = source / "vae" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(file) | {"more": np.zeros(3, np.float32)}
    file.unlink()  # which is a link
    save_file(tensors, file)
    assert_refused(source, tmp_path, "1 unexpected of ")


def test_a_source_that_is_none(tmp_path):
    assert_refused(tmp_path / "nothing", tmp_path, "there is no checkpoint")
    assert_refused(tmp_path, tmp_path, "is no Stable Diffusion checkpoint")


@pytest.mark.parametrize("kind", ["file", "directory", "dangling link"])
def test_a_destination_that_exists_stays_as_it_is(kind, source, tmp_path):
    path = tmp_path / "there"
    if kind == "file":
        path.write_text("x")
    elif kind == "dangling link":
        path.symlink_to("nowhere")
    else:
        path.mkdir()
        (path / "x").write_text("x")
    before = sorted(map(str, tmp_path.glob("there/**/*")))
    with pytest.raises(UserError, match=f"{path} is (there already|a link)"):
        convert(source, path)
    assert sorted(map(str, tmp_path.glob("there/**/*"))) == before
    assert os.path.lexists(path)


def test_a_destination_in_no_folder(source, tmp_path):
    with pytest.raises(UserError, match="there is no folder"):
        convert(source, tmp_path / "no" / "folder")


@pytest.mark.parametrize(
    ("error", "raised"), [(OSError(28, "No space left on device"), UserError), (KeyboardInterrupt(), KeyboardInterrupt)]
)
def test_a_write_that_fails_leaves_nothing(error, raised, source, tmp_path, monkeypatch):
    def save(directory, params):
        if directory.name == "vae":  # the second of three
            raise error
        (directory / "params").mkdir()

    monkeypatch.setattr(conversion.native, "save", save)
    with pytest.raises(raised):
        convert(source, tmp_path / "converted")
    assert [file.name for file in tmp_path.iterdir()] == ["source"]


def command(*arguments) -> list[str]:
    return [sys.executable, "-m", "convert", *map(str, arguments)]


def test_command_line(checkpoint, tmp_path):
    run = subprocess.run(command(checkpoint, tmp_path / "new", "--dtype", "bfloat16"), cwd=ROOT, capture_output=True)
    assert run.returncode == 0
    assert run.stdout.decode().startswith(f"wrote {tmp_path / 'new'}: unet in bfloat16")
    assert len(run.stdout.splitlines()) == 1
    # Nothing but the bars, which are drawn over and over from the start of their line.
    bars = {bar.split(b":")[0].strip() for bar in re.split(rb"[\r\n]+", run.stderr) if bar}
    assert bars == {b"unet", b"vae", b"text_encoder"} and run.stderr.count(b": 100%") >= len(bars)
    run = subprocess.run(command(checkpoint, tmp_path / "new"), cwd=ROOT, capture_output=True, text=True)
    assert (run.returncode, run.stdout) == (2, "")
    said = "holds a checkpoint already: name another directory, or replace it with --overwrite"
    assert run.stderr == f"error: {tmp_path / 'new'} {said}\n"


def test_weights_that_are_no_numbers_are_named(source, tmp_path):
    shutil.copytree(source, tmp_path / "damaged")
    file = tmp_path / "damaged" / "vae" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    tensors["decoder.conv_in.bias"][1] = np.nan
    tensors["encoder.conv_in.bias"][0] = np.inf
    save_file(tensors, file)
    with pytest.warns(
        UserWarning, match=r"vae holds numbers that are not finite .* in 2 of .*/conv_in/bias, .*/conv_in/bias"
    ):
        convert(tmp_path / "damaged", tmp_path / "converted")


@pytest.mark.parametrize(
    ("part", "values", "expected"),
    [
        ("unet", {"in_channels": 9}, "is of an inpainting model"),
        ("unet", {"in_channels": 8}, "is of instruct-pix2pix"),
        (
            "unet",
            {"cross_attention_dim": 768},
            "hidden_size is .* U-Net's cross_attention_dim is 768",
        ),
        ("text_encoder", {"vocab_size": 500}, "the tokenizer makes .* expected its own tokenizer"),
    ],
)
def test_parts_that_do_not_fit_are_not_converted(part, values, expected, source, tmp_path):
    shutil.copytree(source, tmp_path / "copy")
    file = tmp_path / "copy" / part / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))
    with pytest.raises(UserError, match=expected):
        convert(tmp_path / "copy", tmp_path / "converted")
    assert {path.name for path in tmp_path.iterdir()} == {"copy", "source"}


def test_the_diffusers_layout_is_what_it_was_bit_for_bit(source, tmp_path):
    convert(source, tmp_path / "converted")
    for name, start in (("a", source), ("b", tmp_path / "converted")):
        line = convert(start, tmp_path / name, to="diffusers")
        assert "unet in float16" in line
        for file in FILES:
            assert (tmp_path / name / file).read_bytes() == (source / file).read_bytes()
        for part in ("unet/diffusion_pytorch_model", "vae/diffusion_pytorch_model", "text_encoder/model"):
            ours, theirs = (load_file(place / f"{part}.safetensors") for place in (tmp_path / name, source))
            assert ours.keys() == theirs.keys()
            for tensor in theirs:
                assert ours[tensor].dtype == theirs[tensor].dtype
                np.testing.assert_array_equal(ours[tensor], theirs[tensor])


def test_what_is_there_goes_only_when_asked_and_when_the_new_is_whole(source, tmp_path):
    target = tmp_path / "target"
    target.mkdir()  # empty
    convert(source, target)
    with pytest.raises(UserError, match=r"holds a checkpoint already: name another directory, or replace it"):
        convert(source, target)
    (target / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match=r"holds more than what is written here \(mine.txt\): move that away"):
        convert(source, target, overwrite=True)
    assert (target / "mine.txt").exists()
    (target / "mine.txt").unlink()
    with pytest.raises(UserError, match="there is no checkpoint"):
        convert(tmp_path / "nothing", target, overwrite=True)
    assert native.is_native(target / "unet")
    convert(source, target, to="diffusers", overwrite=True)
    assert not native.is_native(target / "unet")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="is there already"):
        convert(source, tmp_path / "other", overwrite=True)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["other", "source", "target"]


def test_what_the_u_net_predicts_can_be_said(source, tmp_path):
    convert(source, tmp_path / "converted", weights=WeightsConfig(prediction_type="epsilon"))
    written = json.loads((tmp_path / "converted/scheduler/scheduler_config.json").read_text())
    before = json.loads((source / "scheduler/scheduler_config.json").read_text())
    assert before["prediction_type"] == "v_prediction"
    assert written == before | {"prediction_type": "epsilon"}
    assert Source(source, WeightsConfig(prediction_type="epsilon")).describe().scheduler == written


def test_source_and_destination_lie_apart(source, tmp_path):
    with pytest.raises(UserError, match=r"source/new lies in .*source, which is read: name a directory outside"):
        convert(source, source / "new")
    convert(source, tmp_path / "outer")
    shutil.copytree(source, tmp_path / "outer" / "unet" / "params" / "inner")
    with pytest.raises(UserError, match=r"inner, which is read, lies in .*outer: name another"):
        convert(tmp_path / "outer" / "unet" / "params" / "inner", tmp_path / "outer", overwrite=True)
    assert not (source / "new").exists() and (tmp_path / "outer" / "unet" / "params" / "inner").exists()


def test_parts_that_are_not_written_are_not_in_the_index(source, tmp_path):
    index = json.loads((source / "model_index.json").read_text())
    more = {
        "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
        "feature_extractor": ["transformers", "CLIPImageProcessor"],
        "requires_safety_checker": True,
    }
    (source / "model_index.json").unlink()  # a link
    (source / "model_index.json").write_text(json.dumps(index | more))
    convert(source, tmp_path / "new", to="diffusers")
    absent = {"safety_checker": [None, None], "feature_extractor": [None, None], "requires_safety_checker": False}
    assert json.loads((tmp_path / "new" / "model_index.json").read_text()) == index | absent
    StableDiffusionPipeline.from_pretrained(tmp_path / "new", local_files_only=True)
