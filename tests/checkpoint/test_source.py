"""What is put on top of a checkpoint, all of it at once: loaded, converted, hashed, and kept by a run."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from tests.runs.runs import TINY
from vrwkv_jax.checkpoint.conversion import abstract_models, convert
from vrwkv_jax.checkpoint.inspection import inspect
from vrwkv_jax.checkpoint.source import Source
from vrwkv_jax.checkpoint.weights_config import WeightsConfig
from vrwkv_jax.commands import edit, tune
from vrwkv_jax.editing.editor import Editor
from vrwkv_jax.runs.run import load_run
from vrwkv_jax.system.errors import UserError

WORD = "<hat>"
VAE_FILE = "diffusion_pytorch_model.safetensors"
LAYER = "encoder.layers.0.self_attn.q_proj"
PATH = "layers/0/self_attn/q_proj/kernel"


@pytest.fixture(scope="module")
def additions(tiny_checkpoint, tmp_path_factory) -> WeightsConfig:
    """A LoRA of one layer, a word of two vectors, and a VAE whose weights are half of the model's own."""
    directory = tmp_path_factory.mktemp("additions")
    width = load_file(tiny_checkpoint / "text_encoder" / "model.safetensors")[f"{LAYER}.weight"].shape[0]
    rng = np.random.default_rng(0)
    down, up = rng.normal(size=(2, width)).astype(np.float32), rng.normal(size=(width, 2)).astype(np.float32)
    name = "lora_te_text_model_" + LAYER.replace(".", "_")
    save_file({f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": up}, directory / "style.safetensors")
    torch.save({WORD: torch.tensor(rng.normal(size=(2, width)), dtype=torch.float32)}, directory / "hat.bin")
    vae = load_file(tiny_checkpoint / "vae" / VAE_FILE)
    (directory / "soft").mkdir()
    save_file({name: array / 2 for name, array in vae.items()}, directory / "soft" / VAE_FILE)
    shutil.copy(tiny_checkpoint / "vae" / "config.json", directory / "soft")
    return WeightsConfig(
        vae=str(directory / "soft"),
        lora=(f"{directory / 'style.safetensors'}:0.5",),
        embedding=(str(directory / "hat.bin"),),
    )


def product(weights: WeightsConfig) -> np.ndarray:
    tensors = load_file(weights.lora[0].rpartition(":")[0])
    by_role = {name.split(".")[1]: array for name, array in tensors.items()}
    return by_role["lora_up"] @ by_role["lora_down"]


def everything(source: Source) -> dict[str, dict[str, np.ndarray]]:
    models = abstract_models(source.describe())
    return {part: {p: np.asarray(leaf) for p, leaf in source.read(part, m).items()} for part, m in models.items()}


def test_everything_is_on_top(tiny_checkpoint, additions):
    plain, changed = (everything(Source(tiny_checkpoint, weights)) for weights in (WeightsConfig(), additions))
    for path, leaf in plain["unet"].items():
        np.testing.assert_array_equal(changed["unet"][path], leaf)
    for path, leaf in plain["vae"].items():
        np.testing.assert_array_equal(changed["vae"][path], leaf / 2)
    text = changed["text_encoder"]
    expected = plain["text_encoder"][PATH] + 0.5 * product(additions).T
    np.testing.assert_allclose(text[PATH], expected, rtol=1e-6, atol=1e-6)
    table, new = plain["text_encoder"]["token_embedding/embedding"], text["token_embedding/embedding"]
    vectors = torch.load(additions.embedding[0], weights_only=True)[WORD].numpy()
    np.testing.assert_array_equal(new, np.concatenate([table, vectors]))
    unchanged = text.keys() - {PATH, "token_embedding/embedding"}
    assert all(np.array_equal(text[path], plain["text_encoder"][path]) for path in unchanged)
    tokenizer, first = Source(tiny_checkpoint, additions).describe().tokenizer, len(table)
    assert tokenizer.tokens(f"a {WORD}")[-3:-1] == [first, first + 1]


@pytest.mark.parametrize("to", ["converted", "diffusers"])
def test_a_conversion_has_it_all_merged(to, tiny_checkpoint, additions, tmp_path):
    convert(tiny_checkpoint, tmp_path / "merged", to=to, weights=additions)
    expected, merged = everything(Source(tiny_checkpoint, additions)), everything(Source(tmp_path / "merged"))
    for part, leaves in expected.items():
        assert merged[part].keys() == leaves.keys()
        for path, leaf in leaves.items():
            np.testing.assert_array_equal(merged[part][path], leaf, err_msg=f"{part} {path}")
    tokenizer = Source(tmp_path / "merged").describe().tokenizer
    own = Source(tiny_checkpoint, additions).describe().tokenizer
    prompt = f"a red {WORD} and a {WORD.upper()}"
    assert tokenizer.tokens(prompt) == own.tokens(prompt) and tokenizer.spans(prompt) == own.spans(prompt)


def test_types_are_rounded_once(tiny_checkpoint, additions):
    editor = Editor.from_pretrained(tiny_checkpoint, weights=additions, dtype="bfloat16")
    assert str(next(iter(editor.unet.params.values())).dtype) == "bfloat16"
    assert len(editor.components.tokenizer.tokens(WORD)) == 4


def test_hashes_tell_every_file_and_scale(tiny_checkpoint, additions):
    found = Source(tiny_checkpoint, additions).sha256()
    assert {name for name in found if "/" not in name} == {
        "VAE 1",
        "LoRA 1 at 0.5",
        "embedding 1",
    }
    assert not any(name.startswith("vae/") for name in found)
    other = replace(additions, lora=(additions.lora[0].replace(":0.5", ":0.6"),))
    said = r"other weights .*\(LoRA 1 at 0.5: sha256 was \w+ and is none\): say with lora where its own are"
    with pytest.raises(UserError, match=said):
        Source(tiny_checkpoint, other).check_sha256(found, "the run")
    plain = Source(tiny_checkpoint).sha256()
    with pytest.raises(UserError, match=r"\(LoRA 1 at 0.5: sha256 was none and is \w+\): leave out lora"):
        Source(tiny_checkpoint, replace(additions, vae=None, embedding=())).check_sha256(plain, "the run")


def test_files_may_be_renamed(tiny_checkpoint, additions, tmp_path):
    shutil.copy(additions.lora[0].rpartition(":")[0], tmp_path / "x:1.safetensors")
    renamed = replace(additions, lora=(f"{tmp_path / 'x:1.safetensors'}:0.5",))
    Source(tiny_checkpoint, renamed).check_sha256(Source(tiny_checkpoint, additions).sha256(), "the run")


def test_inspect_counts_it_in(tiny_checkpoint, additions, tmp_path):
    lines, is_usable = inspect(tiny_checkpoint, additions)
    assert is_usable and lines[-1].startswith("It can be used")
    save_file({"lora_te_text_model_encoder_layers_7_mlp_fc1.lora_down.weight": np.zeros((1, 9), np.float32),
               "lora_te_text_model_encoder_layers_7_mlp_fc1.lora_up.weight": np.zeros((9, 1), np.float32)},
              tmp_path / "other.safetensors")  # fmt: skip
    lines, is_usable = inspect(tiny_checkpoint, WeightsConfig(lora=(str(tmp_path / "other.safetensors"),)))
    assert not is_usable and "is a LoRA for another model" in lines[-1]


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ({"lora": ("nothing.safetensors:0.5",)}, "lora.*nothing.safetensors:0.5 is not there"),
        ({"lora": (".",)}, "lora.*is a folder"),
        ({"lora": (f"{__file__}:0,8",)}, "the scale '0,8' is no number"),
        ({"lora": (f"{__file__}:nan",)}, "the scale 'nan' is no number"),
        ({"embedding": ("C:/x.pt",)}, "embedding.* C:/x.pt is not there"),
        ({"embedding": ("nothing.pt:<x>",)}, "embedding.*nothing.pt:<x> is not there"),
        ({"vae": "nothing"}, "vae.*there is no nothing"),
        ({"variant": "fp8"}, "has no weights of the variant.* fp8, but plain ones alone"),
    ],
)
def test_what_is_not_there_is_named(weights, said, tiny_checkpoint):
    with pytest.raises(UserError, match=said):
        source = Source(tiny_checkpoint, WeightsConfig(**weights))
        source.check(abstract_models(source.describe()))


@pytest.mark.long
def test_a_run_keeps_them(tiny_checkpoint, additions, tmp_path):
    flags = ["--vae", str(additions.vae), "--lora", additions.lora[0], "--embedding", additions.embedding[0]]
    small, run = [*TINY[:2], *TINY[4:]], tmp_path / "run"  # without a stride, which needs a video
    tune.main(["--model", str(tiny_checkpoint), *small, *flags, "--steps", "1", "--edit-prompt", f"a {WORD}",
               "--output", str(run)])  # fmt: skip
    assert load_run(run).config.weights == additions
    edit.main([str(run), "--prompt", f"a blue {WORD}", "--output", str(tmp_path / "again")])
    assert any(path.suffix == ".mp4" for path in Path(tmp_path / "again").rglob("*"))
    with pytest.raises(UserError, match="was made with other weights"):
        edit.main([str(run), "--prompt", "x", "--lora", additions.lora[0].replace("0.5", "0.7")])
