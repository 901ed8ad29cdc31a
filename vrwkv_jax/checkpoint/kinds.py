"""What people have that is no Stable Diffusion 1.x or 2.x, recognised and called by its name, in tables.

Files are told apart by their first bytes, weights by the names and shapes of their tensors, directories by what
diffusers and peft write into them. In each table the first line that fits is what it is.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from vrwkv_jax.checkpoint.compvis_names import is_no_part
from vrwkv_jax.checkpoint.safetensors_files import is_safetensors
from vrwkv_jax.checkpoint.small_files import read_json
from vrwkv_jax.checkpoint.tensors import Tensors
from vrwkv_jax.checkpoint.torch_files import is_torch
from vrwkv_jax.checkpoint.unreadable import first_bytes
from vrwkv_jax.system.errors import UserError, setting

VAE_ALONE = "a VAE alone"
FLAGS = {"a LoRA": "lora", "a textual inversion": "embedding"}
ADDITIONS = ("a LoRA", "a textual inversion", "a ControlNet", "an IP-Adapter", "a T2I-Adapter")
WANTED = "expected a text-to-image model of Stable Diffusion 1.x or 2.x"

# Names beyond these are nobody's: the largest models have some 3,000, of 150 characters.
MOST_NAMES, LONGEST_NAME = 2**15, 250

# What begins a file that is no file of weights, or none that is read.
BEGINNINGS = (
    (rb"GGUF", "a GGUF file, whose weights are quantised; get the model as safetensors"),
    (rb"version https://git-lfs", "a pointer to a file in Git LFS: run `git lfs pull` in the repository of it"),
    (rb"\s*<(!doctype|html|\?xml|head)", "a web page or XML, not a checkpoint: download the file itself"),
    (rb"\s*\{", "a JSON file, not a checkpoint: an error of the server, or a configuration without its weights"),
    (rb"\x89HDF", "an HDF5 file of Keras; get the model as safetensors"),
    (rb"[fp]trt", "an engine of TensorRT, made for one GPU; get the model as safetensors"),
    (rb"\x08[\x01-\x20](\x12.{1,40}?(pytorch|onnx|tf2onnx)|:)", "an ONNX file; get the model as safetensors"),
    (rb"\x89PNG|\xff\xd8\xff|RIFF....WEBP|GIF8", "a picture, not a checkpoint"),
    (rb"....ftyp|\x1aE\xdf\xa3", "a video, not a checkpoint"),
    # torch.save compresses nothing, and all is in one folder.
    (rb"PK\x03\x04(.{4}[^\0]|.{26}(?![^/]+/(data|version|byteorder|code|constants|extra|\.)))|PK\x05\x06",
     "an archive of other files: unpack it"),
    (rb"7z\xbc\xaf|Rar!|\x1f\x8b|BZh|\xfd7zXZ|\x28\xb5\x2f\xfd", "a compressed archive: unpack it"),
)  # fmt: skip
ENDINGS = {
    ".onnx": "an ONNX file; get the model as safetensors",
    ".mlmodel": "a model of Core ML; get it as safetensors",
    ".mlpackage": "a model of Core ML; get it as safetensors",
    ".mlmodelc": "a model of Core ML; get it as safetensors",
    ".engine": "an engine of TensorRT, made for one GPU; get the model as safetensors",
    ".plan": "an engine of TensorRT, made for one GPU; get the model as safetensors",
    ".trt": "an engine of TensorRT, made for one GPU; get the model as safetensors",
    ".msgpack": "a file of Flax; get the model as safetensors",
    ".gguf": "a GGUF file, whose weights are quantised; get the model as safetensors",
    ".part": "part of a download that has not ended",
    ".crdownload": "part of a download that has not ended",
    ".aria2": "part of a download that has not ended",
}

# Names of tensors, in files. Those that no model of text to image has come first.
NAMES = (
    (r"\.(lora_(up|down|A|B|mid)|lora\.(up|down)|lora_linear_layer)\b|_lora\.(up|down)\.", "a LoRA"),
    (r"^lora_(unet|te\d?|prior)|\.(hada|lokr)_w\d|\.dora_scale$|\.oft_(blocks|diag)", "a LoRA"),
    (r"^(string_to_param|emb_params|clip_[gl]$)", "a textual inversion"),
    (r"motion_modules?\.|\.motion_module", "a motion module of AnimateDiff, which makes videos"),
    (r"\.time_stack\.|\.temporal_(res_block|transformer_blocks)\.", "Stable Video Diffusion, which makes videos"),
    (r"tem[op]+ral_conv|\.temp_(convs|attentions)\.|^transformer_in\.", "ModelScope's text to video"),
    (r"^(control_model|controlnet_(cond_embedding|down_blocks|mid_block))\.", "a ControlNet"),
    (r"(^|\.)(input_hint_block|zero_convs)\.|^control_(all_x_embedder|layers)\.", "a ControlNet"),
    (r"^(image_proj|ip_adapter)\.", "an IP-Adapter"),
    (r"^(adapter\.)?body\.\d+\.(resnets|block1|in_conv)\.", "a T2I-Adapter"),
    (r"(^|\.)joint_blocks\.\d|^text_encoders\.clip_[lg]\.", "Stable Diffusion 3"),
    (r"(^|\.)double_blocks\.\d+\.(img|txt)_(attn|mod)|single_transformer_blocks\.\d", "Flux or a child of it"),
    (r"distilled_guidance_layer\.|(single|early)_stream_modulations?\.|(^|\.)ref_time_in\.", "Flux or a child of it"),
    (r"^clip_txt_(mapper|pooled_mapper)|^effnet_mapper|\.channelwise\.\d", "Stable Cascade"),
    (r"patchify_proj|(^|\.)head\.modulation$|\.attn\.qkv_x\.|^vace_blocks\.|^motion_encoder\.|\.av_ca_|^audio_vae\."
     r"|^vae\.(decoder\.last_scale|.*\.res_blocks\.|per_channel_statistics)", "a video model (Wan, LTX, Mochi, ...)"),
    (r"decoder\.middle\.\d+\.residual\.|^((first_stage_model|vae)\.)?decoder\..*\.(conv\.conv|time_conv)\.|^encoder\.project_in\.",
     "the VAE of another model"),
    (r"(^|\.)(adaln_single|adaLN_modulation|x_embedder\.proj|scale_shift_table|cap_embedder)"
     r"|(^|\.)(blocks\.\d+\.(cross_attn|self_attn|attn|ffn)|double_layers\.\d+|cond_seq_linear|t_embedder\.mlp"
     r"|txt_in|txtfusion|token_refiner|net\.\w*blocks?|\w*pos_embedder)\.",
     "a diffusion transformer (PixArt, Sana, ...)"),
    (r"^conditioner\.embedders\.1\.|^edm_mean$|^add_embedding\.", "Stable Diffusion XL"),
    (r"^(noise_augmentor|embedder\.model\.visual)\.", "Stable unCLIP, which starts from a picture"),
    (r"^depth_model\.", "Stable Diffusion 2 with depth"),
    (r"^low_scale_model\.", "the upscaler of Stable Diffusion"),
    (r"\.(absmax|quant_map|quant_state\.|scale_weight$|weight_scale)", "a quantised model; get it in float16"),
)  # fmt: skip
# Where no name says it: the widths of the first convolution's input, and of what names the size of a picture to SDXL.
CONVOLUTIONS = ("model.diffusion_model.input_blocks.0.0.weight", "conv_in.weight")
CHANNELS = {
    9: "an inpainting model, whose U-Net takes 9 channels (latents, masked latents and a mask)",
    8: "instruct-pix2pix or another model that starts from a picture, whose U-Net takes 8 channels",
    7: "the upscaler of Stable Diffusion, whose U-Net takes 7 channels",
    5: "Stable Diffusion 2 with depth, whose U-Net takes 5 channels",
}
LABELS = "model.diffusion_model.label_emb.0.0.weight"
LABEL_WIDTHS = {2816: "Stable Diffusion XL", 2560: "the refiner of Stable Diffusion XL", 768: "Stable Video Diffusion"}
# What is only part of a model: what all of its names begin with.
PARTS = (
    (r"(first_stage_model\.|vae\.)?(encoder|decoder|quant_conv|post_quant_conv|loss)\.", VAE_ALONE),
    (r"(cond_stage_model\.|text_model\.|transformer\.|positional_embedding|token_embedding|ln_final|text_projection"
     r"|logit_scale|visual\.|vision_model\.|visual_projection)", "a text encoder alone"),
    (r"(model\.diffusion_model|conv_in|conv_out|conv_norm_out|time_embedding|down_blocks|mid_block|up_blocks)\b",
     "a U-Net alone"),
)  # fmt: skip

# model_index.json's _class_name, by how it begins.
PIPELINES = (
    ("StableDiffusionXL", "Stable Diffusion XL"),
    ("StableDiffusion3", "Stable Diffusion 3"),
    ("StableDiffusionUpscale", "the upscaler of Stable Diffusion"),
    ("StableDiffusionLatentUpscale", "the upscaler of Stable Diffusion"),
    ("StableDiffusionDepth2Img", "Stable Diffusion 2 with depth"),
    ("StableDiffusionInstructPix2Pix", "instruct-pix2pix, which starts from a picture"),
    ("StableDiffusionImageVariation", "Stable Diffusion's image variations, which start from a picture"),
    ("StableUnCLIP", "Stable unCLIP, which starts from a picture"),
    ("StableVideoDiffusion", "Stable Video Diffusion, which makes videos"),
    ("StableCascade", "Stable Cascade"),
    ("Wuerstchen", "Stable Cascade"),
    ("AnimateDiff", "AnimateDiff, which makes videos"),
    ("TextToVideo", "ModelScope's text to video"),
    ("VideoToVideo", "ModelScope's text to video"),
    ("Onnx", "an ONNX pipeline; get the model as safetensors"),
    ("Flux", "Flux"),
    ("PixArt", "PixArt"),
    ("Wan", "Wan, which makes videos"),
    ("LTX", "LTX, which makes videos"),
    ("CogVideo", "CogVideo, which makes videos"),
    ("HunyuanVideo", "HunyuanVideo, which makes videos"),
    ("Mochi", "Mochi, which makes videos"),
    ("Kandinsky", "Kandinsky"),
    ("Marigold", "Marigold, which starts from a picture"),
    ("IFPipeline", "DeepFloyd IF"),
    ("LatentConsistencyXL", "Stable Diffusion XL"),
)  # fmt: skip
# _class_name in the config.json of a single model's directory.
MODELS = {
    "AutoencoderKL": VAE_ALONE,
    "ControlNetModel": "a ControlNet",
    "T2IAdapter": "a T2I-Adapter",
    "MotionAdapter": "a motion module of AnimateDiff, which makes videos",
    "UNetMotionModel": "AnimateDiff, which makes videos",
    "UNet3DConditionModel": "ModelScope's text to video",
    "UNetSpatioTemporalConditionModel": "Stable Video Diffusion, which makes videos",
    "StableCascadeUNet": "Stable Cascade",
    "UNet2DConditionModel": "a U-Net alone",
}
# Values of a U-Net's config.json.
UNETS = (
    ("addition_embed_type", "text_time", "Stable Diffusion XL"),
    ("class_embed_type", "projection", "Stable unCLIP, which starts from a picture"),
    ("encoder_hid_dim_type", "image_proj", "Kandinsky"),
    ("addition_embed_type", "image", "Kandinsky"),
    ("addition_embed_type", "text", "DeepFloyd IF"),
    ("num_class_embeds", 1000, "the upscaler of Stable Diffusion"),
)
FOLDERS = {
    "transformer": "a diffusion transformer (Stable Diffusion 3, Flux, PixArt, ...)",
    "text_encoder_3": "Stable Diffusion 3",
    "text_encoder_2": "Stable Diffusion XL or another model with two text encoders",
    "motion_adapter": "AnimateDiff, which makes videos",
    "prior": "Stable Cascade or Kandinsky",
}
LORA_FILES = ("adapter_config.json", "pytorch_lora_weights.safetensors", "pytorch_lora_weights.bin")


def check_file(path: Path) -> None:
    """Raises UserError where ``path`` is a file that holds no weights of PyTorch, and it can be seen what it is."""
    begin = first_bytes(path)
    what = None if is_weights(path) else ENDINGS.get(path.suffix.lower())
    if not _is_safetensors(begin):
        what = _first(BEGINNINGS, begin) or what
    if what:
        raise UserError(f"{path} is {what}; {WANTED}")


def is_weights(path: Path) -> bool:
    """Whether ``path`` begins as a file of safetensors or of PyTorch does."""
    begin = first_bytes(path)
    return _is_safetensors(begin) or is_torch(begin)


def check_tensors(path: Path, tensors: Tensors) -> None:
    """Raises UserError where ``tensors`` are those of another model, of an addition to one, or of a part of one."""
    what = kind_of(tensors)
    if what is not None:
        raise UserError(f"{path} is {what}{_advice(what)}; {WANTED}")


def kind_of(tensors: Tensors) -> str | None:
    """What ``tensors`` are if they are no Stable Diffusion 1.x or 2.x, such as "a LoRA", as far as it can be seen."""
    names = [name for name in tensors if not is_no_part(name) or name == "edm_mean"]
    if len(names) > MOST_NAMES:
        return f"a file of {len(names)} tensors, more than any such model has"
    what = next(
        (what for pattern, what in NAMES if any(re.search(pattern, name[:LONGEST_NAME]) for name in names)), None
    )
    what = what or _by_shape({name: tensors.shape(name) for name in (*CONVOLUTIONS, LABELS) if name in names})
    what = what or next((part for pattern, part in PARTS if names and all(re.match(pattern, n) for n in names)), None)
    few = 0 < len(names) <= 2 and all(len(tensors.shape(name)) <= 2 for name in names)
    return what or ("a textual inversion" if few else None)


def check_directory(path: Path) -> None:
    """Raises UserError where the directory ``path`` holds another model, an addition to one, or a part of one."""
    if (path / "config.yaml").is_file() and (path / "log.jsonl").is_file():
        raise UserError(
            f"{path} is a run of train.tune: make a checkpoint of it with `python -m convert to-diffusers {path} DST`"
        )
    what = ENDINGS.get(path.suffix.lower()) if path.suffix.lower().startswith(".ml") else None
    what = what or next(("a LoRA" for name in LORA_FILES if (path / name).is_file()), None)
    if (path / "model_index.json").is_file():
        pipeline = _values(path / "model_index.json").get("_class_name")
        what = what or next((what for begin, what in PIPELINES if str(pipeline).startswith(begin)), None)
    elif (path / "config.json").is_file():
        kind = _values(path / "config.json").get("_class_name")
        what = what or MODELS.get(str(kind))
    what = what or next((what for folder, what in FOLDERS.items() if (path / folder).is_dir()), None)
    what = what or next(("an ONNX pipeline; get it as safetensors" for _ in path.glob("unet/*.onnx")), None)
    if what is not None:
        raise UserError(f"{path} is {what}{_advice(what)}; {WANTED}")


def check_unet(values: Mapping[str, Any], where: str) -> None:
    """Raises UserError where ``values``, of a U-Net's config.json, are those of another model."""
    what = next((what for key, value, what in UNETS if values.get(key) == value), None)
    channels = values.get("in_channels", 4)
    if what is None and channels != values.get("out_channels", 4) and type(channels) is int:
        what = CHANNELS.get(channels)
    if what is not None:
        raise UserError(f"{where} is of {what}; {WANTED}")


