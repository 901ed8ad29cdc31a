"""A VAE by itself in all forms, against diffusers' own."""

import re

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file, save_file

from tests.checkpoint import compvis_files
from tests.checkpoint.shapes import shapes_of
from tests.torch_weights import assert_close, assign, randomize
from vrwkv_jax.checkpoint import native
from vrwkv_jax.checkpoint.configs import vae_config
from vrwkv_jax.checkpoint.vae_files import check_replaces, describe_vae, load_vae, vae_weights
from vrwkv_jax.models import params as P
from vrwkv_jax.models.vae import AutoencoderKL as OurVAE
from vrwkv_jax.models.vae import VAEConfig
from vrwkv_jax.system.errors import UserError

MODEL = randomize(AutoencoderKL(**compvis_files.VAE))
CONFIG = vae_config(dict(MODEL.config), "diffusers")
FILE = "diffusion_pytorch_model.safetensors"


def contiguous(tensors):
    return {name: tensor.clone().contiguous() for name, tensor in tensors.items()}


def old_names(tensors):
    """As diffusers before 0.18, with attention as convolutions of size 1."""
    new = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    result = {}
    for name, tensor in tensors.items():
        for now, old in new.items():
            name = name.replace(f"attentions.0.{now}.", f"attentions.0.{old}.")
        is_kernel = re.search(r"(query|key|value|proj_attn)\.weight$", name)
        result[name] = tensor[:, :, None, None] if is_kernel else tensor
    assert sum(".query." in name for name in result) == 4
    return result


def directory(place):
    MODEL.save_pretrained(place)
    return place


def pickled_directory(place):
    MODEL.save_pretrained(place, safe_serialization=False)
    return place


def whole_directory(place):
    directory(place / "vae")
    (place / "unet").mkdir()
    return place


def converted(place):
    directory(place)
    params = assign(shapes_of(CONFIG), MODEL.state_dict())
    (place / FILE).unlink()
    native.save(place, params)
    return place


def old_directory(place):
    directory(place)
    save_file(contiguous(old_names(load_file(place / FILE))), place / FILE)
    return place


def of(tensors):
    def write(place):
        save_file(contiguous(tensors), place.with_suffix(".safetensors"))
        return place.with_suffix(".safetensors")

    return write


def pickle_of(contents):
    def write(place):
        torch.save(contents, place.with_suffix(".pt"))
        return place.with_suffix(".pt")

    return write


OURS = MODEL.state_dict()
THEIRS = compvis_files.vae(MODEL)
LOSS = {"loss.logvar": torch.zeros(()), "loss.discriminator.main.0.weight": torch.zeros(2, 3, 4, 4)}
FORMS = {
    "a directory": directory,
    "a directory of pickles": pickled_directory,
    "a directory with the old names of attention": old_directory,
    "the directory of a whole checkpoint": whole_directory,
    "a converted directory": converted,
    "a file of diffusers": of(OURS),
    "a file of diffusers with the old names of attention": of(old_names(OURS)),
    "a file of the repository": of(THEIRS | LOSS),
    "a file of the repository with a prefix": of(compvis_files.prefixed("first_stage_model.", THEIRS | LOSS)),
    "a whole checkpoint": of(
        compvis_files.prefixed("first_stage_model.", THEIRS)
        | {"model.diffusion_model.out.0.bias": torch.ones(2), "cond_stage_model.model.ln_final.bias": torch.ones(2)}
    ),
    "a pickle of the training": pickle_of({"state_dict": THEIRS | LOSS, "epoch": 3, "callbacks": {}}),
    "a pickle": pickle_of(THEIRS),
}


@pytest.mark.parametrize("name", FORMS)
def test_is_diffusers_vae(name, tmp_path):
    path = FORMS[name](tmp_path / "own-vae")
    assert describe_vae(path) == CONFIG
    abstract, told = shapes_of(CONFIG), []
    params = load_vae(path, abstract, progress=told.append)
    for leaf, expected in assign(abstract, OURS).items():
        np.testing.assert_array_equal(params[leaf], expected, err_msg=leaf)
    assert sum(told) == len(abstract)
    files = vae_weights(path)
    assert (
        files == vae_weights(path) and sum(f.stat().st_size for f in files) > sum(t.nbytes for t in OURS.values()) / 2
    )


