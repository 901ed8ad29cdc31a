"""What can't work is called by its name: files, weights and directories as they are found.

Names of tensors are those that diffusers recognises models by (``CHECKPOINT_KEY_NAMES``), that its models and peft's
have, or that are published with the model.
"""

import json
import re
import time
import zipfile

import numpy as np
import pytest
import torch
from diffusers import ControlNetModel, MotionAdapter, UNet3DConditionModel
from diffusers.loaders.single_file_utils import CHECKPOINT_KEY_NAMES
from safetensors.numpy import save_file

from tests.checkpoint.pipelines import CROSS, PLAIN, VAE, make_models
from vrwkv_jax.checkpoint import kinds
from vrwkv_jax.checkpoint.hub import resolve
from vrwkv_jax.checkpoint.inspection import inspect
from vrwkv_jax.checkpoint.source import Source
from vrwkv_jax.system.errors import UserError

UNET = "model.diffusion_model.input_blocks.0.0.weight"
LABELS = "model.diffusion_model.label_emb.0.0.weight"
SMALL = {"block_out_channels": (32, 64), "norm_num_groups": 16, "cross_attention_dim": 40}


def tensors(*names, shape=(1, 1, 1)):
    return {name: np.zeros(shape, np.float16) for name in names}


def of_diffusers(key):
    """The tensor that diffusers recognises a model by, or the last of them, which has no prefix."""
    names = CHECKPOINT_KEY_NAMES[key]
    return tensors(names if isinstance(names, str) else names[-1])


def state(model, **shapes):
    return {name: np.zeros(1, np.float16) for name in model.state_dict()} | shapes


