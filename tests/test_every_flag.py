"""No flag is taken and left aside: each changes what is done, or says that it does not."""

import ast
import dataclasses
from pathlib import Path

import numpy as np
import pytest

from vrwkv_jax.commands import edit
from vrwkv_jax.config import EditCommand, TuneConfig, parse_edit_command, parse_tune_config
from vrwkv_jax.editing.controls.registry import CONTROLS
from vrwkv_jax.editing.edit import Edit
from vrwkv_jax.editing.editor import Editor
from vrwkv_jax.editing.inversion import Inversion
from vrwkv_jax.media.pictures import save_png
from vrwkv_jax.media.video import write_video
from vrwkv_jax.models.tokenizer import Tokenizer
from vrwkv_jax.runs import results, run
from vrwkv_jax.runs.directory import RunDirectory
from vrwkv_jax.system.errors import UserError

ROOT = Path(__file__).parents[1]
FRAMES = np.zeros((2, 16, 16, 3), np.uint8)
RUN = TuneConfig(prompt="a red disc", clip=dataclasses.replace(TuneConfig().clip, frames=2, width=16, height=16))
# What each flag of vrwkv_jax.edit is tried with; and what it needs beside it.
FLAGS = {
    "negative_prompt": "--negative-prompt grey",
    "seed": "--seed 5",
    "bi_wkv": "--bi-wkv reference",
    "model": "--model other",
    "variant": "--variant fp16",
    "vae": "--vae vae.safetensors",
    "lora": "--lora style.safetensors:0.5",
    "embedding": "--embedding hat.pt",
    "prediction_type": "--prediction-type sample",
    "num_inference_steps": "--num-inference-steps 7",
    "guidance_scale": "--guidance-scale 3",
    "guidance_from": "--guidance-from source",
    "null_text_iterations": "--null-text-iterations 3",
    "guidance_rescale": "--guidance-rescale 0.5",
    "guidance_mean": "--guidance-mean 0.5",
    "guidance_interval": "--guidance-interval 0.2 0.8",
    "cache_interval": "--cache-interval 2",
    "cache_until": "--cache-until 0.5",
    "cache_depth": "--cache-depth 2",
    "strength": "--strength 0.5",
    "sampler": "--sampler dpm++",
    "inversion_prompt": "--inversion-prompt empty",
    "inversion_iterations": "--inversion-iterations 2",
    "inversion_tolerance": "--inversion-tolerance 0.1",
    "eta": "--eta 0.5",
    "fps": "--fps 5",
    "format": "--format gif",
    "crf": "--crf 30",
    "cross_attention": "--cross-attention 0.1",
    "cross_attention_words": "--cross-attention-words disc=0.3",
    "replace_words": "--no-replace-words",
    "reweight": "--reweight blue=2",
    "self_attention": "--self-attention 0.3",
    "self_attention_layers": "--self-attention-layers mid_block",
    "features": "--features 0.2",
    "feature_layers": "--feature-layers up_blocks/0",
    "mixer_keys": "--mixer-keys 0.3",
    "blend": "--blend disc",
    "mask": "--mask mask.png",
    "blend_threshold": "--blend-threshold 0.3",
    "blend_dilation": "--blend-dilation 3",
    "blend_start": "--blend-start 0.5",
}
NEEDS = {
    "seed": "--eta 0.5",
    **dict.fromkeys(("cache_depth", "cache_until"), "--cache-interval 2"),
    "null_text_iterations": "--guidance-from null_text",
    "self_attention_layers": "--self-attention 0.3",
    **dict.fromkeys(("blend_threshold", "blend_dilation", "blend_start"), "--blend disc"),
}
LEAVES_NOTHING = {
    "guidance_rescale": "--guidance-scale 1",
    "guidance_mean": "--guidance-scale 1",
    "guidance_interval": "--guidance-scale 1",
    "feature_layers": "--features 0",
    "crf": "--format gif",
}


@dataclasses.dataclass(frozen=True)
class Recorder(Editor):
    """An editor that computes nothing and writes down what it is asked for."""

    calls: list[object] = dataclasses.field(default_factory=list)

    def with_unet_params(self, params):
        return self

    def check_controls(self, *_):
        pass

    def check_sampling(self, *_):
        pass

    def check_clip(self, *_):
        pass

    def latent_size(self, height, width):
        return height, width

    def invert_latents(self, source, *, prompt, num_inference_steps, iterations, tolerance, sampler, kept, callback):
        self.calls.append((prompt, num_inference_steps, iterations, tolerance, sampler))
        return Inversion(np.zeros((num_inference_steps + 1, 2, 2, 2, 4), np.float32), prompt, num_inference_steps)

    def edit(self, inversion, prompt, **how):
        how["mask"] = None if how.get("mask") is None else how["mask"].tolist()
        self.calls.append((prompt, {name: value for name, value in how.items() if name not in ("kept", "callback")}))
        return Edit(FRAMES)

    def null_text(self, inversion, **how):
        self.calls.append({name: value for name, value in how.items() if name not in ("kept", "callback", "counted")})
        return np.zeros((1, 4, 8), np.float32)


