"""PyTorch on the same card: diffusers' image U-Net, and Tune-A-Video's layers on it.

Tune-A-Video (arXiv 2212.11565) attends from every frame to the first and the previous one, and after each transformer
block along time at each place. Its attention runs by SDPA here, which is faster than the code that was published.
"""

from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import nn
from torch.nn import functional as F

from benchmarks.gpu.timing import Run, times

TINY: dict[str, Any] = {
    "block_out_channels": (32, 64),
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "layers_per_block": 1,
    "norm_num_groups": 16,
}


class SparseCausal:
    """An attention processor of diffusers: keys and values of the first and the previous frame."""

    def __init__(self, frames: int):
        self.frames = frames

    def __call__(self, attn: Any, hidden_states: torch.Tensor, encoder_hidden_states=None, **_: Any) -> torch.Tensor:
        context = encoder_hidden_states
        if context is None:
            clips = hidden_states.unflatten(0, (-1, self.frames))
            first, previous = clips[:, :1].expand_as(clips), torch.cat([clips[:, :1], clips[:, :-1]], dim=1)
            context = torch.cat([first, previous], dim=2).flatten(0, 1)
        out = attend(attn.to_q(hidden_states), attn.to_k(context), attn.to_v(context), attn.heads)
        return attn.to_out[0](out)


class AlongTime(nn.Module):
    """Self-attention over the frames of each place, with its own residual connection."""

    def __init__(self, channels: int, heads: int, frames: int):
        super().__init__()
        self.heads, self.frames, self.norm = heads, frames, nn.LayerNorm(channels)
        self.to_q, self.to_k, self.to_v = (nn.Linear(channels, channels, bias=False) for _ in range(3))
        self.to_out = nn.Linear(channels, channels)
        nn.init.zeros_(self.to_out.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        places = x.unflatten(0, (-1, self.frames)).transpose(1, 2)
        tokens = places.flatten(0, 1)
        normed = self.norm(tokens)
        out = self.to_out(attend(self.to_q(normed), self.to_k(normed), self.to_v(normed), self.heads))
        return (tokens + out).view(places.shape).transpose(1, 2).flatten(0, 1)


def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, heads: int) -> torch.Tensor:
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


def model(frames: int, tune_a_video: bool, tiny: bool, device: str) -> UNet2DConditionModel:
    """Stable Diffusion 1.5's U-Net with random weights, on ``device``."""
    with torch.device(device):
        unet = UNet2DConditionModel(cross_attention_dim=768, attention_head_dim=8, **(TINY if tiny else {}))
        if tune_a_video:
            unet.set_attn_processor(SparseCausal(frames))
            for block in [m for m in unet.modules() if type(m).__name__ == "BasicTransformerBlock"]:
                block.along_time = AlongTime(block.attn1.to_q.in_features, block.attn1.heads, frames)
                block.register_forward_hook(lambda block, _, output: block.along_time(output))
    return unet.requires_grad_(False).to(memory_format=torch.channels_last)


def trained(name: str) -> bool:
    """What Tune-A-Video trains: the layers along time, and what asks the questions."""
    return "along_time" in name or name.endswith(("attn1.to_q.weight", "attn2.to_q.weight"))


def run(case: dict) -> Run:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.backends.cudnn.benchmark = True
    frames, tuning = case["frames"], case["peer"].endswith("tuning")
    yield None
    unet = model(frames, case["peer"] != "image", case["tiny"], device)
    if tuning:
        for name, parameter in unet.named_parameters():
            if not trained(name):
                parameter.data = parameter.data.to(torch.bfloat16)
        unet.enable_gradient_checkpointing()
        unet.train()
        parameters = [p.requires_grad_() for name, p in unet.named_parameters() if trained(name)]
        optimizer = torch.optim.AdamW(parameters, lr=3e-5, fused=device == "cuda")
    else:
        unet = unet.to(torch.bfloat16).eval()
    rows, size = frames if tuning else 2 * frames, 8 if case["tiny"] else 64
    latents = torch.randn(rows, 4, size, size, device=device, dtype=torch.bfloat16)
    latents = latents.to(memory_format=torch.channels_last)
    noise = torch.randn(latents.shape, device=device)
    text = torch.randn(rows, 77, 768, device=device, dtype=torch.bfloat16)
    timesteps = torch.full((rows,), 501, device=device)

    def sample() -> torch.Tensor:
        with torch.no_grad():
            return unet(latents, timesteps, encoder_hidden_states=text).sample

    def tune() -> torch.Tensor:
        with torch.autocast(device, torch.bfloat16):
            loss = F.mse_loss(unet(latents, timesteps, encoder_hidden_states=text).sample.float(), noise)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    def wait(_: torch.Tensor) -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    call = tune if tuning else sample
    found: dict[str, Any] = times(call, wait)
    found |= {"finite": bool(call().isfinite().all()), "torch": torch.__version__, "frames_per_row": frames}
    found["peak_bytes"] = torch.cuda.max_memory_allocated() if device == "cuda" else None
    yield [found]
