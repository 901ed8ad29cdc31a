"""A tuned run as a checkpoint: it loads again here with its mixers, and in diffusers without."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from diffusers import StableDiffusionPipeline
from safetensors.numpy import load_file

from vrwkv_jax.checkpoint.conversion import convert as convert_checkpoint
from vrwkv_jax.checkpoint.inspection import inspect
from vrwkv_jax.commands import convert
from vrwkv_jax.editing.editor import Editor
from vrwkv_jax.models.parameter_rules import ADDED
from vrwkv_jax.runs.run import load_run
from vrwkv_jax.system.errors import UserError


@pytest.fixture(scope="module")
def exported(whole, tmp_path_factory):
    directory = tmp_path_factory.mktemp("exported") / "model"
    convert.main(["to-diffusers", str(whole), str(directory)])
    return directory


def test_it_is_the_tuned_model_again(whole, exported):
    run, editor = load_run(whole), Editor.from_pretrained(exported, dtype="float32")
    tuned = run.editor()
    assert editor.video == tuned.video
    assert editor.unet.params.keys() == tuned.unet.params.keys()
    for path, leaf in tuned.unet.params.items():
        np.testing.assert_array_equal(editor.unet.params[path], leaf, err_msg=path)
    untouched = Editor.from_pretrained(run.config.model, video=run.config.video_model, dtype="float32").unet.params
    changed = [path for path in untouched if not np.array_equal(untouched[path], editor.unet.params[path])]
    assert any(ADDED.search(path) for path in changed) and any("to_q" in path for path in changed)


def test_diffusers_loads_the_image_model(whole, exported):
    pipeline = StableDiffusionPipeline.from_pretrained(exported, local_files_only=True, safety_checker=None)
    tuned = load_run(whole).editor().unet.params
    weights = pipeline.unet.state_dict()
    path = next(path for path in tuned if path.endswith("attn1/to_q/kernel"))
    np.testing.assert_array_equal(weights[path.replace("/", ".").replace("kernel", "weight")], tuned[path].T)
    base = load_run(whole).config.model
    for part in ("vae/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors"):
        theirs, ours = load_file(f"{base}/{part}"), load_file(exported / part)
        assert theirs.keys() == ours.keys()
        assert all(np.array_equal(theirs[name], ours[name]) for name in theirs)


def test_the_model_card_says_what_it_was_made_of(whole, exported):
    run, card = load_run(whole), (exported / "README.md").read_text()
    for said in (Path(run.config.model).name, run.config.prompt, run.metrics["provenance"]["clip_sha256"], "licence"):
        assert said in card
    assert all(value in card for value in run.metrics["provenance"]["weights_sha256"].values())
    assert json.loads(card.split("```json\n")[1].split("```")[0])["tuning"]["steps"] == run.config.tuning.steps


@pytest.mark.parametrize("to", ["converted", "diffusers"])
def test_it_keeps_its_mixers_when_it_is_converted(to, exported, tmp_path):
    convert_checkpoint(exported, tmp_path / "new", to=to)
    before, after = (Editor.from_pretrained(place, dtype="float32") for place in (exported, tmp_path / "new"))
    assert after.video == before.video
    for path, leaf in before.unet.params.items():
        np.testing.assert_array_equal(after.unet.params[path], leaf, err_msg=path)
    assert (tmp_path / "new" / "README.md").read_bytes() == (exported / "README.md").read_bytes()


def test_inspect_sees_mixers_that_are_damaged(exported, tmp_path):
    assert inspect(exported)[1]
    shutil.copytree(exported, tmp_path / "copy")
    file = tmp_path / "copy" / "mixers" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    lines, is_usable = inspect(tmp_path / "copy")
    assert not is_usable and "mixers" in lines[-1]


def test_with_another_configuration_the_mixers_are_not_used(whole, exported):
    other = replace(load_run(whole).config.video_model, skip_gate=True)
    with pytest.warns(UserWarning, match="has mixers of another configuration \\(vrwkv\\), which are not used"):
        editor = Editor.from_pretrained(exported, video=other, dtype="float32")
    assert not np.asarray(editor.unet.params["mid_block/mixer/channel/to_v/kernel"]).any()


def test_mixers_that_are_damaged(exported, tmp_path):
    shutil.copytree(exported, tmp_path / "copy")
    config = tmp_path / "copy" / "mixers" / "config.json"
    for text, said in (
        ("[]", "config.json: video_model is .*should be an object"),
        ('{"video_model": {"mixer": "x"}}', "video_model.mixer is 'x'"),
        (json.dumps({"video_model": {"skip_gate": True}}), "do not fit"),
    ):
        config.write_text(text)
        with pytest.raises(UserError, match=said):
            Editor.from_pretrained(tmp_path / "copy", dtype="float32")


def test_a_run_takes_no_settings_of_weights(whole, tmp_path):
    with pytest.raises(UserError, match="is a run, whose weights are written as they are"):
        convert.main(["to-diffusers", str(whole), str(tmp_path / "out"), "--dtype", "float16"])
    assert not (tmp_path / "out").exists()
