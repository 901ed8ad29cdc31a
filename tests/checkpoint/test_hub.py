"""Hugging Face ids: the local cache, what is fetched, and the ways it can fail."""

import os
import re
import subprocess
import sys
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub.utils import filter_repo_objects

from tests.checkpoint.hub_cache import put_into_cache
from vrwkv_jax.checkpoint.formats.base import PARTS
from vrwkv_jax.checkpoint.hub import resolve
from vrwkv_jax.editing.components import Components
from vrwkv_jax.models.video_config import VideoConfig
from vrwkv_jax.system.errors import UserError


def test_repository_in_the_local_cache(cache, checkpoint):
    snapshot = put_into_cache(cache, "some-owner/sd.small", checkpoint)
    assert resolve("some-owner/sd.small") == snapshot
    loaded = Components.load("some-owner/sd.small", video=VideoConfig(mixer="none"), dtype=None, seed=0)
    assert loaded.source.path == snapshot


def test_repository_that_is_not_in_the_cache(cache):
    with pytest.raises(UserError, match=r"^there is no directory owner/name, and .* no copy in the local cache$"):
        resolve("owner/name")


def test_without_network(tmp_path):
    """As for a user whose network is down: not in the client's own offline mode."""
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "0",
        "HF_ENDPOINT": "http://127.0.0.1:9",  # nothing answers at the discard port
        "HF_HOME": str(tmp_path),
        "NO_PROXY": "127.0.0.1",
    }
    script = "from vrwkv_jax.commands.cli import run_cli; from vrwkv_jax.checkpoint.hub import resolve; "
    script += "raise SystemExit(run_cli(lambda: resolve('owner/name')))"
    root = Path(__file__).parents[2]
    result = subprocess.run([sys.executable, "-c", script], cwd=root, env=environment, capture_output=True, text=True)
    assert result.returncode == 2
    assert result.stderr.splitlines()[-1].startswith(
        "error: there is no directory owner/name, and the Hugging Face hub"
    )
    assert "Traceback" not in result.stderr


SMALL = {
    "model_index.json",
    "unet/config.json",
    "vae/config.json",
    "text_encoder/config.json",
    "scheduler/scheduler_config.json",
    "tokenizer/vocab.json",
    "tokenizer/merges.txt",
    "tokenizer/tokenizer_config.json",
}
FULL = {
    "unet/diffusion_pytorch_model.safetensors",
    "vae/diffusion_pytorch_model.safetensors",
    "text_encoder/model.safetensors",
}
HALF = {file.replace(".safetensors", ".fp16.safetensors") for file in FULL}
SHARDED = (FULL - {"unet/diffusion_pytorch_model.safetensors"}) | {
    "unet/diffusion_pytorch_model.safetensors.index.json",
    "unet/diffusion_pytorch_model-00001-of-00002.safetensors",
    "unet/diffusion_pytorch_model-00002-of-00002.safetensors",
}
HALF_SHARDED_NEW = {
    "unet/diffusion_pytorch_model.safetensors.index.fp16.json",
    "unet/diffusion_pytorch_model.fp16-00001-of-00001.safetensors",
}
HALF_SHARDED_OLD = {
    "unet/diffusion_pytorch_model.safetensors.fp16.index.json",
    "unet/diffusion_pytorch_model-00001-of-00001.fp16.safetensors",
}
OTHER = {
    "v1-5-pruned.ckpt",
    "v1-5-pruned-emaonly.safetensors",
    "safety_checker/config.json",
    "safety_checker/model.safetensors",
    "unet/diffusion_pytorch_model.bin",
    "unet/diffusion_pytorch_model.non_ema.safetensors",
    "unet/diffusion_flax_model.msgpack",
    "text_encoder/pytorch_model.bin",
    "tokenizer/code.py",
}


TEXT_BIN = {
    "text_encoder/pytorch_model-00001-of-00002.bin",
    "text_encoder/pytorch_model-00002-of-00002.bin",
    "text_encoder/pytorch_model.bin.index.json",
}
BIN = TEXT_BIN | {
    "unet/diffusion_pytorch_model.bin",
    "vae/diffusion_pytorch_model.bin",
}
NON_EMA = {"unet/diffusion_pytorch_model.non_ema.safetensors"}


