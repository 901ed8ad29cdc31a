"""Stable Diffusion 1.5's models here against diffusers and transformers in PyTorch, on the same processor.

    pip install torch==2.13.0 diffusers==0.42.*
    python -m benchmarks.unet                                       # 15 GB of memory, some minutes
    python -m benchmarks.unet --parts "vae decode" --pixels 256 --frames 4

The U-Net (frame by frame, without mixers), the VAE's two halves and the text encoder, with the same random weights in
float32 on both sides, the same inputs and as many threads. The two take turns; the fastest turn of each counts, and
the ratio is ours over theirs: below 1 ours is faster. The largest difference of their results is printed beside it, in
shares of the largest value. One part after the other is in memory. benchmarks/results/unet.json has the figures.
"""

import argparse
import gc
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from diffusers import AutoencoderKL as TorchVAE
from diffusers import UNet2DConditionModel
from einops import rearrange
from flax import nnx
from transformers import CLIPTextConfig as TorchTextConfig
from transformers import CLIPTextModel

from benchmarks.programs import TOKENS, UNET, VAE, check_sizes
from benchmarks.written import write
from vrwkv_jax.checkpoint.tensors import Arrays
from vrwkv_jax.checkpoint.torch_tensors import from_tensors
from vrwkv_jax.commands.cli import run_cli
from vrwkv_jax.models import params as P
from vrwkv_jax.models.clip_text import CLIPTextConfig, CLIPTextEncoder
from vrwkv_jax.models.unet import UNet
from vrwkv_jax.models.vae import AutoencoderKL
from vrwkv_jax.system.about import about
from vrwkv_jax.system.errors import UserError

RESULTS = Path(__file__).parent / "results" / "unet.json"
TEXT = CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_attention_heads=12)
TINY = {"block_out_channels": (32, 64, 64, 64), "norm_num_groups": 8}  # to try the benchmark itself
TIMESTEP = 481
Call = Callable[[], Any]
Row = dict[str, Any]


