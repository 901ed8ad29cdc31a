"""Files that are no LoRA, or one that is not read, or that does not fit: each ends in one sentence."""

import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tests.checkpoint import loras
from tests.checkpoint.loras import Memory, random_layers
from tests.checkpoint.pipelines import make_models
from tests.checkpoint.test_lora import ATTENTION, PARTS, compvis, ours, shapes
from vrwkv_jax.checkpoint.lora import Lora, check_fit, merge
from vrwkv_jax.checkpoint.lora_adapter import read_adapters
from vrwkv_jax.system.errors import UserError


@pytest.fixture(scope="module")
def models():
    return make_models()


OTHERS = {
    "lora_unet_mid_block_attentions_0_proj_in.dora_scale": "is a DoRA",
    "unet.mid_block.attentions.0.proj_in.lora_magnitude_vector": "is a DoRA",
    "lora_unet_mid_block_attentions_0_proj_in.hada_w1_a": "is a LoHa",
    "lora_unet_mid_block_attentions_0_proj_in.lokr_w1": "is a LoKr",
    "lora_unet_mid_block_attentions_0_proj_in.on_input": "(IA)³",
    "base_model.model.mid_block.attentions.0.proj_in.ia3_l": "(IA)³",
    "lora_unet_mid_block_attentions_0_proj_in.oft_blocks": "is an OFT",
    "lora_unet_mid_block_attentions_0_proj_in.a1.weight": "is a GLoRA",
    "lora_unet_mid_block_resnets_0_conv1.diff_b": "differences of whole weights",
    "lora_te1_text_model_encoder_layers_0_mlp_fc1.lora_down.weight": "a LoRA for SDXL",
    "lora_unet_input_blocks_7_1_transformer_blocks_9_attn2_to_k.lora_down.weight": "a LoRA for SDXL",
    "text_encoder_2.text_model.encoder.layers.0.mlp.fc1.lora_A.weight": "a LoRA for SDXL",
    "transformer.transformer_blocks.0.attn.to_q.lora_A.weight": "a LoRA for SD 3, Flux",
    "base_model.model.transformer_blocks.0.attn.to_q.lora_A.weight": "a LoRA for SD 3, Flux",
    "lora_unet_double_blocks_0_img_attn_proj.lora_down.weight": "a LoRA for SD 3, Flux",
    "diffusion_model.blocks.0.cross_attn.k.lora_A.weight": "a LoRA for SD 3, Flux",
    "down_blocks.0.motion_modules.0.temporal_transformer.proj_in.lora.down.weight": "for a video model",
    "lora_unet_down_blocks_0_temp_attentions_0_proj_in.lora_down.weight": "for a video model",
    "bundle_emb.word.string_to_param.*": "with words of its own",
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_adapters_are_refused_by_name(name, models):
    tensors = loras.kohya(random_layers(models, "mid_block.*to_q")) | {name: torch.zeros(2, 2)}
    with pytest.raises(UserError, match=rf"^a file is.*{re.escape(OTHERS[name].removeprefix('is '))}") as caught:
        Lora.from_tensors(Memory(tensors), "a file")
    assert name[:89] in str(caught.value) and "expected a LoRA for SD 1.x or 2.x" in str(caught.value)


Q = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q"
GOOD = {f"{Q}.lora_down.weight": torch.ones(2, 64), f"{Q}.lora_up.weight": torch.ones(64, 2)}
WRONG = {
    "a model": ({"conv_in.weight": torch.zeros(1)}, "is a whole model or a part of one and no LoRA"),
    "an embedding": ({"emb_params": torch.zeros(1, 768)}, "is a textual inversion and no LoRA"),
    "nothing": ({}, "is empty and no layers of a LoRA"),
    "something": ({"x": torch.zeros(1)}, "holds x and no layers of a LoRA"),
    "very much": ({str(i): torch.zeros(1) for i in range(20_001)}, "has 20001 tensors; expected a LoRA"),
    "more": (GOOD | {"x": torch.zeros(1)}, r"has what no LoRA has \(x\)"),
    "half": ({f"{Q}.lora_down.weight": torch.ones(2, 64)}, "without its up"),
    "rank": (GOOD | {f"{Q}.lora_up.weight": torch.ones(64, 3)}, r"can't be multiplied at .*up \[64, 3\]"),
    "no rank": (
        {f"{Q}.lora_down.weight": torch.ones(0, 64), f"{Q}.lora_up.weight": torch.ones(64, 0)},
        "can't be multiplied",
    ),
    "rank too large": (
        {
            f"{Q}.lora_down.weight": torch.ones(1).expand(2**30, 64),
            f"{Q}.lora_up.weight": torch.ones(1).expand(64, 2**30),
        },
        "can't be multiplied",
    ),
    "flat": (GOOD | {f"{Q}.lora_down.weight": torch.ones(128)}, "can't be multiplied"),
    "two alphas": (GOOD | {f"{Q}.alpha": torch.ones(2)}, "can't be multiplied"),
    "bytes": (GOOD | {f"{Q}.lora_up.weight": torch.ones(64, 2, dtype=torch.int8)}, "as I8; expected F32"),
    "SDXL": (
        {
            f"{Q.replace('attn1_to_q', 'attn2_to_k')}.lora_down.weight": torch.ones(2, 2048),
            f"{Q.replace('attn1_to_q', 'attn2_to_k')}.lora_up.weight": torch.ones(64, 2),
        },
        "is a LoRA for SDXL",
    ),
    "twice": (
        GOOD | {"unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q.lora_A.weight": torch.ones(2, 64)},
        "under two names",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_no_lora_or_a_damaged_one(case):
    tensors, message = WRONG[case]
    with pytest.raises(UserError, match=f"^a file .*{message}"):
        Lora.from_tensors(Memory(tensors), "a file")


@pytest.mark.parametrize("factor", [torch.nan, torch.inf, 1e38])
@pytest.mark.parametrize("bad", [*GOOD, f"{Q}.alpha"])
def test_numbers_that_are_not_finite(models, bad, factor):
    tensors = GOOD | {bad: 10 * GOOD.get(bad, torch.ones(())) * factor}
    with pytest.raises(UserError, match=f"^a file holds numbers that are not finite .* in {Q}.lora_down"):
        merge(ours(models)["unet"], [(Lora.from_tensors(Memory(tensors), "a file"), 1.0)], "unet")


def test_a_scale_that_is_no_number(models):
    with pytest.raises(UserError, match="to be added nan times"):
        check_fit([(Lora.from_tensors(Memory(GOOD), "a file"), float("nan"))], {"unet": ours(models)["unet"]})


def leaves():
    return {part: leaves for part, (_, leaves) in shapes().items()}


def test_layers_that_the_model_lacks_are_all_named():
    tensors = {name.replace("mid_block", "other_block"): tensor for name, tensor in GOOD.items()} | GOOD
    with pytest.raises(
        UserError, match=r"for another model, with 1 of 2 layers that this one does not have: lora_unet_o"
    ):
        check_fit([(Lora.from_tensors(Memory(tensors), "a file"), 1.0)], leaves())


def test_layers_of_another_shape_are_named():
    tensors = {name: tensor[:1] if "up" in name else tensor for name, tensor in GOOD.items()}
    with pytest.raises(
        UserError, match=r"1 of 1 layers that this one has in another shape: \[1, 64\] in place of \[64, 64\] at lora"
    ):
        check_fit([(Lora.from_tensors(Memory(tensors), "a file"), 1.0)], leaves())


@pytest.mark.parametrize(("part", "module"), [("unet", "attn2.to_k"), ("text_encoder", "self_attn.q_proj")])
def test_a_lora_of_another_family_is_said_to_be_one(models, part, module):
    """Widths of SD 2.x, on a model that has SD 1.x's."""
    (key, (down, up, alpha)), *_ = random_layers(models, f"{part}.*{module}").items()
    other = {key: (torch.ones(3, 1024), up[:, :1].expand(-1, 3), alpha)}
    lora = Lora.from_tensors(Memory(loras.kohya(other)), "a file")
    wider = dict(leaves())
    for path in ("mid_block/attentions/0/transformer_blocks/0/attn2/to_k/kernel",):
        wider["unet"] = {
            p: jax.ShapeDtypeStruct((768, 64), jnp.float32) if p == path else leaf
            for p, leaf in wider["unet"].items()
            if "down_blocks" not in p or "attn2" not in p or p == path
        }
    assert down.shape[1] != 1024
    with pytest.raises(UserError, match=r"is a LoRA for SD 2.x \(text of width 1024\), and the model is .*SD 1.x"):
        check_fit([(lora, 1.0)], wider)


def test_one_layer_under_two_of_its_names(models):
    name = compvis()["mid_block.attentions.0.transformer_blocks.0.attn1.to_q"]
    tensors = GOOD | {key.replace(Q, f"lora_unet_{name}"): tensor for key, tensor in GOOD.items()}
    with pytest.raises(UserError, match="has one layer under two names"):
        check_fit([(Lora.from_tensors(Memory(tensors), "a file"), 1.0)], leaves())


def test_peft_without_its_settings_warns():
    tensors = {
        f"base_model.model.mid_block.attentions.0.transformer_blocks.0.attn1.to_q.{key}.weight": tensor
        for key, tensor in zip(("lora_A", "lora_B"), GOOD.values(), strict=True)
    }
    with pytest.warns(UserWarning, match="a file is one of peft without its adapter_config.json"):
        Lora.from_tensors(Memory(tensors), "a file")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"peft_type": "OFT", "lora_alpha": 1}, "peft_type is 'OFT'"),
        ({"use_dora": True, "lora_alpha": 1}, "use_dora is set"),
        ({"lora_alpha": "8"}, "lora_alpha is '8'; expected a number"),
        ({"lora_alpha": None}, "lora_alpha is None; expected a number"),
        ({"lora_alpha": True}, "lora_alpha is True; expected a number"),
        ({"lora_alpha": 10**400}, r"lora_alpha is 10000.*\.\.\.; expected a number"),
        ({"lora_alpha": float("nan")}, "lora_alpha is nan; expected a number"),
        ({"lora_alpha": 1, "alpha_pattern": [1]}, r"alpha_pattern is \[1\]"),
        ({"lora_alpha": 1, "alpha_pattern": {"(a+)+$": 1}}, r"alpha_pattern has '\(a\+\)\+\$'"),
        ({"lora_alpha": 1, "alpha_pattern": {"a": "b"}}, "alpha_pattern of a is 'b'"),
        ([], "holds list, expected a JSON object"),
    ],
)
def test_settings_that_are_not_read(tmp_path, values, message):
    (tmp_path / "adapter_config.json").write_text(json.dumps(values))
    with pytest.raises(UserError, match=message):
        read_adapters(tmp_path / "adapter_model.safetensors", {})


@pytest.mark.parametrize("text", ["{", "[1]", "[" * 100_000])
def test_a_header_that_is_no_json(tmp_path, text):
    save_file(GOOD, tmp_path / "a.safetensors", {"lora_adapter_metadata": text})
    with pytest.raises(UserError, match=r"a\.safetensors has .* as lora_adapter_metadata"):
        Lora.open(tmp_path / "a.safetensors")


@pytest.mark.parametrize("name", ["a.safetensors", "a.pt"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_files_of_both_kinds(models, tmp_path, name, dtype):
    tensors = {key: tensor.to(dtype) for key, tensor in loras.kohya(random_layers(models, ATTENTION)).items()}
    (save_file if name.endswith("safetensors") else torch.save)(tensors, tmp_path / name)
    lora, params = Lora.open(tmp_path / name), ours(models)
    assert lora.adapters == {}
    expected = Lora.from_tensors(Memory({key: tensor.float() for key, tensor in tensors.items()}), "memory")
    for part in PARTS:
        actual, wanted = (merge(params[part], [(one, 1.0)], part) for one in (lora, expected))
        for path in actual:
            np.testing.assert_array_equal(actual[path], wanted[path])


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match="nowhere"):
        Lora.open(tmp_path / "nowhere.safetensors")