def _first(table: Iterable[tuple[bytes, str]], begin: bytes) -> str | None:
    return next((what for pattern, what in table if re.match(pattern, begin, re.IGNORECASE | re.DOTALL)), None)


def _by_shape(shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    if (labels := shapes.get(LABELS, ())) and len(labels) == 2:
        return LABEL_WIDTHS.get(labels[1], "Stable unCLIP, which starts from a picture")
    widths = [shape[1] for name, shape in shapes.items() if name in CONVOLUTIONS and len(shape) == 4]
    return next((CHANNELS[width] for width in widths if width in CHANNELS), None)


def _advice(what: str) -> str:
    """What to do with what is a part of a model, or an addition to one."""
    if what == VAE_ALONE:
        return f", not a whole model: give it with {setting('vae')}"
    if what in FLAGS:
        return f", an addition to a model and none by itself: give it with {setting(FLAGS[what])} beside a model"
    if what in ADDITIONS:
        return ", an addition to a model and none by itself"
    return ", not a whole model" if what.endswith(" alone") else ""


def _values(path: Path) -> dict[str, Any]:
    """What stands in a JSON file, as far as it can be read."""
    try:
        return read_json(path)
    except UserError:
        return {}


def _is_safetensors(begin: bytes) -> bool:
    return is_safetensors(begin) and not begin.startswith(b"GGUF")
