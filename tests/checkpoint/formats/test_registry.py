"""What every form of checkpoint in the registry has; and that a form which lacks some of it is told what."""

import dataclasses
import functools
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors.torch import save_file

from tests.checkpoint import compvis_files
from tests.checkpoint.shapes import shapes_of
from tests.checkpoint.test_load import linear
from tests.tiny import SCHEDULER, tiny_models
from tests.torch_weights import assign
from vrwkv_jax.checkpoint.configs import text_config, unet_config, vae_config
from vrwkv_jax.checkpoint.conversion import convert
from vrwkv_jax.checkpoint.formats.base import PARTS, WEIGHTS
from vrwkv_jax.checkpoint.formats.registry import FORMATS, expected, format_of, missing
from vrwkv_jax.checkpoint.hub import resolve
from vrwkv_jax.checkpoint.save import save_pipeline
from vrwkv_jax.checkpoint.source import Source
from vrwkv_jax.checkpoint.torch_names import torch_name, torch_shape
from vrwkv_jax.models.tokenizer import write_byte_tokenizer
from vrwkv_jax.system.errors import UserError

DOCS = Path(__file__).parents[3] / "docs" / "checkpoints.md"
MODELS = tiny_models()


def write_diffusers(path: Path) -> None:
    save_pipeline(path, MODELS, SCHEDULER)
    write_byte_tokenizer(path / "tokenizer")


def write_converted(path: Path) -> None:
    write_diffusers(path.with_name("to-convert"))
    convert(path.with_name("to-convert"), path)


@functools.cache
def single_file() -> tuple[dict, dict]:
    """A small Stable Diffusion whose configuration is seen from shapes: as MODELS, and as the tensors of a file."""
    made = compvis_files.models("sd1")
    configs = {
        "unet": unet_config(dict(made["unet"].config), "U-Net"),
        "vae": vae_config(dict(made["vae"].config), "VAE"),
        "text_encoder": text_config(made["text_encoder"].config.to_dict(), "text encoder"),
    }
    tensors = {part: linear(model.state_dict()) for part, model in made.items()}
    tensors["text_encoder"] = {name.removeprefix("text_model."): t for name, t in tensors["text_encoder"].items()}
    models = {part: (dataclasses.asdict(c), assign(shapes_of(c), tensors[part])) for part, c in configs.items()}
    return models, {name: t.clone().contiguous() for name, t in compvis_files.checkpoint(made, "sd1").items()}


def write_single_file(path: Path) -> None:
    save_file(single_file()[1], path)


# Of each form, what writes MODELS as a small checkpoint to a path. A new form adds its own here.
SAMPLES = {"diffusers": write_diffusers, "compvis": write_single_file, "converted": write_converted}
OTHER_MODELS = {"compvis": lambda: single_file()[0]}  # of forms in which MODELS can't be written

NAMES = ("TITLE", "recognises", "describe", "notes", "variants", "tensors", "read", "weights")


def lacking(name: str, place: Path) -> list[str]:
    """What the form ``name`` of the registry lacks, by the names of ``Format`` or in words."""
    form = FORMATS[name]
    found = [part for part in NAMES if not hasattr(form, part)]
    found += ["a row in docs/checkpoints.md"] * (f"| `{name}` |" not in DOCS.read_text())
    if name not in SAMPLES:
        return [*found, "a small checkpoint in SAMPLES of this test"]
    if found:
        return found
    SAMPLES[name](place / name)
    sample = resolve(place / name)
    for part in WEIGHTS:
        claimed = [other for other in FORMATS if FORMATS[other].recognises(sample, part)]
        if claimed != [name]:
            found.append(f"recognises: its {part} is claimed by {claimed}")
    description = form.describe(sample)
    for part, (config, params) in OTHER_MODELS.get(name, lambda: MODELS)().items():
        if any(getattr(getattr(description, part), key) != value for key, value in config.items()):
            found.append(f"describe: another configuration of {part}")
        told: list[int] = []
        arrays = form.read(sample, part, None, params, None, told.append)
        if any(not np.array_equal(arrays[path], params[path]) for path in params):
            found.append(f"read: other arrays of {part}")
        if sum(told) != len(params):
            found.append(f"read: told of {sum(told)} arrays of {len(params)} in {part}")
        tensors = form.tensors(sample, part, None)
        for path, array in params.items():
            shape = torch_shape(path, array.shape)
            if tensors.shape(torch_name(path))[: len(shape)] != shape or tensors.dtype(torch_name(path)) != "F32":
                found.append(f"tensors: {path} of {part} is another")
        files = form.weights(sample, part, None)
        held = sum(file.stat().st_size for file in files if file.is_file() and file.is_relative_to(sample))
        if files != form.weights(sample, part, None) or held < sum(array.nbytes for array in params.values()) // 2:
            found.append(f"weights: {files} do not hold those of {part}")
    return found


