"""The whole job: clip in, edited clip out, by the command that people use."""

import dataclasses
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.gpu.product import TINY_UNET, TINY_VAE
from benchmarks.gpu.timing import Rows, Run
from benchmarks.gpu.values import parameters
from benchmarks.programs import Models
from vrwkv_jax import built_in
from vrwkv_jax.checkpoint.save import save_pipeline
from vrwkv_jax.models import params as P
from vrwkv_jax.models.clip_text import CLIPTextConfig, CLIPTextEncoder
from vrwkv_jax.models.tokenizer import write_byte_tokenizer
from vrwkv_jax.models.unet import UNet
from vrwkv_jax.models.vae import AutoencoderKL
from vrwkv_jax.models.video_config import VideoConfig

TEXT = CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_attention_heads=12)
TINY_TEXT = CLIPTextConfig(514, 8, 16, 1, 2)
ROOT = Path(__file__).parents[2]


def make_checkpoint(directory: Path, tiny: bool = False) -> None:
    """Stable Diffusion 1.5's layout with random weights in half precision, as it is distributed."""
    unet, vae, text = (TINY_UNET, TINY_VAE, TINY_TEXT) if tiny else (Models.unet, Models.vae, TEXT)
    builds = {
        "unet": (unet, lambda rngs: UNet(unet, VideoConfig(mixer="none"), rngs=rngs)),
        "vae": (vae, lambda rngs: AutoencoderKL(vae, rngs=rngs)),
        "text_encoder": (text, lambda rngs: CLIPTextEncoder(text, rngs=rngs)),
    }
    models = {}
    for name, (config, build) in builds.items():
        params = parameters(P.abstract(build)[1])
        models[name] = dataclasses.asdict(config), {path: leaf.astype(np.float16) for path, leaf in params.items()}
    scheduler = json.loads((built_in.MODEL / "scheduler" / "scheduler_config.json").read_text())
    save_pipeline(directory, models, scheduler)
    write_byte_tokenizer(directory / "tokenizer")


def tune_flags(checkpoint: Path, case: dict[str, Any]) -> list[str]:
    """Settings of a short run that has every stage: the defaults, but for its size."""
    size = 64 if case["tiny"] else 512
    flags = {
        "--model": checkpoint,
        "--frames": case["frames"],
        "--width": size,
        "--height": size,
        "--steps": case["steps"],
        "--num-inference-steps": case["sampling_steps"],
        "--prompt": built_in.PROMPT,
        "--edit-prompt": built_in.EDIT_PROMPTS[0],
    }
    found = [str(part) for flag in flags.items() for part in flag]
    if case["tiny"]:  # controls find nothing to hold in so small a U-Net
        found += ["--cross-attention", "0", "--no-replace-words", "--features", "0"]
    return found


def command(flags: list[str], environment: dict[str, str] | None = None) -> subprocess.CompletedProcess:
    """``python -m train.tune`` in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "train.tune", *flags],
        cwd=ROOT,
        env=os.environ | (environment or {}),
        capture_output=True,
        text=True,
    )


def run(case: dict[str, Any]) -> Run:
    """Twice: with nothing compiled, and with what the first one kept."""
    with TemporaryDirectory() as temporary:
        root = Path(temporary)
        make_checkpoint(root / "checkpoint", case["tiny"])
        yield None
        rows: Rows = []
        for name in ("cold", "warm"):
            output = root / name
            flags = [*tune_flags(root / "checkpoint", case), "--output", str(output)]
            started = time.perf_counter()
            done = command(flags, {"XDG_CACHE_HOME": str(root / "cache")})
            seconds = time.perf_counter() - started
            if done.returncode:
                raise RuntimeError(done.stderr.strip().splitlines()[-1])
            metrics = json.loads((output / "metrics.json").read_text())
            rows.append({"cache": name, "seconds": seconds, "stages": metrics["seconds"]})
        yield rows
