"""Files that torch.save wrote, read without PyTorch: every value is compared with PyTorch's own, bit by bit."""

import subprocess
import sys
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from vrwkv_jax.checkpoint.safetensors_files import SafetensorsFile
from vrwkv_jax.checkpoint.tensors import DTYPES, StoredTensors
from vrwkv_jax.checkpoint.torch_files import TorchFile

FORMS = {"zip": {}, "legacy": {"_use_new_zipfile_serialization": False}}
FORMS |= {
    f"{form}, protocol {n}": options | {"pickle_protocol": n} for form, options in FORMS.items() for n in (3, 4, 5)
}
TYPES = {
    **{torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"},
    **{torch.float8_e4m3fn: "F8_E4M3", torch.float8_e5m2: "F8_E5M2", torch.complex64: "C64", torch.bool: "BOOL"},
    **{torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8"},
    **{torch.uint64: "U64", torch.uint32: "U32", torch.uint16: "U16", torch.uint8: "U8"},
}


@pytest.fixture(params=FORMS.values(), ids=FORMS)
def save(request, tmp_path):
    def saved(content):
        torch.save(content, tmp_path / "file.bin", **request.param)
        return tmp_path / "file.bin"

    return saved


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def assert_same(found: StoredTensors, tensors: dict[str, torch.Tensor]) -> None:
    assert list(found) == list(tensors)
    for name, tensor in tensors.items():
        assert (found.shape(name), found.dtype(name)) == (tuple(tensor.shape), TYPES[tensor.dtype]), name
        array = found[name]
        assert (array.shape, array.dtype) == (tuple(tensor.shape), DTYPES[TYPES[tensor.dtype]]), name
        bytes_ = tensor.detach().contiguous().flatten().view(torch.uint8).numpy().tobytes() if tensor.numel() else b""
        assert array.tobytes() == bytes_, name


def test_every_type(save):
    tensors = {str(dtype): (normal(3, 5) * 40).abs().to(dtype) for dtype in TYPES}
    assert_same(TorchFile(save(tensors)), tensors)
    assert DTYPES.keys() == set(TYPES.values())


def views() -> dict[str, torch.Tensor]:
    base, line = normal(6, 7, 8), torch.arange(24, dtype=torch.int16)
    return {
        "base": base,
        "transposed": base.permute(2, 0, 1),
        "inner": base[1:5, 2:6:3, ::2],
        "last": base[5, 6, 7],
        "column": base[:, 3, 3],
        "flat": line[5:17].view(3, 4),
        "turned": line[5:17].view(3, 4).t(),
        "expanded": normal(1, 4, 1).expand(3, 4, 5),
        "overlapping": torch.as_strided(line, (5, 4), (2, 1), 3),
        "channels last": normal(2, 3, 4, 5).to(memory_format=torch.channels_last),
        "none of them": base[3:3],
        "none": torch.zeros(0, 5),
        "number": torch.tensor(3.5),
        "one": base[2:3, 4:5, 1:2],
    }


def test_views_and_shared_storages(save):
    tensors = views()
    assert_same(TorchFile(save(tensors)), tensors)
    for array in (TorchFile(save(tensors))[name] for name in tensors):
        assert array.flags.writeable


def test_modules_and_parameters(save):
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Linear(4, 2))
    assert_same(TorchFile(save(module.state_dict())), module.state_dict())
    tensors = {"w": torch.nn.Parameter(normal(3)), "frozen": torch.nn.Parameter(normal(2), requires_grad=False)}
    assert_same(TorchFile(save(tensors)), tensors)


class ModelCheckpoint:
    """As Lightning's, in name: a class that is a key of its notes."""


def lightning(monkeypatch) -> dict:
    monkeypatch.setattr(ModelCheckpoint, "__module__", "pytorch_lightning.callbacks.model_checkpoint")
    module = type(sys)("pytorch_lightning.callbacks.model_checkpoint")
    module.ModelCheckpoint = ModelCheckpoint
    for name in ("pytorch_lightning", "pytorch_lightning.callbacks"):
        monkeypatch.setitem(sys.modules, name, type(sys)(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    score = torch.tensor(0.25)
    return {
        "epoch": 3,
        "global_step": 470_000,
        "pytorch-lightning_version": "1.4.2",
        "state_dict": OrderedDict({"model.a": normal(3), "model.b": normal(2, 2), "cond.c": torch.arange(77)[None]}),
        "callbacks": {
            ModelCheckpoint: {"best_model_score": score, "best": np.float64(0.5), "dirpath": None, "k": np.int64(3)},
            "Timer": {"seen": {1, 2}, "array": np.arange(4.0), "size": torch.Size([2]), "on": torch.device("cpu")},
        },
        "optimizer_states": [{"state": {0: {"exp_avg": normal(3)}}, "param_groups": [{"lr": 1e-4, "params": [0]}]}],
        "lr_schedulers": [],
    }


@pytest.mark.parametrize("form", [form for form in FORMS if "5" not in form])  # nobody writes arrays of numpy with 5
def test_a_checkpoint_of_training_gives_its_state_dict(form, tmp_path, monkeypatch):
    content = lightning(monkeypatch)
    torch.save(content, tmp_path / "model.ckpt", **FORMS[form])
    monkeypatch.undo()
    assert not any(name.startswith("pytorch_lightning") for name in sys.modules)
    found = TorchFile(tmp_path / "model.ckpt")
    assert_same(found, content["state_dict"])
    assert found.contents == {
        "epoch": 3,
        "global_step": 470_000,
        "pytorch-lightning_version": "1.4.2",
        "state_dict": None,
        "callbacks": {"Timer": {}},
    }


def test_textual_inversion_of_both_kinds(save):
    parameter = torch.nn.Parameter(normal(2, 768))
    found = TorchFile(
        save({"string_to_token": {"*": torch.tensor(265)}, "string_to_param": torch.nn.ParameterDict({"*": parameter})})
    )
    assert_same(found, {"string_to_token.*": torch.tensor(265), "string_to_param.*": parameter})
    assert found.contents == {"string_to_token": {}, "string_to_param": {}}
    notes = {"name": "cat-toy", "step": 3999, "sd_checkpoint": "3e16efc8", "sd_checkpoint_name": None}
    found = TorchFile(save({"string_to_token": {"*": 265}, "string_to_param": {"*": parameter.detach()}, **notes}))
    assert_same(found, {"string_to_param.*": parameter})
    assert found.contents == {"string_to_token": {"*": 265}, "string_to_param": {}, **notes}


def test_safetensors_of_every_type(tmp_path):
    """The other form, by the same measure."""
    tensors = {str(dtype): (normal(3, 5) * 40).abs().to(dtype) for dtype in TYPES}
    tensors |= {"none": torch.zeros(0, 5), "number": torch.tensor(3.5)}
    save_file(tensors, tmp_path / "file.safetensors", {"a": "b"})
    found = SafetensorsFile(tmp_path / "file.safetensors")
    assert set(found) == set(tensors) and found.metadata == {"a": "b"}
    assert_same(found, {name: tensors[name] for name in found})


def test_without_torch(tmp_path):
    torch.save({"a": torch.full((2, 3), 1.5)}, tmp_path / "file.pt")
    script = f"""
import sys
sys.modules["torch"] = None
from pathlib import Path
from vrwkv_jax.checkpoint.torch_files import TorchFile
print(TorchFile(Path({str(tmp_path / "file.pt")!r}))["a"].sum())
"""
    root = Path(__file__).parents[2]
    output = subprocess.run([sys.executable, "-c", script], cwd=root, check=True, stdout=subprocess.PIPE, text=True)
    assert output.stdout.strip() == "9.0"
