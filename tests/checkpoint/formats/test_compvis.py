"""Single files, against diffusers' own converters and the models that the files were made from."""

import warnings
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest
import torch
from diffusers.loaders.single_file_utils import (
    convert_ldm_clip_checkpoint,
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
    convert_open_clip_checkpoint,
)
from safetensors.torch import save_file

from tests.checkpoint import compvis_files
from tests.checkpoint.pipelines import save_pipeline
from tests.checkpoint.shapes import shapes
from tests.checkpoint.test_load import linear
from tests.torch_weights import assert_close, assign
from vrwkv_jax.checkpoint import compvis_names
from vrwkv_jax.checkpoint.configs import read_configs
from vrwkv_jax.checkpoint.conversion import convert
from vrwkv_jax.checkpoint.formats import compvis
from vrwkv_jax.checkpoint.hub import resolve
from vrwkv_jax.checkpoint.inspection import inspect
from vrwkv_jax.checkpoint.source import Source
from vrwkv_jax.checkpoint.weights_config import WeightsConfig
from vrwkv_jax.diffusion.schedule import NoiseSchedule
from vrwkv_jax.editing.components import Component, Components
from vrwkv_jax.models import params as P
from vrwkv_jax.models.video_config import VideoConfig
from vrwkv_jax.system.errors import UserError

FAMILIES = ("sd1", "sd2")
UNET = "model.diffusion_model."
ATTENTION = "first_stage_model.encoder.mid.attn_1.q.weight"
GUESSED = pytest.mark.filterwarnings("ignore:.*does not say what its U-Net predicts")
# Of the output's scale, as in tests/checkpoint/test_components.py.
UNET_TOLERANCE, VAE_TOLERANCE, TEXT_TOLERANCE = 1e-4, 2e-5, 1e-5


def write(file, tensors, metadata=None):
    save_file({name: tensor.clone().contiguous() for name, tensor in tensors.items()}, file, metadata)
    return file


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Of each family the models, the same in diffusers' layout, and their tensors in a single file."""
    place, result = tmp_path_factory.mktemp("single"), {}
    for family in FAMILIES:
        models = compvis_files.models(family)
        save_pipeline(place / family, models)
        result[family] = models, place / family, compvis_files.checkpoint(models, family)
    return result


def without(tensors, *beginnings):
    return {name: tensor for name, tensor in tensors.items() if not name.startswith(beginnings)}


def changed(tensors, name, tensor):
    assert name in tensors
    return tensors | {name: tensor}


def converted_by_diffusers(tensors, models):
    text = models["text_encoder"]
    by_kind = partial(convert_open_clip_checkpoint, text) if compvis_names.is_open_clip(tensors) else None
    converted = {
        "unet": convert_ldm_unet_checkpoint(dict(tensors), models["unet"].config),
        "vae": convert_ldm_vae_checkpoint(dict(tensors), models["vae"].config),
        "text_encoder": (by_kind or convert_ldm_clip_checkpoint)(dict(tensors)),
    }
    own = {name.removeprefix("text_model.") for name in text.state_dict()}
    text_tensors = {name.removeprefix("text_model."): tensor for name, tensor in converted["text_encoder"].items()}
    converted["text_encoder"] = {name: text_tensors[name] for name in own}  # but position_ids and text_projection
    converted["vae"] = {name: tensor for name, tensor in converted["vae"].items() if not name.startswith("loss.")}
    return converted


def assert_loads(file, directory, oracle):
    """Every array of ``file`` is the ``oracle``'s, by the shapes of the same model in diffusers' layout."""
    for part, abstract in shapes(directory).items():
        expected = assign(abstract, linear(oracle[part]))
        actual = Source(file).read(part, abstract)
        assert actual.keys() == abstract.keys()
        for path, array in actual.items():
            np.testing.assert_array_equal(array, expected[path], err_msg=path)


