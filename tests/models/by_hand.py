"""A U-Net's pieces called one after the other, as a list: what feature reuse is compared with."""

import jax
import jax.numpy as jnp

from vrwkv_jax.models.layers import timestep_embedding
from vrwkv_jax.models.unet import UNet


def down(unet: UNet) -> list:
    """What comes before each of the skip connections, functions of (hidden, time, text)."""
    pieces = [lambda hidden, time, text: unet.conv_in(hidden)]
    for block in unet.down_blocks:
        for i, resnet in enumerate(block.resnets):
            attention = None if block.attentions is None else block.attentions[i]
            pieces.append(lambda h, time, text, r=resnet, a=attention: attended(a, r(h, time), text))
        if block.downsampler is not None:
            pieces.append(lambda h, time, text, d=block.downsampler: d(h))
    return pieces


def attended(attention, hidden, text):
    return hidden if attention is None else attention(hidden, text)


def middle(unet: UNet, hidden, time, text):
    block = unet.mid_block
    hidden = block.attentions[0](block.resnets[0](hidden, time), text)
    hidden = block.resnets[1](hidden, time)
    return hidden if block.mixer is None else block.mixer(hidden)


def up(unet: UNet) -> list:
    """What takes in each of the skip connections, functions of (hidden, skip, time, text) and the skip after it."""
    pieces = []
    for block in unet.up_blocks:
        for i, resnet in enumerate(block.resnets):
            attention = None if block.attentions is None else block.attentions[i]
            upsampler = block.upsampler if i == len(block.resnets) - 1 else None

            def piece(h, skip, time, text, following, s=block.skips[i], r=resnet, a=attention, u=upsampler):
                h = attended(a, r(s(h, skip, None), time), text)
                return h if u is None else u(h, following.shape[-3:-1])

            pieces.append(piece)
    return pieces


def call(unet: UNet, latents, timesteps, text, depth: int, deep=None):
    """The prediction, and what the deep blocks give or, if ``deep`` is that of another call, gave there."""
    embedding = timestep_embedding(
        timesteps, unet.conv_in.out_features, flip_sin_to_cos=unet.flip_sin_to_cos, freq_shift=unet.freq_shift
    )
    time, skips, hidden = unet.time_embedding(embedding), [], latents
    going_down, going_up = down(unet), up(unet)
    for piece in going_down if deep is None else going_down[:depth]:
        hidden = piece(hidden, time, text)
        skips.append(hidden)
    if deep is None:
        hidden = middle(unet, hidden, time, text)
        for piece in going_up[:-depth]:
            hidden = piece(hidden, skips.pop(), time, text, skips[-1])
        deep = hidden
    hidden = deep
    for piece in going_up[-depth:]:
        skip = skips.pop()
        hidden = piece(hidden, skip, time, text, skips[-1] if skips else skip)
    return unet.conv_out(jax.nn.silu(unet.conv_norm_out(hidden))), deep


def guided_ddim(ask, signal_at, noise, timesteps, previous_timesteps, *, scale, interval):
    """The latents after every DDIM step of a model that predicts noise; deep blocks run in every ``interval``-th.

    ``ask(latents, timesteps, deep)`` is ``call`` for two rows, of which the first is the negative prompt's.
    """
    latents, found, deep = noise, [], None
    for step, (t, before) in enumerate(zip(timesteps, previous_timesteps, strict=True)):
        both, times = jnp.concatenate([latents, latents]), jnp.full(2, t)
        output, deep = ask(both, times, None if step % interval == 0 else deep)
        epsilon = output[:1] + scale * (output[1:] - output[:1])
        signal, signal_before = signal_at(t), signal_at(before)
        clean = (latents - (1 - signal) ** 0.5 * epsilon) / signal**0.5
        latents = signal_before**0.5 * clean + (1 - signal_before) ** 0.5 * epsilon
        found.append(latents)
    return found