def unet(frames: int, pixels: int, tiny: bool) -> tuple[Call, Call]:
    config = replace(UNET, **(TINY if tiny else {}))
    theirs = UNet2DConditionModel(
        cross_attention_dim=config.cross_attention_dim,
        block_out_channels=config.block_out_channels,
        norm_num_groups=config.norm_num_groups,
    )
    theirs = theirs.eval().requires_grad_(False)
    ours, params = _taken_over(theirs, lambda rngs: UNet(config, rngs=rngs))
    latents, text = _values((1, frames, pixels // 8, pixels // 8, 4)), _values((1, TOKENS, 768))
    image = torch.from_numpy(rearrange(latents, "b f h w c -> (b f) c h w"))
    context = torch.from_numpy(text).expand(frames, -1, -1)
    step = jax.jit(lambda params, x, text: P.merge(ours, params)(x, jnp.full(1, TIMESTEP), text))
    arguments = params, jnp.asarray(latents), jnp.asarray(text)
    return (
        lambda: rearrange(step(*arguments), "b f h w c -> (b f) h w c"),
        lambda: theirs(image, torch.full((frames,), TIMESTEP), context).sample.permute(0, 2, 3, 1),
    )


def vae(tiny: bool) -> tuple[TorchVAE, Any, P.Params]:
    config = replace(VAE, **(TINY if tiny else {}))
    theirs = TorchVAE(
        block_out_channels=config.block_out_channels,
        layers_per_block=config.layers_per_block,
        down_block_types=config.down_block_types,
        up_block_types=config.up_block_types,
        norm_num_groups=config.norm_num_groups,
    )
    theirs = theirs.eval().requires_grad_(False)
    return theirs, *_taken_over(theirs, lambda rngs: AutoencoderKL(config, rngs=rngs))


def vae_encode(frames: int, pixels: int, tiny: bool) -> tuple[Call, Call]:
    theirs, ours, params = vae(tiny)
    pictures = _values((frames, pixels, pixels, 3))
    image = torch.from_numpy(pictures).permute(0, 3, 1, 2).contiguous()
    step, given = jax.jit(lambda params, x: P.merge(ours, params).encode(x)[0]), jnp.asarray(pictures)
    return (
        lambda: step(params, given),
        lambda: theirs.encode(image).latent_dist.mean.permute(0, 2, 3, 1),
    )


def vae_decode(frames: int, pixels: int, tiny: bool) -> tuple[Call, Call]:
    theirs, ours, params = vae(tiny)
    latents = _values((frames, pixels // 8, pixels // 8, 4))
    image = torch.from_numpy(latents).permute(0, 3, 1, 2).contiguous()
    step, given = jax.jit(lambda params, x: P.merge(ours, params).decode(x)), jnp.asarray(latents)
    return (
        lambda: step(params, given),
        lambda: theirs.decode(image).sample.permute(0, 2, 3, 1),
    )


def text_encoder(frames: int, pixels: int, tiny: bool) -> tuple[Call, Call]:
    config = replace(TEXT, num_hidden_layers=1) if tiny else TEXT
    theirs = CLIPTextModel(TorchTextConfig(**asdict(config))).eval().requires_grad_(False)
    ours, params = _taken_over(theirs, lambda rngs: CLIPTextEncoder(config, rngs=rngs))
    ids = np.random.default_rng(0).integers(TEXT.vocab_size - 2, size=(2, TOKENS)).astype(np.int32)
    tokens, step = torch.from_numpy(ids).long(), jax.jit(lambda params, ids: P.merge(ours, params)(ids))
    given = jnp.asarray(ids)
    return lambda: step(params, given), lambda: theirs(tokens).last_hidden_state


PARTS: dict[str, Callable[[int, int, bool], tuple[Call, Call]]] = {
    "text encoder": text_encoder,
    "vae encode": vae_encode,
    "vae decode": vae_decode,
    "unet": unet,
}


def _taken_over(theirs: torch.nn.Module, build: Callable[[nnx.Rngs], nnx.Module]) -> tuple[Any, P.Params]:
    """Our model, and the weights of theirs in it."""
    graphdef, shapes = P.abstract(build)
    tensors = {name: value.numpy() for name, value in theirs.state_dict().items()}
    return graphdef, from_tensors(Arrays(tensors), shapes, jnp.float32, "PyTorch")


def _values(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def measure(part: str, frames: int, pixels: int, repeats: int, tiny: bool) -> Row:
    ours, theirs = PARTS[part](frames, pixels, tiny)
    with torch.inference_mode():
        expected, actual = theirs().numpy(), np.asarray(ours())  # the first turn compiles
        taken: dict[str, list[float]] = {"ours": [], "theirs": []}
        for _ in range(repeats):
            for name, call in (("ours", ours), ("theirs", theirs)):
                start = time.perf_counter()
                jax.block_until_ready(call())
                taken[name].append(time.perf_counter() - start)
    best = {name: min(times) for name, times in taken.items()}
    return {
        "part": part,
        "frames": frames,
        "pixels": None if part == "text encoder" else pixels,
        "ms": 1e3 * best["ours"],
        "torch_ms": 1e3 * best["theirs"],
        "ratio": best["ours"] / best["theirs"],
        "largest_difference": float(np.abs(actual - expected).max() / np.abs(expected).max()),
        "turns": repeats,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.unet", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=tuple(PARTS))
    parser.add_argument("--pixels", nargs="+", type=int, default=(256, 512), help="of a side, a multiple of 64")
    parser.add_argument("--frames", nargs="+", type=int, default=(1, 4))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--tiny", action="store_true", help="small models, to try the benchmark itself")
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    check_sizes(options.frames, options.pixels)
    if options.repeats < 1:
        raise UserError(f"--repeats is {options.repeats}; expected at least 1")
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    torch.set_num_threads(threads)
    rows: list[Row] = []
    print(f"{'':14}{'frames':>7}{'pixels':>8}{'ours ms':>10}{'torch ms':>10}{'ratio':>7}{'difference':>12}", flush=True)
    for part in options.parts:
        sizes = [(1, 0)] if part == "text encoder" else [(f, p) for p in options.pixels for f in options.frames]
        for frames, pixels in sizes:
            row = measure(part, frames, pixels, options.repeats, options.tiny)
            gc.collect()
            jax.clear_caches()
            rows.append(row)
            print(
                f"{part:14}{frames:>7}{row['pixels'] or '':>8}{row['ms']:>10.1f}{row['torch_ms']:>10.1f}"
                f"{row['ratio']:>7.2f}{row['largest_difference']:>12.1e}",
                flush=True,
            )
    made = about() | {"torch": torch.__version__, "threads": threads, "tiny": options.tiny}
    write(options.output, {**made, "rows": rows})
    print(f"written to {options.output}")


if __name__ == "__main__":
    jax.config.update("jax_platforms", "cpu")
    sys.exit(run_cli(main))