@GUESSED
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_is_what_diffusers_converts_it_to(family, dtype, made, tmp_path):
    models, directory, tensors = made[family]
    tensors = {name: tensor.to(dtype) if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
    file = resolve(write(tmp_path / "model.safetensors", tensors))
    assert_loads(file, directory, converted_by_diffusers(tensors, models))
    description = Source(file).describe()
    assert (description.unet, description.vae, description.text_encoder) == read_configs(directory)


def renamed(tensors, old, new):
    result = {name.replace(old, new): tensor for name, tensor in tensors.items()}
    assert result.keys() != tensors.keys()
    return result


def average_alone(tensors):
    return without(tensors, UNET) | compvis_files.averaged(tensors)


def averages_beside(tensors):
    return tensors | {name: torch.full_like(t, 9) for name, t in compvis_files.averaged(tensors).items()}


def squeezed(tensors):
    return changed(tensors, ATTENTION, tensors[ATTENTION][:, :, 0])


OTHER_NAMES = {
    "as in generative-models": ("sd2", lambda t: renamed(t, "cond_stage_model.", "conditioner.embedders.0.")),
    "with vae. in front": ("sd2", lambda t: renamed(t, "first_stage_model.", "vae.")),
    "text without text_model.": ("sd1", lambda t: renamed(t, ".text_model.", ".")),
    "averages beside": ("sd2", averages_beside),
    "averages alone": ("sd1", average_alone),
    "attention as convolutions over a line": ("sd2", squeezed),
}


@GUESSED
@pytest.mark.parametrize("name", OTHER_NAMES)
def test_other_names_of_the_same(name, made, tmp_path):
    family, change = OTHER_NAMES[name]
    models, directory, tensors = made[family]
    file = resolve(write(tmp_path / "model.safetensors", change(tensors)))
    assert Source(file).describe().unet == read_configs(directory)[0]
    assert_loads(file, directory, converted_by_diffusers(tensors, models))


def test_names_of_averages_at_full_size():
    """Numbers of two digits, and every name that Stable Diffusion has."""
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        model = UNet2DConditionModel(cross_attention_dim=768)
    tensors = compvis_files.prefixed(UNET, compvis_files.unet(model))
    averages = compvis_files.averaged(tensors)
    assert len(averages) == len(tensors) == 686
    assert compvis_names.unet(averages).keys() == compvis_names.unet(tensors).keys() == model.state_dict().keys()


def test_the_last_layer_of_openclip_is_left():
    names = [f"cond_stage_model.model.transformer.resblocks.{layer}.ln_1.weight" for layer in range(24)]
    config = type("Text", (), {"config": type("Config", (), {"hidden_size": 1})})
    converted = convert_open_clip_checkpoint(config, {name: torch.ones(1) for name in names})
    expected = {name.removeprefix("text_model.") for name in converted}
    assert compvis_names.text_encoder(names).keys() == expected and len(expected) == 23


def run(component: Component, *args, method="__call__") -> jax.Array:
    return _run(component.graphdef, method, component.params, *args)


@partial(jax.jit, static_argnums=(0, 1))
def _run(graphdef, method, params, *args):
    return getattr(P.merge(graphdef, params), method)(*args)


@GUESSED
@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("steps", [875000, 220000])
def test_files_of_training(steps, zipped, made, tmp_path):
    """As Lightning writes them, in both forms of torch.save; only the number of steps tells base models of 2.x."""
    models, directory, tensors = made["sd2"]
    saved = {"state_dict": tensors, "global_step": steps, "epoch": 3, "lr_schedulers": [], "optimizer_states": []}
    torch.save(saved, tmp_path / "model.ckpt", _use_new_zipfile_serialization=zipped)
    file = resolve(tmp_path / "model.ckpt")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        schedule = Source(file).describe().schedule
    assert schedule.prediction_type == ("epsilon" if steps == 875000 else "v_prediction")
    assert len(caught) == (steps != 875000)
    assert_loads(file, directory, converted_by_diffusers(tensors, models))


@GUESSED
@pytest.mark.parametrize("family", FAMILIES)
def test_computes_what_the_originals_do(family, made, tmp_path):
    models, _, tensors = made[family]
    file = write(tmp_path / "model.safetensors", tensors)
    loaded = Components.load(file, video=VideoConfig(mixer="none"), dtype=np.dtype(np.float32), seed=0)
    rng = np.random.default_rng(0)
    latents, text = (rng.normal(size=shape).astype(np.float32) for shape in ((2, 1, 8, 12, 4), (2, 7, 64)))
    images, timesteps = rng.uniform(-1, 1, size=(1, 16, 24, 3)).astype(np.float32), np.array([3, 981], np.int32)
    ids = loaded.tokenizer(["a jeep turns on a dusty road", ""])
    assert (ids[:, -1] == (0 if family == "sd2" else 49407)).all()
    channels_first = [torch.from_numpy(array).permute(0, 3, 1, 2) for array in (latents[:, 0], images)]
    with torch.no_grad():
        noise = models["unet"](channels_first[0], torch.tensor(timesteps), torch.from_numpy(text)).sample
        mean = models["vae"].encode(channels_first[1]).latent_dist.mean
        decoded = models["vae"].decode(channels_first[0]).sample
        hidden = models["text_encoder"](torch.from_numpy(ids).long()).last_hidden_state
    assert_close(np.asarray(run(loaded.unet, latents, timesteps, text)[:, 0]), noise, UNET_TOLERANCE)
    assert_close(np.asarray(run(loaded.vae, images, method="encode")[0]), mean, VAE_TOLERANCE)
    assert_close(np.asarray(run(loaded.vae, latents[:, 0], method="decode")), decoded, VAE_TOLERANCE)
    assert_close(np.asarray(run(loaded.text_encoder, ids)), hidden, TEXT_TOLERANCE)


@pytest.mark.parametrize(
    ("family", "extra", "metadata", "expected"),
    [
        ("sd1", {}, None, "epsilon"),
        ("sd1", {"v_pred": torch.tensor([])}, None, "v_prediction"),
        ("sd1", {}, {"modelspec.prediction_type": "v"}, "v_prediction"),
        ("sd1", {}, {"modelspec.prediction_type": "epsilon", "format": "pt"}, "epsilon"),
        ("sd1", {}, {"modelspec.prediction_type": "nonsense"}, "epsilon"),
        ("sd2", {"v_pred": torch.tensor([])}, None, "v_prediction"),
        ("sd2", {"global_step": torch.tensor(875000)}, None, "epsilon"),
        ("sd2", {}, {"modelspec.prediction_type": "epsilon"}, "epsilon"),
        ("sd2", {}, {"modelspec.architecture": "stable-diffusion-v2-768-v"}, "v_prediction"),
        ("sd2", {}, {"modelspec.architecture": "stable-diffusion-v2-512"}, "epsilon"),
    ],
)
def test_prediction_type_of_the_file(family, extra, metadata, expected, made, tmp_path):
    file = write(tmp_path / "model.safetensors", made[family][2] | extra, metadata)
    assert Source(file).describe().schedule == NoiseSchedule(prediction_type=expected)
    for given in ("epsilon", "v_prediction"):
        assert Source(file, WeightsConfig(prediction_type=given)).describe().schedule == NoiseSchedule(
            prediction_type=given
        )


@pytest.mark.parametrize("extra", [{}, {"global_step": torch.tensor(220000)}])
def test_what_a_file_of_sd2_does_not_say_is_taken_as_by_diffusers_and_said(extra, made, tmp_path):
    file = write(tmp_path / "model.safetensors", made["sd2"][2] | extra)
    with pytest.warns(UserWarning, match=r"v_prediction is taken.*give prediction_type='epsilon'"):
        assert Source(file).describe().schedule.prediction_type == "v_prediction"
    assert (
        Source(file, WeightsConfig(prediction_type="epsilon")).describe().schedule.prediction_type == "epsilon"
    )  # warnings are errors here


def test_the_mark_of_a_schedule_that_begins_in_pure_noise(made, tmp_path):
    marks = {"v_pred": torch.tensor([]), "ztsnr": torch.tensor([])}
    schedule = Source(write(tmp_path / "model.safetensors", made["sd1"][2] | marks)).describe().schedule
    assert schedule.prediction_type == "v_prediction" and schedule.alphas_cumprod[-1] == 0
    assert schedule.timesteps(10)[0] == 999


def test_notes(made, tmp_path):
    tensors = made["sd1"][2]
    assert compvis.notes(write(tmp_path / "plain.safetensors", tensors)) == []
    averages, own = compvis_files.averaged(tensors), {"something.else": torch.ones(1)}
    both = write(tmp_path / "both.safetensors", tensors | averages)
    [said] = compvis.notes(both)
    assert "plain ones are used" in said and said in "\n".join(inspect(both)[0])
    rest = {name: tensor for name, tensor in tensors.items() if not name.startswith(UNET)}
    said = compvis.notes(write(tmp_path / "averages.safetensors", rest | averages | own))
    assert "averages" not in said[0] and "averaged weights (EMA) alone, which are used" in said[0]
    assert said[1] == "1 of its tensors are no part of the model and are left: something.else"


TIME = f"{UNET}time_embed.2.weight"
BAD = {
    "no VAE": (lambda t: without(t, "first_stage_model."), r"has no VAE; expected U-Net, VAE and text encoder"),
    "no text and no U-Net": (lambda t: without(t, UNET, "cond_"), "is a VAE alone, not a whole model: give"),
    "nothing": (lambda t: {"a.b": torch.ones(2, 2, 2)}, r"holds no Stable Diffusion model, but a.b, ...; expected a s"),
    "no first convolution": (lambda t: without(t, f"{UNET}input_blocks.0."), r"not complete: it has no conv_in.weight"),
    "no level": (lambda t: without(t, f"{UNET}input_blocks."), r"it has no "),
    "no attention": (
        lambda t: {name: tensor for name, tensor in t.items() if ".transformer_blocks." not in name},
        r"it has no down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight",
    ),
    "no embedding": (lambda t: without(t, "cond_stage_model.transformer.text_model.emb"), "it has no embeddings.token"),
    "a first convolution of one axis": (
        lambda t: changed(t, f"{UNET}input_blocks.0.0.weight", torch.ones(64)),
        r"conv_in.weight .* has the shape \[64\], as in no model",
    ),
    "channels of no model": (
        lambda t: changed(t, f"{UNET}input_blocks.1.0.out_layers.3.weight", torch.ones(0, 64, 3, 3)),
        r"block_out_channels is \[0, 64, 128\], which is not possible",
    ),
    "channels without groups": (
        lambda t: changed(t, f"{UNET}input_blocks.1.0.out_layers.3.weight", torch.ones(65, 64, 3, 3)),
        r"block_out_channels is \[65, 64, 128\] and norm_num_groups",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_is_not_whole_is_said_before_weights_are_read(name, made, tmp_path):
    change, message = BAD[name]
    file = write(tmp_path / "model.safetensors", change(made["sd1"][2]))
    with pytest.raises(UserError, match=message) as caught:
        Source.find(file).describe()
    assert str(file) in str(caught.value)


def test_tensors_that_do_not_fit_are_all_named(made, tmp_path):
    _, directory, tensors = made["sd1"]
    tensors = without(tensors, f"{UNET}out.0.bias") | {TIME: torch.ones(3, 3), f"{UNET}strange.weight": torch.ones(1)}
    file = write(tmp_path / "model.safetensors", tensors)
    with pytest.raises(UserError) as caught:
        Source(file).read("unet", shapes(directory)["unet"])
    message = str(caught.value)
    assert f"{file} are not those of one Stable Diffusion" in message and "config.json" not in message
    assert "1 missing, 1 unexpected, 1 of the wrong shape" in message
    for said in ("conv_norm_out.bias", "strange.weight", "time_embedding.linear_2.weight: [3, 3], expected [256, 256]"):
        assert said in message


def test_converted_it_is_the_same(made, tmp_path):
    _, directory, tensors = made["sd2"]
    file = write(tmp_path / "model.safetensors", tensors | {"v_pred": torch.tensor([])})
    convert(file, tmp_path / "converted")
    was, now = Source(file).describe(), Source.find(tmp_path / "converted").describe()
    assert (now.unet, now.vae, now.text_encoder, now.schedule) == (was.unet, was.vae, was.text_encoder, was.schedule)
    prompts = ["a photo of an astronaut riding a horse on mars"]
    assert now.tokenizer(prompts).tolist() == was.tokenizer(prompts).tolist()
    assert now.schedule.prediction_type == "v_prediction"
    for part, abstract in shapes(directory).items():
        expected, actual = Source(file).read(part, abstract), Source(tmp_path / "converted").read(part, abstract)
        for path in abstract:
            np.testing.assert_array_equal(actual[path], expected[path], err_msg=path)


def test_a_link_to_a_file_is_that_file(made, tmp_path):
    (tmp_path / "link").symlink_to(write(tmp_path / "model.safetensors", made["sd1"][2]))
    assert Source.find(tmp_path / "link").describe().unet.cross_attention_dim == 64
    assert compvis.weights(Path("x"), "vae", None) == [Path("x")]