@pytest.mark.parametrize(
    ("weights", "fetched"),
    [
        (FULL, FULL),
        (FULL | HALF, FULL),
        (HALF, HALF),
        (BIN, None),
        (FULL - {"text_encoder/model.safetensors"} | BIN, FULL - {"text_encoder/model.safetensors"} | TEXT_BIN),
        (SHARDED | HALF | HALF_SHARDED_NEW | HALF_SHARDED_OLD, SHARDED),
        (HALF_SHARDED_NEW | FULL - {"unet/diffusion_pytorch_model.safetensors"}, None),
        (HALF_SHARDED_OLD | FULL - {"unet/diffusion_pytorch_model.safetensors"}, None),
    ],
    ids=[
        "full",
        "both",
        "half",
        "pickles",
        "text encoder only as pickles",
        "sharded",
        "unet only as new half shards",
        "unet only as old half shards",
    ],
)
def test_no_more_is_fetched_than_is_read(weights, fetched, tmp_path, monkeypatch):
    others = {name for name in OTHER if not name.endswith(".bin")} if weights & BIN else OTHER
    there = fetch(SMALL | weights | others, tmp_path, monkeypatch)
    assert there == SMALL | (weights if fetched is None else fetched)


@pytest.mark.parametrize(
    ("variant", "fetched"),
    [
        ("fp16", HALF),
        ("non_ema", NON_EMA | FULL - {"unet/diffusion_pytorch_model.safetensors"}),  # which only the U-Net has
    ],
)
def test_a_variant_is_fetched_in_place_of_the_plain_weights(variant, fetched, tmp_path, monkeypatch):
    assert fetch(SMALL | FULL | HALF | NON_EMA | OTHER, tmp_path, monkeypatch, variant=variant) == SMALL | fetched


