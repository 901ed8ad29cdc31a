"""Tune-A-Video's mixer against its formula in float64, and its whole transformer block rebuilt of diffusers' parts."""

import jax
import jax.numpy as jnp
import numpy as np
import torch
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.attention_processor import Attention

from tests.models.test_vrwkv import layer_norm
from tests.models.tiny_unet import TINY, randomized
from vrwkv_jax.checkpoint.torch_names import to_torch, torch_name
from vrwkv_jax.models import params as P
from vrwkv_jax.models.mixers.tune_a_video import TuneAVideo, TuneAVideoConfig
from vrwkv_jax.models.transformer import TransformerBlock

HEADS = TINY.num_heads[0]


def softmax(scores: np.ndarray) -> np.ndarray:
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


def oracle(params: P.Params, config: TuneAVideoConfig, x: np.ndarray) -> np.ndarray:
    p = {path: np.asarray(leaf, np.float64) for path, leaf in params.items()}
    normed = layer_norm(x.astype(np.float64), p["norm/scale"], p["norm/bias"])
    q, k, v = (normed @ p[f"attention/to_{name}/kernel"] for name in "qkv")
    mixed, width = np.empty_like(q), x.shape[-1] // HEADS
    for b, row, column in np.ndindex(x.shape[0], *x.shape[2:4]):
        place = b, slice(None), row, column
        for head in range(HEADS):
            part = slice(head * width, (head + 1) * width)
            scores = q[place][:, part] @ k[place][:, part].T / np.sqrt(width)
            mixed[(*place, part)] = softmax(scores) @ v[place][:, part]
    return x + mixed @ p["attention/to_out/kernel"] + p["attention/to_out/bias"]


class TorchBlock(torch.nn.Module):
    """``BasicTransformerBlock`` of Tune-A-Video's attention.py, with the parts that diffusers has."""

    def __init__(self, channels: int, context_channels: int):
        super().__init__()
        self.block = BasicTransformerBlock(channels, HEADS, channels // HEADS, cross_attention_dim=context_channels)
        self.norm_temp = torch.nn.LayerNorm(channels)
        self.attn_temp = Attention(channels, heads=HEADS, dim_head=channels // HEADS)

    def forward(self, x: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        """``x`` is ``B F S C``."""
        batch, frames, places, _ = x.shape
        hidden, block = x.flatten(0, 1), self.block
        normed = block.norm1(hidden).unflatten(0, (batch, frames))
        first, before = normed[:, [0] * frames], normed[:, [max(f - 1, 0) for f in range(frames)]]
        hidden = hidden + block.attn1(normed.flatten(0, 1), torch.cat([first, before], 2).flatten(0, 1))
        hidden = hidden + block.attn2(block.norm2(hidden), context.repeat_interleave(frames, 0))
        hidden = hidden + block.ff(block.norm3(hidden))
        over_frames = hidden.unflatten(0, (batch, frames)).transpose(1, 2).flatten(0, 1)
        over_frames = over_frames + self.attn_temp(self.norm_temp(over_frames))
        return over_frames.unflatten(0, (batch, places)).transpose(1, 2)


def test_the_transformer_block_with_it_is_that_of_the_authors():
    """Values and gradients: sparse-causal attention, text, feed-forward, and only then attention over the frames."""
    channels, context_channels, frames, height, width = 12, 8, 4, 2, 3
    place = {"heads": HEADS, "layer": 0, "num_layers": 1}
    graphdef, shapes = P.abstract(
        lambda rngs: TransformerBlock(
            channels,
            HEADS,
            context_channels,
            attention="sparse_causal",
            mixer=TuneAVideo(channels, TuneAVideoConfig(), **place, rngs=rngs),
            rngs=rngs,
        )
    )
    rng, params = np.random.default_rng(1), randomized(shapes)
    x, cotangent = rng.normal(size=(2, 2, frames, height, width, channels)).astype(np.float32)
    text = rng.normal(size=(2, 5, context_channels)).astype(np.float32)

    @jax.jit
    def run(params, x, text):
        return jax.vjp(lambda *args: P.merge(graphdef, args[0])(*args[1:]), params, x, text)

    output, back = run(params, x, text)
    in_params, in_x, in_text = jax.jit(lambda back, cotangent: back(cotangent))(back, jnp.asarray(cotangent))

    torch_block = TorchBlock(channels, context_channels).double()
    weights = torch_block.state_dict(keep_vars=True)
    names = {path: name_in_torch(path) for path in params}
    assert set(names.values()) == set(weights)
    with torch.no_grad():
        for path, name in names.items():
            weights[name].copy_(torch.tensor(to_torch(path, params[path])))
    torch_x, torch_text = (torch.tensor(y, dtype=torch.float64, requires_grad=True) for y in (x, text))
    expected = torch_block(torch_x.flatten(2, 3), torch_text)
    expected.backward(torch.tensor(cotangent, dtype=torch.float64).flatten(2, 3))

    def compare(name: str, actual: np.ndarray, expected: torch.Tensor) -> None:
        expected = expected.detach().numpy()
        # A few layers in float32, and sums over up to 48 tokens; seen: 8e-7 of the scale.
        limit = 5e-6 * np.abs(expected).max()
        np.testing.assert_allclose(actual, expected, rtol=0, atol=limit, err_msg=name)

    compare("output", output, expected.unflatten(2, (height, width)))
    compare("x", in_x, torch_x.grad)
    compare("text", in_text, torch_text.grad)
    for path, name in names.items():
        compare(path, to_torch(path, np.asarray(in_params[path])), weights[name].grad)


def name_in_torch(path: str) -> str:
    theirs = path.replace("mixer/norm", "norm_temp").replace("mixer/attention", "attn_temp")
    return torch_name(f"/{theirs}" if "_temp" in theirs else f"/block/{theirs}").removeprefix(".")
