"""``python -m convert inspect``: what it says of each form, and its exit status."""

import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from vrwkv_jax.checkpoint import native
from vrwkv_jax.checkpoint.conversion import convert
from vrwkv_jax.commands.convert import main


def inspected(*argv, capsys) -> tuple[int, list[str]]:
    with pytest.raises(SystemExit) as caught:
        main(["inspect", *map(str, argv)])
    assert isinstance(caught.value.code, int)
    return caught.value.code, capsys.readouterr().out.splitlines()


def test_all_there_is_to_know_of_a_directory(tiny_checkpoint, tmp_path, capsys):
    status, lines = inspected(tiny_checkpoint, capsys=capsys)
    assert (
        status == 0
        and lines[0] == f"{tiny_checkpoint}: a checkpoint directory in the diffusers layout with safetensors or .bin"
    )
    for line, part in zip(lines[1:4], ("unet", "vae", "text_encoder"), strict=True):
        (file,) = (tiny_checkpoint / part).glob("*.safetensors")
        arrays = load_file(file)
        numbers = sum(array.size for array in arrays.values())
        assert line.split()[:5] == [part, str(len(arrays)), "tensors", f"({len(arrays)}", "in"]
        assert f"{numbers / 1e6:.1f} million numbers" in line and "float32" in line
    said = "\n".join(lines)
    assert "predicts epsilon" in said and f"It can be used: --model {tiny_checkpoint}" in said
    convert(tiny_checkpoint, tmp_path / "converted", "bfloat16")
    status, lines = inspected(tmp_path / "converted", capsys=capsys)
    assert status == 0 and "that `vrwkv convert` wrote" in lines[0] and lines[1].count("bfloat16") == 1


def test_weights_are_not_read(tiny_checkpoint, monkeypatch, capsys):
    def fail(*args, **options):
        raise AssertionError("read")

    monkeypatch.setattr("vrwkv_jax.checkpoint.tensors.Stored.read", fail)
    monkeypatch.setattr(native, "restore", fail)
    assert inspected(tiny_checkpoint, capsys=capsys)[0] == 0


def test_what_is_missing_or_does_not_fit_is_said_behind_the_rest(tiny_checkpoint, tmp_path, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(tiny_checkpoint, copy)
    file = copy / "vae" / "diffusion_pytorch_model.safetensors"
    arrays = load_file(file)
    del arrays["decoder.conv_in.bias"]
    save_file(arrays | {"more": np.zeros(2, np.float32)}, file)
    status, lines = inspected(copy, capsys=capsys)
    assert status == 1 and lines[1].startswith("  unet")
    said = "\n".join(lines)
    assert "It can't be used: the weights in" in said and "(1 missing, 1 unexpected of" in said
    assert "    decoder.conv_in.bias" in lines and "    more" in lines
    shutil.rmtree(copy / "vae")
    status, lines = inspected(copy, capsys=capsys)
    assert status == 1 and "it has no vae" in lines[-1]


def test_a_prediction_type_that_is_given_is_the_one_that_is_said(tiny_checkpoint, capsys):
    assert (
        json.loads((tiny_checkpoint / "scheduler" / "scheduler_config.json").read_text()).get("prediction_type")
        != "sample"
    )
    lines = inspected(tiny_checkpoint, "--prediction-type", "v_prediction", capsys=capsys)[1]
    assert any("predicts v_prediction" in line for line in lines)
