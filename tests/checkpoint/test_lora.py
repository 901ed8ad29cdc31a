"""LoRA in all names against diffusers' and peft's own merging, tensor by tensor and in what the models compute."""

import copy
import inspect
import re
import warnings
import weakref
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint
from peft import get_peft_model_state_dict

from tests.checkpoint import loras
from tests.checkpoint.loras import Memory, random_layers
from tests.checkpoint.pipelines import CROSS, PLAIN, TEXT, UNETS, make_models
from tests.torch_weights import assert_close
from vrwkv_jax.checkpoint.lora import Lora, merge
from vrwkv_jax.checkpoint.lora_adapter import Adapter
from vrwkv_jax.checkpoint.lora_names import modules
from vrwkv_jax.checkpoint.torch_names import torch_name
from vrwkv_jax.checkpoint.torch_tensors import from_tensors
from vrwkv_jax.models import params as P
from vrwkv_jax.models.clip_text import CLIPTextConfig, CLIPTextEncoder
from vrwkv_jax.models.json_config import from_json
from vrwkv_jax.models.unet import IMAGE, UNet
from vrwkv_jax.models.unet_config import UNetConfig
from vrwkv_jax.models.video_config import VideoConfig

PARTS = ("unet", "text_encoder")
# Of the largest weight: both sides add products of at most 4 numbers to it in float32, each in its own order.
TOLERANCE = 1e-6
ATTENTION = r"attn\d?\.(to_|[qkv]_proj|out_proj)"
LINEAR = rf"{ATTENTION}|\.ff\.|mlp\.fc|time_emb_proj|time_embedding|proj_(in|out)$"
DOWN, UP = (*[CROSS[0]] * 2, PLAIN[0]), (PLAIN[1], *[CROSS[1]] * 2)
ALL = r"unet|self_attn|mlp"


@pytest.fixture(scope="module", params=["sd1", "sd2"])
def family(request):
    """Name and models, with 1x1 convolutions and with linear layers around transformers."""
    return request.param, make_models(UNETS[request.param])


@pytest.fixture(scope="module")
def models():
    return make_models()


@cache
def shapes(name: str = "sd1", video: VideoConfig = IMAGE):
    unet = from_json(UNetConfig, {key: list(v) if isinstance(v, tuple) else v for key, v in UNETS[name].items()}, "")
    text = CLIPTextConfig.from_dict(TEXT)
    return {
        "unet": P.abstract(lambda rngs: UNet(unet, video, rngs=rngs)),
        "text_encoder": P.abstract(lambda rngs: CLIPTextEncoder(text, rngs=rngs)),
    }


def ours(models, name: str = "sd1", dtype: str = "float32"):
    """Each part's parameters, new arrays every time."""
    return {
        part: from_tensors(Memory(models[part].state_dict()), leaves, dtype, part)
        for part, (_, leaves) in shapes(name).items()
    }


def fused(models, files, **options):
    """The models after diffusers has merged ``files``, each with its scale."""
    pipe = loras.pipeline({part: copy.deepcopy(model) for part, model in models.items()})
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Already found a `peft_config`")  # which is meant here
        for index, (tensors, _) in enumerate(files):
            pipe.load_lora_weights(tensors, adapter_name=f"number_{index}", **options)
    names = [f"number_{index}" for index in range(len(files))]
    parts = [part for part in PARTS if getattr(getattr(pipe, part), "peft_config", None)]
    pipe.set_adapters(names, [scale for _, scale in files])
    pipe.fuse_lora(components=parts, adapter_names=names)
    pipe.unload_lora_weights()
    return {part: getattr(pipe, part) for part in PARTS}


def merged(params, files, adapters=None):
    read = [(Lora.from_tensors(Memory(tensors), f"file {i}", adapters), s) for i, (tensors, s) in enumerate(files)]
    return {part: merge(params[part], read, part) for part in PARTS}


def assert_merged(actual, oracle, before, layers):
    """All weights are the oracle's, and those of ``layers`` are no longer what they were."""
    for part in PARTS:
        expected = loras.weights(oracle[part], actual[part])
        for path, leaf in actual[part].items():
            np.testing.assert_allclose(leaf, expected[path], rtol=0, atol=TOLERANCE * np.abs(expected[path]).max())
            touched = (part, torch_name(path).removesuffix(".weight")) in layers
            assert touched == (leaf is not before[part][path]), path
            assert touched == (np.abs(leaf - before[part][path]).max() > 0.01), path