@pytest.mark.parametrize("name", FORMATS)
def test_a_form_has_all_its_parts(name, tmp_path):
    assert lacking(name, tmp_path) == []


def half_made(**parts) -> SimpleNamespace:
    """The diffusers layout without the ``parts`` that are None, and with the others in the place of its own."""
    whole = {part: getattr(FORMATS["diffusers"], part) for part in NAMES}
    return SimpleNamespace(**{part: value for part, value in (whole | parts).items() if value is not None})


def read_wrongly(checkpoint, part, variant, abstract, dtype, progress):
    progress(len(abstract))
    return {path: np.zeros(leaf.shape, np.float32) for path, leaf in abstract.items()}


@pytest.mark.parametrize(
    ("form", "lacks"),
    [
        (half_made(read=None, weights=None), ["read", "weights"]),
        (half_made(TITLE=None), ["TITLE"]),
        (half_made(recognises=lambda checkpoint, part: True), ["recognises: its unet is claimed by"]),
        (half_made(read=read_wrongly), ["read: other arrays of vae"]),
        (half_made(weights=lambda checkpoint, part, variant: [checkpoint / part / "config.json"]), ["weights: "]),
    ],
)
def test_a_half_made_form_is_told_what_it_lacks(form, lacks, tmp_path, monkeypatch):
    monkeypatch.setitem(FORMATS, "diffusers", form)
    monkeypatch.setitem(FORMATS, "converted", SimpleNamespace(recognises=lambda checkpoint, part: part == "nothing"))
    if "is claimed by" in lacks[0]:
        monkeypatch.setattr(FORMATS["converted"], "recognises", form.recognises)
    found = "\n".join(lacking("diffusers", tmp_path))
    assert all(lack in found for lack in lacks), found


def test_a_form_without_docs_and_sample_is_told_so(tmp_path, monkeypatch):
    monkeypatch.setitem(FORMATS, "dummy", half_made())
    assert lacking("dummy", tmp_path) == ["a row in docs/checkpoints.md", "a small checkpoint in SAMPLES of this test"]


def test_forms_may_differ_from_part_to_part(tmp_path):
    write_converted(tmp_path / "mixed")
    shutil.rmtree(tmp_path / "mixed" / "vae")
    shutil.copytree(tmp_path / "to-convert" / "vae", tmp_path / "mixed" / "vae")
    mixed = resolve(tmp_path / "mixed")
    assert [format_of(mixed, part) is FORMATS["converted"] for part in WEIGHTS] == [True, False, True]
    assert Source(mixed).describe().vae == Source(tmp_path / "to-convert").describe().vae
    for part, (_, params) in MODELS.items():
        for path, array in Source(mixed).read(part, params).items():
            np.testing.assert_array_equal(array, params[path], err_msg=path)
    assert {name.split("/")[0] for name in Source(mixed).sha256()} == set(WEIGHTS)


def one_file() -> SimpleNamespace:
    """A form whose checkpoints are files, with nothing in them that is read."""
    return half_made(
        recognises=lambda checkpoint, part: checkpoint.suffix == ".dummy" and part in PARTS,
        read=read_wrongly,
        weights=lambda checkpoint, part, variant: [checkpoint],
    )


def test_a_checkpoint_may_be_one_file(tmp_path, monkeypatch):
    file = tmp_path / "model.dummy"
    file.write_bytes(b"weights")
    with pytest.raises(UserError, match="is a file; expected"):
        resolve(file)
    monkeypatch.setitem(FORMATS, "dummy", one_file())
    assert resolve(file) == file
    assert Source(file).read("vae", MODELS["vae"][1]).keys() == MODELS["vae"][1].keys()
    assert len(Source(file).sha256()) == 1


@pytest.mark.parametrize("make", [lambda path: path.write_text("unknown"), Path.mkdir], ids=["file", "directory"])
def test_what_has_no_form_is_told_all_forms(make, tmp_path):
    make(tmp_path / "unknown")
    assert missing(tmp_path / "unknown") == list(PARTS)
    for refused in (lambda: resolve(tmp_path / "unknown"), lambda: format_of(tmp_path / "unknown", "vae")):
        with pytest.raises(UserError) as caught:
            refused()
        assert str(tmp_path / "unknown") in str(caught.value)
        assert all(form.TITLE in str(caught.value) for form in FORMATS.values()), expected()