@pytest.fixture
def what_is_done(tmp_path, tiny_checkpoint, monkeypatch):
    """Flags of ``vrwkv_jax.edit`` -> all that it asks of the model, and how it writes clips."""
    monkeypatch.chdir(tmp_path)
    Path("model").symlink_to(tiny_checkpoint)
    Path("other").symlink_to(tiny_checkpoint)
    Path("run").mkdir()
    directory = RunDirectory(Path("run"))
    for path in (directory.source, directory.reconstruction):
        write_video(path, FRAMES, 10)
    save_png("mask.png", np.where(np.arange(16)[:, None] < 8, 255, FRAMES[0]).astype(np.uint8))
    parts = type("Parts", (), {"tokenizer": Tokenizer.from_pretrained(tiny_checkpoint / "tokenizer")})
    inversion = Inversion(np.zeros((51, 2, 2, 2, 4), np.float32), "a red disc", 50)
    finished = run.FinishedRun(dataclasses.replace(RUN, model="model"), {}, [], directory, inversion, {})
    monkeypatch.setattr(edit, "load_run", lambda directory: finished)
    monkeypatch.setattr(edit, "start_editing", lambda *_, **__: None)  # nothing is computed, so nothing to compile
    monkeypatch.setattr(results.OverTime, "save", lambda *_: None)  # pictures take longer than all the rest

    def do(flags: str) -> list[object]:
        recorder = Recorder(parts)
        monkeypatch.setattr(
            run.Editor, "from_pretrained", lambda *args, **how: recorder.calls.append((args, how)) or recorder
        )
        monkeypatch.setattr(results, "write_clip", lambda path, frames, *how: recorder.calls.append(how))
        edit.main(["run", "--prompt", "a blue disc", *flags.split()])
        return recorder.calls

    return do


def leaves(config: object) -> list[str]:
    """The settings of a configuration, whatever their section."""
    inner = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    return [
        leaf for name, value in inner.items() for leaf in (leaves(value) if dataclasses.is_dataclass(value) else [name])
    ]


def test_every_flag_of_an_edit_changes_what_is_done(what_is_done):
    assert set(FLAGS) == set(leaves(EditCommand("run"))) - {"run", "prompts", "output", "revision"}  # of a repository
    without = {needed: str(what_is_done(needed)) for needed in {"", *NEEDS.values()}}
    for name, flags in FLAGS.items():
        needed = NEEDS.get(name, "")
        assert str(what_is_done(f"{needed} {flags}")) != without[needed], name


@pytest.mark.parametrize("name", [*NEEDS, *LEAVES_NOTHING])
def test_a_flag_that_changes_nothing_says_so(name):
    beside = LEAVES_NOTHING.get(name, "")
    with pytest.warns(UserWarning, match=rf"^--{name.replace('_', '-')} changes nothing with"):
        parse_edit_command(["run", *beside.split(), *FLAGS[name].split()], lambda directory: RUN)


@pytest.mark.parametrize(
    "flags", ["--start 3", "--stride 4", "--mixer none --init local", "--steps 0 --sample-every 3"]
)
def test_a_flag_of_a_tuning_that_changes_nothing_says_so(flags):
    with pytest.warns(UserWarning, match="changes nothing with"):
        parse_tune_config(flags.split())


def test_every_setting_of_a_tuning_is_read():
    files = [
        path for room in ("train", "vrwkv_jax") for path in (ROOT / room).rglob("*.py") if path.parent.name != "config"
    ]
    read = {
        node.attr for path in files for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)
    }
    by_controls = {name for control in CONTROLS.values() for name in (control.layers, *control.neutral)}
    assert set(leaves(TuneConfig())) - read - by_controls == set()


# The model of a run is known by what is in it.


def test_a_run_is_not_edited_with_another_model(what_is_done, tmp_path, monkeypatch):
    finished = edit.load_run("run")
    metrics = {"provenance": {"weights_sha256": {"unet/diffusion_pytorch_model.safetensors": "0" * 64}}}
    monkeypatch.setattr(edit, "load_run", lambda directory: dataclasses.replace(finished, metrics=metrics))
    with pytest.raises(
        UserError, match=r"run was made with other weights than those of model \(unet/.*0000 and is .*--model"
    ):
        what_is_done("")


def test_a_model_that_has_gone_may_be_named_anew(what_is_done, tmp_path):
    Path("model").unlink()
    with pytest.raises(UserError, match=r"there is no checkpoint model; .* say with --model where it is"):
        what_is_done("")
    assert what_is_done("--model other")