def test_decodes_as_diffusers(tmp_path):
    path = of(THEIRS)(tmp_path / "own-vae")
    config = describe_vae(path)
    graphdef, abstract = P.abstract(lambda rngs: OurVAE(config, rngs=rngs))
    latents = np.random.default_rng(0).normal(size=(1, 4, 6, 4)).astype(np.float32)
    with torch.no_grad():
        expected = MODEL.decode(torch.from_numpy(latents).permute(0, 3, 1, 2)).sample
    decoded = P.merge(graphdef, load_vae(path, abstract)).decode(jnp.asarray(latents))
    assert_close(np.asarray(decoded), expected, 2e-5)  # as in tests/models/test_vae.py


def lacking(*parts):
    return {name: tensor for name, tensor in THEIRS.items() if not name.startswith(parts)}


REFUSED = {
    "a LoRA": (of({"lora_unet_mid_block.lora_up.weight": torch.ones(2, 2)}), "is a LoRA; expected a VAE of Stable"),
    "a U-Net": (of({"model.diffusion_model.out.0.bias": torch.ones(2)}), "is a U-Net alone; expected a VAE"),
    "SDXL": (
        of(compvis_files.prefixed("first_stage_model.", THEIRS) | {"conditioner.embedders.1.model.a": torch.ones(1)}),
        "is Stable Diffusion XL; expected a VAE",
    ),
    "something": (of({"a.b": torch.ones(1, 1, 1)}), "is no VAE; expected"),
    "Wan's VAE": (of({"decoder.middle.0.residual.0.gamma": torch.ones(4, 1, 1, 1)}), "is the VAE of another model"),
    "a decoder": (of(lacking("encoder.", "quant")), "is not complete: it has no encoder.conv_in.weight"),
    "a gap": (of(lacking("decoder.conv_in.")), "is not complete: it has no decoder.conv_in.weight"),
    "nothing": (lambda place: place, "there is no"),
    "no configuration": (lambda place: place.mkdir() or place, "has no config.json of a VAE; expected"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_vae(name, tmp_path):
    write, said = REFUSED[name]
    path = write(tmp_path / "other")
    with pytest.raises(UserError, match=re.escape(str(path))) as caught:
        describe_vae(path)
    assert said in str(caught.value)


def test_tensors_that_do_not_fit(tmp_path):
    path = of(lacking("decoder.mid.block_1.") | {"decoder.more": torch.ones(1)})(tmp_path / "other")
    with pytest.raises(UserError, match=r"other.safetensors are not those of one VAE .*8 missing, 1 unexpected"):
        load_vae(path, shapes_of(CONFIG))


def test_a_vae_of_another_kind(tmp_path):
    config = {**compvis_files.VAE, "latent_channels": 16, "shift_factor": 0.1159, "scaling_factor": 0.3611}
    AutoencoderKL(**config, use_quant_conv=False, use_post_quant_conv=False).save_pretrained(tmp_path / "flux")
    with pytest.raises(UserError, match=r"vae: latent_channels of .*flux is 16, and that of the model's own is 4"):
        check_replaces(CONFIG, describe_vae(tmp_path / "flux"), tmp_path / "flux")


@pytest.mark.parametrize(("key", "value"), [("scaling_factor", 0.13025), ("shift_factor", 0.1)])
def test_latents_of_another_scale(key, value, tmp_path):
    other = VAEConfig(**{**vars(CONFIG), key: value})
    with pytest.raises(UserError, match=f"{key} of sdxl-vae is {value}, and that of the model's own is"):
        check_replaces(CONFIG, other, tmp_path.joinpath("sdxl-vae").relative_to(tmp_path))
    check_replaces(CONFIG, CONFIG, tmp_path)
    check_replaces(CONFIG, VAEConfig(**{**vars(CONFIG), "layers_per_block": 1}), tmp_path)