WEIGHTS = {
    "inpainting": ({UNET: np.zeros((320, 9, 3, 3))}, "an inpainting model, whose U-Net takes 9 channels"),
    "instruct-pix2pix": ({UNET: np.zeros((320, 8, 3, 3))}, "instruct-pix2pix or another"),
    "depth": ({UNET: np.zeros((320, 5, 3, 3))}, "Stable Diffusion 2 with depth"),
    "depth, by its estimator": (tensors(UNET, "depth_model.model.pretrained.cls_token"), "2 with depth"),
    "upscaler": ({UNET: np.zeros((256, 7, 3, 3))}, "the upscaler of Stable Diffusion"),
    "unclip": (tensors(UNET, "noise_augmentor.data_mean"), "Stable unCLIP"),
    "unclip, by its labels": ({LABELS: np.zeros((8, 2048))}, "Stable unCLIP"),
    "sdxl base": (of_diffusers("xl_base"), "is Stable Diffusion XL;"),
    "sdxl U-Net": ({LABELS: np.zeros((8, 2816))}, "is Stable Diffusion XL;"),
    "sdxl refiner": (
        of_diffusers("xl_refiner") | {LABELS: np.zeros((8, 2560))},
        "is the refiner of Stable Diffusion XL;",
    ),
    "sd3": (of_diffusers("sd3"), "Stable Diffusion 3"),
    "flux": (of_diffusers("flux"), "Flux"),
    "chroma and others": (of_diffusers("hunyuan-video"), "a diffusion transformer"),
    "lumina": (of_diffusers("lumina2"), "a diffusion transformer"),
    "z-image": (of_diffusers("z-image-turbo"), "a diffusion transformer"),
    "cascade b": (of_diffusers("stable_cascade_stage_b"), "Stable Cascade"),
    "cascade c": (of_diffusers("stable_cascade_stage_c"), "Stable Cascade"),
    "wan": (of_diffusers("wan"), "a video model"),
    "wan's VAE": (of_diffusers("wan_vae"), "the VAE of another model"),
    "ltx": (tensors("patchify_proj.weight"), "a video model"),
    "mochi": (of_diffusers("mochi-1-preview"), "a video model"),
    "animatediff": (of_diffusers("animatediff"), "AnimateDiff"),
    "animatediff of diffusers": (state(MotionAdapter(block_out_channels=(32,))), "AnimateDiff"),
    "modelscope": (
        state(
            UNet3DConditionModel(
                **SMALL,
                down_block_types=("CrossAttnDownBlock3D", "DownBlock3D"),
                up_block_types=("UpBlock3D", "CrossAttnUpBlock3D"),
                attention_head_dim=16,
            )
        ),
        "ModelScope",
    ),
    "modelscope's own": (tensors("input_blocks.1.1.temopral_conv.conv1.0.weight"), "ModelScope"),
    "svd": (tensors("model.diffusion_model.input_blocks.1.0.time_stack.in_layers.0.weight"), "Stable Video Diffusion"),
    "controlnet": (of_diffusers("controlnet"), "is a ControlNet, an addition"),
    "controlnet of its repository": (tensors("control_model.time_embed.0.weight", UNET), "is a ControlNet"),
    "controlnet of diffusers": (
        state(ControlNetModel(**SMALL, down_block_types=(CROSS[0], PLAIN[0]), attention_head_dim=8)),
        "is a ControlNet",
    ),
    "ip-adapter": (tensors("image_proj.proj.weight", "ip_adapter.1.to_k_ip.weight"), "is an IP-Adapter"),
    "lora of kohya": (
        tensors("lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight", "lora_te_text_model.alpha"),
        "is a LoRA, an addition to a model and none by itself",
    ),
    "lora of peft": (tensors("unet.down_blocks.0.attentions.0.to_q.lora_A.weight"), "is a LoRA"),
    "lora of diffusers": (tensors("unet.mid_block.attentions.0.attn1.processor.to_q_lora.up.weight"), "is a LoRA"),
    "loha": (tensors("lora_unet_mid_block_attentions_0_proj_in.hada_w1_a"), "is a LoRA"),
    "textual inversion": (tensors("emb_params", shape=(2, 768)), "is a textual inversion, an addition"),
    "textual inversion of diffusers": (tensors("<cat>", shape=(768,)), "is a textual inversion, an addition"),
    "textual inversion of SDXL": (tensors("clip_g", "clip_l", shape=(1, 768)), "is a textual inversion"),
    "VAE": (state(make_models(vae=VAE)["vae"]), "is a VAE alone, not a whole model: give it with vae;"),
    "VAE of the repository": (tensors("encoder.conv_in.weight", "loss.logvar"), "is a VAE alone"),
    "text encoder": (tensors("text_model.encoder.layers.0.mlp.fc1.bias"), "is a text encoder alone"),
    "U-Net": (tensors("model.diffusion_model.out.0.weight", "model.diffusion_model.out.0.bias"), "is a U-Net alone"),
    "U-Net of diffusers": (state(make_models()["unet"]), "is a U-Net alone"),
    "quantised": (tensors(UNET, f"{UNET}.absmax"), "is a quantised model; get it in float16"),
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_weights(name, tmp_path):
    arrays, said = WEIGHTS[name]
    file = tmp_path / "model.safetensors"
    save_file(arrays, file)
    with pytest.raises(UserError, match=f"^{re.escape(str(file))} is .*expected a text-to-image model") as caught:
        Source.find(file).describe()
    assert said in str(caught.value) and "\n" not in str(caught.value)
    assert f"It can't be used: {caught.value}" in inspect(file)[0]


# Those of which diffusers looks at a tensor that Stable Diffusion 1 or 2 has as well.
OURS = {"v1", "v2", "clip", "open_clip", "inpainting", "instruct-pix2pix", "upscale"}
SHARED = {"controlnet_xl_large", "controlnet_xl_mid", "clip_sdxl", "open_clip_sdxl_refiner", "xl_refiner"}
OTHERS = [
    name
    for key, names in CHECKPOINT_KEY_NAMES.items()
    if key not in OURS | SHARED
    for name in ([names] if isinstance(names, str) else names)
]


@pytest.mark.parametrize("name", OTHERS)
def test_every_model_that_diffusers_knows_is_called_something(name, tmp_path):
    file = tmp_path / "model.safetensors"
    save_file(tensors(name), file)
    with pytest.raises(UserError, match=f"^{re.escape(str(file))} is .*; expected a text-to-image model") as caught:
        Source.find(file).describe()
    assert "alone" not in str(caught.value)


FILES = {
    "model.gguf": (b"GGUF\x03\0\0\0{\0\0\0\0\0\0\0", "is a GGUF file"),
    "page.safetensors": (b"\n<!DOCTYPE html><html><head>", "is a web page or XML, not a checkpoint"),
    "error.ckpt": (b'{"error":"Entry not found"}', "is a JSON file, not a checkpoint"),
    "pointer.safetensors": (b"version https://git-lfs.github.com/spec/v1\noid", "git lfs pull"),
    "model.onnx": (b"\x08\x07\x12\x07pytorch\x1a\x051.13", "is an ONNX file"),
    "unnamed": (b"\x08\x06\x12\x07pytorch\x1a\x051.13", "is an ONNX file"),
    "unet.engine": (b"ftrt\0\0\0\0", "is an engine of TensorRT"),
    "model.mlmodel": (b"\x08\x01\x12\x00", "Core ML"),
    "model.msgpack": (b"\x82\xa6params", "a file of Flax"),
    "model.h5": (b"\x89HDF\r\n\x1a\n", "HDF5"),
    "picture.safetensors": (b"\x89PNG\r\n\x1a\n", "is a picture"),
    "model.7z": (b"7z\xbc\xaf\x27\x1c", "compressed archive"),
    "model.safetensors.part": (b"", "part of a download"),
}


@pytest.mark.parametrize("name", FILES)
def test_files(name, tmp_path):
    content, said = FILES[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=re.escape(str(tmp_path / name))) as caught:
        resolve(tmp_path / name)
    assert said in str(caught.value) and "expected a text-to-image model" in str(caught.value)


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("inner", ["model.safetensors", "sd/readme.txt"])
def test_archives(inner, compression, tmp_path):
    with zipfile.ZipFile(tmp_path / "model.ckpt", "w", compression) as archive:
        archive.writestr(inner, "read me")
    with pytest.raises(UserError, match=r"model.ckpt is an archive of other files: unpack it"):
        resolve(tmp_path / "model.ckpt")


@pytest.mark.parametrize("name", ["model.ckpt", "model.part", "data.pt", "model.onnx"])
@pytest.mark.parametrize("zipped", [True, False])
def test_what_torch_saves_is_a_file_of_weights_by_any_name(name, zipped, tmp_path):
    torch.save({"a": torch.ones(2)}, tmp_path / name, _use_new_zipfile_serialization=zipped)
    kinds.check_file(tmp_path / name)
    assert kinds.is_weights(tmp_path / name)


@pytest.mark.parametrize("size", [ord("{") + 256 * ord('"'), ord("\n") + 256 * ord("<"), 0x4E50_8989 % 2**16])
def test_a_header_whose_length_reads_as_text_is_safetensors(size, tmp_path):
    file = tmp_path / "model.safetensors"
    file.write_bytes(size.to_bytes(8, "little") + b"{}".ljust(size))
    kinds.check_file(file)


DIRECTORIES = {
    "sdxl": ({"model_index.json": {"_class_name": "StableDiffusionXLPipeline"}}, "is Stable Diffusion XL;"),
    "sdxl without an index": ({"text_encoder_2/config.json": {}}, "is Stable Diffusion XL or another model"),
    "sd3": ({"model_index.json": {"_class_name": "StableDiffusion3Pipeline"}}, "is Stable Diffusion 3"),
    "flux": ({"model_index.json": {"_class_name": "FluxPipeline"}}, "is Flux"),
    "pixart": ({"model_index.json": {"_class_name": "PixArtSigmaPipeline"}}, "is PixArt"),
    "a transformer": ({"transformer/config.json": {}}, "is a diffusion transformer"),
    "cascade": ({"model_index.json": {"_class_name": "StableCascadeDecoderPipeline"}}, "is Stable Cascade"),
    "modelscope": ({"model_index.json": {"_class_name": "TextToVideoSDPipeline"}}, "is ModelScope's text to video"),
    "svd": ({"model_index.json": {"_class_name": "StableVideoDiffusionPipeline"}}, "is Stable Video Diffusion"),
    "wan": ({"model_index.json": {"_class_name": "WanPipeline"}}, "is Wan, which makes videos"),
    "onnx": ({"model_index.json": {"_class_name": "OnnxStableDiffusionPipeline"}}, "is an ONNX pipeline"),
    "onnx by its files": ({"unet/model.onnx": {}}, "is an ONNX pipeline"),
    "controlnet": ({"config.json": {"_class_name": "ControlNetModel"}}, "is a ControlNet, an addition"),
    "motion adapter": ({"config.json": {"_class_name": "MotionAdapter"}}, "is a motion module of AnimateDiff"),
    "unet": ({"config.json": {"_class_name": "UNet2DConditionModel"}}, "is a U-Net alone"),
    "vae": ({"config.json": {"_class_name": "AutoencoderKL"}}, "is a VAE alone, not a whole model: give it with vae;"),
    "peft": ({"adapter_config.json": {}}, "is a LoRA, an addition"),
    "lora": ({"pytorch_lora_weights.safetensors": {}}, "is a LoRA, an addition"),
}


@pytest.mark.parametrize("name", DIRECTORIES)
def test_directories(name, tmp_path):
    files, said = DIRECTORIES[name]
    for file, values in files.items():
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text(json.dumps(values))
    with pytest.raises(UserError, match=f"^{re.escape(str(tmp_path))} is .*expected a text-to-image model") as caught:
        resolve(tmp_path)
    assert said in str(caught.value)


UNETS = {
    "inpainting": ({"in_channels": 9}, "an inpainting model"),
    "instruct-pix2pix": ({"in_channels": 8}, "instruct-pix2pix"),
    "depth": ({"in_channels": 5}, "Stable Diffusion 2 with depth"),
    "upscaler": ({"in_channels": 7, "num_class_embeds": 1000}, "the upscaler"),
    "sdxl": ({"addition_embed_type": "text_time"}, "of Stable Diffusion XL"),
    "unclip": ({"class_embed_type": "projection"}, "of Stable unCLIP"),
    "video": ({"_class_name": "UNet3DConditionModel"}, "this is ModelScope's text to video and no SD 1.x or 2.x model"),
}


@pytest.mark.parametrize("name", UNETS)
def test_configurations_of_unets(name, tiny_checkpoint, tmp_path):
    values, said = UNETS[name]
    for part in ("unet", "vae", "text_encoder", "scheduler", "tokenizer"):
        (tmp_path / part).mkdir()
        for file in (tiny_checkpoint / part).iterdir():
            (tmp_path / part / file.name).symlink_to(file)
    config = json.loads((tmp_path / "unet" / "config.json").read_text()) | values
    (tmp_path / "unet" / "config.json").unlink()
    (tmp_path / "unet" / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=re.escape(str(tmp_path / "unet" / "config.json"))) as caught:
        Source.find(tmp_path).describe()
    assert said in str(caught.value)


HOSTILE = {
    "many": tensors(*map(str, range(40_000)), shape=(0,)),
    "of many parts": tensors(*("x." * 480 + str(number) for number in range(4000)), shape=(0,)),
    "of many decoders": tensors(*("decoder." * 120 + str(number) for number in range(4000)), shape=(0,)),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_take_no_time(name, tmp_path):
    file = tmp_path / "model.safetensors"
    save_file(HOSTILE[name], file)
    start = time.process_time()
    with pytest.raises(UserError, match=re.escape(str(file))):
        Source.find(file).describe()
    assert time.process_time() - start < 5


@pytest.mark.parametrize("content", ["", "[]", '{"_class_name": 5}', '{"_class_name": ["StableDiffusionPipeline"]}'])
def test_an_index_that_says_nothing_says_nothing(content, tmp_path):
    (tmp_path / "model_index.json").write_text(content)
    kinds.check_directory(tmp_path)
