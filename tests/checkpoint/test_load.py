"""Weights as they occur in the wild, read into our parameters."""

import re

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from tests.checkpoint.pipelines import UNETS, make_models, save_pipeline
from tests.checkpoint.shapes import PARTS, shapes
from tests.torch_weights import assign
from vrwkv_jax.checkpoint.source import Source
from vrwkv_jax.system.errors import UserError

FILES = {
    "unet": "diffusion_pytorch_model.safetensors",
    "vae": "diffusion_pytorch_model.safetensors",
    "text_encoder": "model.safetensors",
}


@pytest.fixture(scope="module")
def models():
    return make_models()


@pytest.fixture
def checkpoint(models, tmp_path):
    save_pipeline(tmp_path / "checkpoint", models)
    return tmp_path / "checkpoint"


def linear(tensors):
    """A state dict with the 1x1 convolutions around a U-Net's transformers as the linear layers they are."""
    around = r"attentions\.\d+\.proj_(in|out)\.weight$"
    return {n: t[:, :, 0, 0] if t.ndim == 4 and re.search(around, n) else t for n, t in tensors.items()}


def assert_loads(checkpoint, models, dtype=None, expected_dtype=np.float32):
    for part, abstract in shapes(checkpoint).items():
        expected = assign(abstract, linear(models[part].state_dict()))
        actual = Source(checkpoint).read(part, abstract, dtype)
        assert actual.keys() == abstract.keys()
        for path, array in actual.items():
            assert isinstance(array, jax.Array) and array.dtype == expected_dtype
            np.testing.assert_array_equal(array, expected[path].astype(expected_dtype), err_msg=path)


@pytest.mark.parametrize("family", UNETS)
def test_as_saved_by_the_original_libraries(family, tmp_path):
    models = make_models(UNETS[family])
    save_pipeline(tmp_path / "checkpoint", models)
    assert_loads(tmp_path / "checkpoint", models)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision(dtype, tmp_path):
    models = {name: model.to(getattr(torch, dtype)) for name, model in make_models().items()}
    save_pipeline(tmp_path / "checkpoint", models)
    exact = {name: model.float() for name, model in models.items()}
    assert_loads(tmp_path / "checkpoint", exact, expected_dtype=jnp.dtype(dtype))
    assert_loads(tmp_path / "checkpoint", exact, dtype=jnp.float32)


def test_float32_read_as_bfloat16(checkpoint, models):
    assert_loads(checkpoint, models, jnp.bfloat16, ml_dtypes.bfloat16)


@pytest.mark.parametrize("options", [{"max_shard_size": "150KB"}, {"max_shard_size": "150KB", "variant": "fp16"}])
def test_shards(options, models, tmp_path):
    save_pipeline(tmp_path / "checkpoint", models, **options)
    for part in PARTS:
        assert len(list((tmp_path / "checkpoint" / part).glob("*-of-*.safetensors"))) > 1
    assert_loads(tmp_path / "checkpoint", models)


def test_shards_with_the_old_names_of_a_variant(models, tmp_path):
    checkpoint = tmp_path / "checkpoint"
    save_pipeline(checkpoint, models, max_shard_size="150KB", variant="fp16")
    for file in [file for part in PARTS for file in (checkpoint / part).glob("*fp16*")]:
        if file.name.endswith(".json"):
            file.write_text(old_shard_name(file.read_text()))
            file.rename(file.with_name(file.name.replace(".index.fp16.json", ".fp16.index.json")))
        else:
            file.rename(file.with_name(old_shard_name(file.name)))
    assert_loads(checkpoint, models)


def old_shard_name(text):
    old, count = re.subn(r"\.fp16(-\d+-of-\d+)\.", r"\1.fp16.", text)
    assert count
    return old


def test_fp16_variant_alone(models, tmp_path):
    save_pipeline(tmp_path / "checkpoint", models, variant="fp16")
    assert_loads(tmp_path / "checkpoint", models)