def compvis(name: str = "sd1"):
    """What CompVis calls each module: as we say, which a test of its own compares with diffusers."""
    found = {}
    for alias, path in modules(shapes(name)["unet"][1]).items():
        if re.match(r"(input|output)_blocks|middle_block|time_embed_|out_2", alias):
            found[torch_name(path).removesuffix(".weight")] = alias
    return found


LAYOUTS = {
    "kohya": (ALL, 1.7, loras.kohya),
    "diffusers": (LINEAR, None, loras.diffusers),
    "processors": (ATTENTION, None, loras.processors),
    "peft": (LINEAR, None, loras.with_peft),
    "peft-convolutions": (ALL, None, loras.with_peft),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_is_merged_as_diffusers_does(family, layout):
    name, models = family
    chosen, alpha, write = LAYOUTS[layout]
    layers = random_layers(models, chosen, alpha=alpha)
    assert {part for part, _ in layers} == set(PARTS)
    files, before = [(write(layers), 0.7)], ours(models, name)
    assert_merged(merged(before, files), fused(models, files), before, layers)


def test_several_are_added_each_with_its_scale(models):
    first = random_layers(models, ATTENTION, seed=1)
    second = random_layers(models, r"unet.*(to_k|conv1|\.ff\.)", seed=2, rank=5, alpha=4)
    files = [(loras.kohya(first), 0.8), (loras.kohya(second), -1.3)]
    before = ours(models)
    assert_merged(merged(before, files), fused(models, files), before, first | second)


def test_every_layer_has_an_alpha_of_its_own(models):
    """diffusers loses all but the most frequent alpha of one file, so it gets two files."""
    first = random_layers(models, "to_q|fc1", alpha=1.7)
    second = random_layers(models, "to_k|fc2|conv1", alpha=5)
    before, halves = ours(models), [(loras.kohya(layers), 0.7) for layers in (first, second)]
    both = first | second
    assert_merged(merged(before, [(loras.kohya(both), 0.7)]), fused(models, halves), before, both)


def test_names_of_compvis(models):
    """diffusers drops what it can't tell in blocks without attention, so those are left out."""
    layers = random_layers(models, r"unet\..*(attentions|resnets|downsamplers)")
    names = compvis()
    files = [(loras.kohya(layers, lambda module: names[module]), 0.6)]
    before = ours(models)
    oracle = fused(models, files, unet_config=models["unet"].config)
    assert_merged(merged(before, files), oracle, before, layers)


@pytest.mark.parametrize("name", ["sd1", "three levels"])
def test_names_of_compvis_are_those_that_diffusers_reads_in_single_files(name):
    if name == "sd1":
        config, (_, params) = UNETS["sd1"], shapes()["unet"]
    else:
        config = {"layers_per_block": 2}
        three = UNetConfig(**config, block_out_channels=(32, 32, 64), down_block_types=DOWN, up_block_types=UP)
        params = P.abstract(lambda rngs: UNet(three, IMAGE, rngs=rngs))[1]
    dotted = {}
    for alias, path in modules(params).items():
        if re.match(r"(input|output)_blocks|middle_block|time_embed_|out_2$", alias):
            text = re.sub(r"_(?=\d)|(?<=\d)_", ".", alias)  # kohya's _ for . is undone where that is unique
            for word in ("time_embed", "input_blocks", "output_blocks", "middle_block"):
                text = text.replace(f"{word}_", f"{word}.")
            for word in ("in_layers", "out_layers", "emb_layers"):
                text = text.replace(f"_{word}", f".{word}").replace(f"{word}_", f"{word}.")
            dotted[path] = re.sub(r"_(attn\d|ff|net|to_[qkv]|to_out|proj(?!_))", r".\1", text)
    names = {f"model.diffusion_model.{name}": path for path, name in dotted.items()}
    checkpoint = {f"{name}.{kind}": path for name, path in names.items() for kind in ("weight", "bias")}
    found = convert_ldm_unet_checkpoint(checkpoint, config)
    found = {name: path for name, path in found.items() if name.endswith("weight")}
    kernels = {torch_name(path): path for path in params if path.endswith("/kernel")}
    assert found == kernels


def test_models_with_a_lora_compute_what_pytorchs_do(models):
    layers = random_layers(models, ALL)
    files = [(loras.kohya(layers), 0.9)]
    oracle, params = fused(models, files), merged(ours(models), files)
    rng = np.random.default_rng(0)
    latents, text = (rng.normal(size=size).astype(np.float32) for size in ((2, 1, 8, 8, 4), (2, 7, 40)))
    timesteps, ids = np.array([3, 981], np.int32), rng.integers(0, 514, (2, 9)).astype(np.int32)
    with torch.no_grad():
        noise = oracle["unet"].double()(
            torch.from_numpy(latents[:, 0]).permute(0, 3, 1, 2).double(),
            torch.from_numpy(timesteps),
            torch.from_numpy(text).double(),
        )
        hidden = oracle["text_encoder"](torch.from_numpy(ids).long())
    run = {part: jax.jit(P.merge(graphdef, params[part]).__call__) for part, (graphdef, _) in shapes().items()}
    # of the output's scale, for the reasons that stand in the models' own tests
    assert_close(np.asarray(run["unet"](latents, timesteps, text)[:, 0]), noise.sample, 1e-4)
    assert_close(np.asarray(run["text_encoder"](ids)), hidden.last_hidden_state, 1e-5)


def test_pefts_own_files(models, tmp_path):
    """adapter_model.safetensors with adapter_config.json beside it, merged by peft itself."""
    from peft import LoraConfig, get_peft_model

    settings = LoraConfig(
        r=4, lora_alpha=6, use_rslora=True, target_modules=["to_q", "to_v", "conv1"], alpha_pattern={"to_v": 3}
    )
    model = get_peft_model(copy.deepcopy(models["unet"]), settings)
    generator = torch.Generator().manual_seed(3)
    for key, parameter in model.named_parameters():
        if "lora_" in key:
            parameter.data.normal_(0, 0.3, generator=generator)
    model.save_pretrained(tmp_path)
    file = tmp_path / "adapter_model.safetensors"
    lora = Lora.open(file)
    assert lora.adapters["unet"] == Adapter(6.0, True, {"to_v": 3.0})
    before = ours(models)["unet"]
    actual = merge(before, [(lora, 1.0)], "unet")
    expected = loras.weights(model.merge_and_unload(), actual)
    changed = {path for path in actual if actual[path] is not before[path]}
    assert {path.split("/")[-2] for path in changed} == {"to_q", "to_v", "conv1"}
    for path, leaf in actual.items():
        np.testing.assert_allclose(leaf, expected[path], rtol=0, atol=TOLERANCE * np.abs(expected[path]).max())


def test_what_diffusers_saves_with_alpha_in_the_header(models, tmp_path):
    from peft import LoraConfig

    model = copy.deepcopy(models["unet"])
    model.add_adapter(LoraConfig(r=2, lora_alpha=5, target_modules=["to_k", "proj_in"]))
    generator = torch.Generator().manual_seed(4)
    for key, parameter in model.named_parameters():
        if "lora_" in key:
            parameter.data.normal_(0, 0.3, generator=generator)
    pipe = loras.pipeline(models | {"unet": model})
    pipe.save_lora_weights(
        tmp_path,
        unet_lora_layers=get_peft_model_state_dict(model),
        unet_lora_adapter_metadata=model.peft_config["default"].to_dict(),
    )
    file = tmp_path / "pytorch_lora_weights.safetensors"
    lora = Lora.open(file)
    assert lora.adapters == {"unet": Adapter(5.0)}
    before = ours(models)["unet"]
    actual = merge(before, [(lora, 0.5)], "unet")
    oracle = loras.pipeline({part: copy.deepcopy(part_model) for part, part_model in models.items()})
    oracle.load_lora_weights(tmp_path)
    oracle.fuse_lora(components=["unet"], lora_scale=0.5)
    oracle.unload_lora_weights()
    expected = loras.weights(oracle.unet, actual)
    assert sum(actual[path] is not before[path] for path in actual) == 12
    for path, leaf in actual.items():
        np.testing.assert_allclose(leaf, expected[path], rtol=0, atol=TOLERANCE * np.abs(expected[path]).max())


def test_tuckers_form_is_three_convolutions_one_after_the_other(models):
    stem = "lora_unet_down_blocks_0_resnets_0_conv1"
    generator = torch.Generator().manual_seed(0)
    sizes = {"lora_down": (3, 32, 1, 1), "lora_mid": (3, 3, 3, 3), "lora_up": (32, 3, 1, 1)}
    tensors = {
        f"{stem}.{key}.weight": torch.randn(size, generator=generator, dtype=torch.float64).float()
        for key, size in sizes.items()
    }
    lora = Lora.from_tensors(Memory(tensors | {f"{stem}.alpha": torch.tensor(6)}), "tucker")
    image = torch.randn(1, 32, 7, 7, generator=generator, dtype=torch.float64)
    expected = image
    for key in sizes:
        expected = torch.nn.functional.conv2d(expected, tensors[f"{stem}.{key}.weight"].double())
    delta = torch.from_numpy(lora.delta("unet", "down_blocks_0_resnets_0_conv1")).double()
    found = torch.nn.functional.conv2d(image, delta)
    torch.testing.assert_close(found, 2 * expected, rtol=0, atol=2e-6 * float(expected.abs().max()))


def test_types_of_the_parameters_and_of_the_file(models):
    """Summed in float32 and rounded once, whatever both are in."""
    layers = random_layers(models, ATTENTION)
    tensors = {name: tensor.half() for name, tensor in loras.kohya(layers).items()}
    params = ours(models, dtype="bfloat16")
    actual = merged(params, [(tensors, 0.7)])
    for part in PARTS:
        exact = {path: np.asarray(leaf, np.float32) for path, leaf in params[part].items()}
        lora = Lora.from_tensors(Memory({name: tensor.float() for name, tensor in tensors.items()}), "float32")
        expected = merge({path: jnp.asarray(leaf) for path, leaf in exact.items()}, [(lora, 0.7)], part)
        for path, leaf in actual[part].items():
            assert leaf.dtype == jnp.bfloat16
            np.testing.assert_array_equal(leaf, expected[path].astype(jnp.bfloat16))


def test_mixers_are_left_alone(models):
    layers = random_layers(models, ATTENTION)
    lora = Lora.from_tensors(Memory(loras.kohya(layers)), "a lora")
    _, leaves = shapes(video=VideoConfig(placement=("skip", "mid", "transformer")))["unet"]
    params = {path: np.zeros(leaf.shape, np.float32) for path, leaf in leaves.items()}
    actual = merge(params, [(lora, 1.0)], "unet")
    changed = {path for path in params if actual[path] is not params[path]}
    assert changed and not any("/mixer/" in path for path in changed)


def test_memory_is_that_of_one_model(models):
    """The old leaf goes when the new one comes: else a model would be there twice."""
    layers = random_layers(models, r"unet.*to_q")
    lora = Lora.from_tensors(Memory(loras.kohya(layers)), "a lora")
    seen = []
    params = ours(models)["unet"]
    touched = [path for path in params if path.endswith("to_q/kernel")]
    left = [weakref.ref(params[path]) for path in touched]
    read = type(lora.tensors).__getitem__

    class Watched(Memory):
        def __getitem__(self, name):
            seen.append(sum(reference() is not None for reference in left))
            return read(self, name)

    watched = Lora(lora.where, Watched(lora.tensors.tensors), lora.layers)
    holder = [params]
    del params
    inspect.unwrap(merge)(holder.pop(), [(watched, 1.0)], "unet")  # what checks types in tests would keep them
    assert seen[0] == len(touched) and seen[-1] == 1


def test_scale_zero_changes_nothing(models):
    lora = Lora.from_tensors(Memory(loras.kohya(random_layers(models, ATTENTION))), "a lora")
    params = ours(models)["unet"]
    actual = merge(params, [(lora, 0.0)], "unet")
    assert all(actual[path] is params[path] for path in params)