@pytest.mark.parametrize(
    ("files", "what"),
    [
        ({"model_index.json": '{"_class_name": "StableDiffusionXLPipeline"}'}, "is Stable Diffusion XL;"),
        ({"transformer/config.json": "{}"}, "is a diffusion transformer"),
        ({"config.json": '{"_class_name": "ControlNetModel"}'}, "is a ControlNet, an addition"),
        ({"adapter_config.json": "{}"}, "is a LoRA, an addition"),
    ],
)
def test_of_another_model_only_the_small_files_are_fetched(files, what, tmp_path, monkeypatch):
    def snapshot_download(name, *, revision, allow_patterns):
        for name in filter_repo_objects([*files, *FULL, *HALF, *BIN], allow_patterns=allow_patterns):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(files.get(name, ""))
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    with pytest.raises(UserError, match=re.escape(str(tmp_path))) as caught:
        resolve("owner/name")
    assert what in str(caught.value) and "did not deliver" not in str(caught.value)
    assert {str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*") if file.is_file()} == set(files)


def test_another_variant_in_the_cache_does_not_stand_for_what_is_asked_for(tmp_path, monkeypatch):
    repository = SMALL | FULL | HALF
    assert fetch(repository, tmp_path, monkeypatch, variant="fp16") == SMALL | HALF
    assert fetch(repository, tmp_path, monkeypatch) == repository


def test_a_repository_of_single_files(tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"repository owner/name has no unet, .*; where it has a single file instead"):
        fetch({"model.safetensors", "README.md"}, tmp_path, monkeypatch)


def fetch(repository, tmp_path, monkeypatch, **options):
    """Which of its files are fetched."""

    def snapshot_download(name, *, revision, allow_patterns):
        for name in filter_repo_objects(repository, allow_patterns=allow_patterns):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).touch()
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    assert resolve("owner/name", **options) == tmp_path
    there = {str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*") if file.is_file()}
    return there - {"safety_checker/config.json"}


def test_a_revision_of_a_repository(cache, checkpoint, tmp_path):
    snapshot = put_into_cache(cache, "some-owner/sd.small", checkpoint)
    (snapshot.parents[1] / "refs" / "old").write_text(snapshot.name)
    assert resolve("some-owner/sd.small", "old") == resolve("some-owner/sd.small", snapshot.name) == snapshot
    with pytest.raises(UserError, match="no copy in the local cache"):
        resolve("some-owner/sd.small", "new")
    with pytest.raises(UserError, match=f"revision is old, but {checkpoint} is on this machine"):
        resolve(checkpoint, "old")


@pytest.mark.parametrize(
    "model", ["nothing", "no/such/directory", "~nobody-here/x/y", "a--b..c/", "x" * 5000, "/absolute/x", "-rf"]
)
def test_names_that_are_neither(model):
    with pytest.raises(
        UserError, match=r"there is no checkpoint .* expected a directory, a file, or a Hugging Face id"
    ):
        resolve(model)


@pytest.mark.parametrize("model", ["a--b/c", "a/b..c", "a/" + "x" * 200])
def test_ids_that_the_hub_refuses(model, cache):
    with pytest.raises(UserError, match=f"there is no directory {re.escape(model)}, and the Hugging Face hub"):
        resolve(model)


def test_a_file(tmp_path):
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(UserError, match=r"model.safetensors is empty: download or copy it again"):
        resolve(tmp_path / "model.safetensors")
    (tmp_path / "notes.txt").write_text("notes")
    with pytest.raises(UserError, match=r"notes.txt is a file; expected a checkpoint directory"):
        resolve(tmp_path / "notes.txt")


@pytest.mark.parametrize(
    "address", ["https://huggingface.co/owner/sd-1.5", "http://hf.co/owner/sd-1.5/tree/main?not-for-all-audiences"]
)
def test_an_address_of_the_hub(address):
    with pytest.raises(UserError, match=r"is an address: give the Hugging Face id, owner/sd-1\.5$"):
        resolve(address)


def test_the_cache_of_a_repository(cache, checkpoint):
    snapshots = put_into_cache(cache, "some-owner/sd.small", checkpoint).parent
    with pytest.raises(UserError, match=f"is the hub's cache.* id owner/name, or a directory in {snapshots}$"):
        resolve(snapshots.parent)


def test_a_directory_that_is_no_checkpoint(tmp_path):
    with pytest.raises(UserError, match=f"no Stable Diffusion checkpoint: it has no {', '.join(PARTS)};"):
        resolve(tmp_path)
    for part in PARTS[:3]:
        (tmp_path / part).mkdir()
    with pytest.raises(UserError, match="it has no tokenizer, scheduler;"):
        resolve(tmp_path)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        (
            "ALL_PROXY",
            "socks5://user:secret@127.0.0.1:9",
            "SOCKS proxy.* the environment's ALL_PROXY: correct or unset it",
        ),
        ("all_proxy", "socks://127.0.0.1:9", "socks://.*the environment's ALL_PROXY: correct or unset it"),
        ("HF_ENDPOINT", "127.0.0.1:9", "https.*the environment's HF_ENDPOINT: correct or unset it"),
        (
            "HF_HOME",
            "/dev/null/hub",
            "the place of its copies /dev/null/hub/hub can't be made: /dev/null is a file;.*HF_HOME",
        ),
    ],
)
def test_settings_of_the_network_end_in_a_sentence(name, value, said, tmp_path):
    """In a process of its own, for the client reads them once; nothing is contacted."""
    environment = {key: word for key, word in os.environ.items() if "PROXY" not in key.upper() and "HF_" not in key}
    command = "from vrwkv_jax.checkpoint.hub import resolve\nfrom vrwkv_jax.commands.cli import run_cli\n"
    command += "raise SystemExit(run_cli(lambda: resolve('owner/name')))"
    settings = (
        {"HF_HOME": str(tmp_path), "HTTPS_PROXY": "http://127.0.0.1:9"}
        if name == "HF_HOME"
        else {"HF_HOME": str(tmp_path)}
    )
    done = subprocess.run(
        [sys.executable, "-c", command], env=environment | settings | {name: value}, capture_output=True, text=True
    )
    assert done.returncode == 2 and re.fullmatch(f"error: there is no directory owner/name.*{said}\n", done.stderr), (
        done.stderr
    )
    assert "secret" not in done.stderr