def test_other_files_beside_are_left_alone(checkpoint, models):
    for part in PARTS:
        stem = FILES[part].removesuffix(".safetensors")
        for name in ("fp16.safetensors", "ema.safetensors", "non_ema.safetensors", "bin", "safetensors.index.json"):
            (checkpoint / part / f"{stem}.{name}").write_bytes(b"not read")
        (checkpoint / part / "pytorch_model.bin").write_bytes(b"not read")
    assert_loads(checkpoint, models)


@pytest.mark.parametrize("kernels", ["linear", "1x1 convolutions"])
def test_legacy_names(kernels, checkpoint, models):
    text = checkpoint / "text_encoder" / FILES["text_encoder"]
    tensors = {f"text_model.{name.removeprefix('text_model.')}": array for name, array in load_file(text).items()}
    tensors["text_model.embeddings.position_ids"] = np.arange(77)[None]
    save_file(tensors, text)
    vae, tensors = checkpoint / "vae" / FILES["vae"], {}
    for name, array in load_file(checkpoint / "vae" / FILES["vae"]).items():
        for new, old in {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}.items():
            name = name.replace(f"attentions.0.{new}.", f"attentions.0.{old}.")
        legacy = re.search(r"(query|key|value|proj_attn)\.weight$", name)
        tensors[name] = array[:, :, None, None] if legacy and kernels != "linear" else array
    assert sum("mid_block.attentions.0.query" in name for name in tensors) == 4
    save_file(tensors, vae)
    assert_loads(checkpoint, models)


def test_sd1_with_linear_projections_and_sd2_with_convolutions(tmp_path):
    """Which of the two a U-Net's ``proj_in`` is stored as makes no difference."""
    models = make_models(UNETS["sd1"])
    save_pipeline(tmp_path / "checkpoint", models)
    file = tmp_path / "checkpoint" / "unet" / FILES["unet"]
    tensors = load_file(file)
    assert any(name.endswith("proj_in.weight") and array.ndim == 4 for name, array in tensors.items())
    save_file({name: np.ascontiguousarray(array) for name, array in linear(tensors).items()}, file)
    assert_loads(tmp_path / "checkpoint", models)


def test_all_that_does_not_fit_is_in_one_error(checkpoint):
    file = checkpoint / "text_encoder" / FILES["text_encoder"]
    tensors = load_file(file)
    gone = [name for name in tensors if name.endswith("final_layer_norm.weight") or "layers.1.mlp.fc1" in name]
    for name in gone:
        del tensors[name]
    misshaped = [name for name in tensors if "layers.2.self_attn" in name and name.endswith("weight")]
    for name in misshaped:
        tensors[name] = np.zeros((40, 41), np.float32)
    save_file(tensors | {"extra.weight": np.zeros(3, np.float32), "more": np.zeros((), np.float32)}, file)
    with pytest.raises(UserError) as caught:
        Source(checkpoint).read("text_encoder", shapes(checkpoint)["text_encoder"])
    message = str(caught.value)
    assert len(gone) == 3 and len(misshaped) == 4
    assert f"{checkpoint / 'text_encoder'}" in message
    assert "3 missing, 2 unexpected, 4 of the wrong shape" in message
    for name in (*gone, "extra.weight", "more"):
        assert name.removeprefix("text_model.") in message
    for name in misshaped:
        assert f"{name.removeprefix('text_model.')}: [40, 41], expected [40, 40]" in message


def test_weights_that_are_no_floats(checkpoint):
    file = checkpoint / "vae" / FILES["vae"]
    tensors = load_file(file)
    names = sorted(tensors)[:2]
    save_file(tensors | {name: np.ones(tensors[name].shape, np.int8) for name in names}, file)
    with pytest.raises(UserError, match=rf"F32, F16, BF16.*{re.escape(names[0])} \(I8\), {re.escape(names[1])} \(I8\)"):
        Source(checkpoint).read("vae", shapes(checkpoint)["vae"])
