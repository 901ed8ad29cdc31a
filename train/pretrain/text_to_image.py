"""U-Net and text encoder of the small model, trained together on single frames."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from train.pretrain.fit import Recipe, fit
from vrwkv_jax.diffusion.schedule import NoiseSchedule
from vrwkv_jax.editing.denoiser import Denoiser
from vrwkv_jax.models import params as P
from vrwkv_jax.models.clip_text import CLIPTextConfig, CLIPTextEncoder
from vrwkv_jax.models.params import Params
from vrwkv_jax.models.unet import UNet
from vrwkv_jax.models.unet_config import UNetConfig
from vrwkv_jax.tuning.step import diffusion_loss
from vrwkv_jax.typing import Array, Float, Int

TEXT_WIDTH, TEXT_LENGTH = 128, 40
UNET = UNetConfig(
    in_channels=4,
    out_channels=4,
    block_out_channels=(48, 96),
    down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
    layers_per_block=1,
    norm_num_groups=16,
    attention_head_dim=(2, 4),
    cross_attention_dim=TEXT_WIDTH,
    use_linear_projection=True,
)
Prediction = Literal["v_prediction", "epsilon"]
_COMMON = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "steps_offset": 1,
    "clip_sample": False,
}
SCHEDULERS: Mapping[Prediction, Mapping[str, Any]] = {
    "v_prediction": _COMMON
    | {  # zero terminal SNR, https://arxiv.org/abs/2305.08891
        "prediction_type": "v_prediction",
        "rescale_betas_zero_snr": True,
        "timestep_spacing": "trailing",
        "set_alpha_to_one": True,
    },
    "epsilon": _COMMON
    | {  # as in Stable Diffusion 1.5
        "prediction_type": "epsilon",
        "timestep_spacing": "leading",
        "set_alpha_to_one": False,
    },
}
"""``scheduler_config.json`` of a DDIMScheduler, by what the U-Net predicts."""
BATCH = 32
DECIDED_AT = (0.6, -0.7)
"""Half of the timesteps each: middles of logit-normal distributions (https://arxiv.org/abs/2403.03206). What a thing's
shape is, is decided past the middle of the noise, and what it is made of, before it."""
UNCONDITIONAL = 0.1  # share of prompts that are left out, for classifier-free guidance


def text_config(vocab_size: int) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=vocab_size,
        hidden_size=TEXT_WIDTH,
        intermediate_size=4 * TEXT_WIDTH,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=TEXT_LENGTH,
    )


def train_text_to_image(
    latents: Float[np.ndarray, "N h w D"],
    input_ids: Int[np.ndarray, "N L"],
    empty_ids: Int[np.ndarray, " L"],
    vocab_size: int,
    prediction: Prediction,
    recipe: Recipe,
    directory: Path,
    config: UNetConfig = UNET,
    first: tuple[Params, Params] | None = None,
) -> tuple[Params, Params]:
    """The moving averages of the U-Net's and of the text encoder's parameters.

    Args:
        latents: of the training frames, at unit variance.
        input_ids: their captions.
        empty_ids: the empty prompt.
        prediction: what the U-Net learns to predict.
        config: of the U-Net.
        first: the two to begin with; None begins with new ones.
    """
    rngs = nnx.Rngs(recipe.seed)
    unet, unet_params = P.split(UNet(config, rngs=rngs))
    encoder, encoder_params = P.split(CLIPTextEncoder(text_config(vocab_size), rngs=rngs))
    unet_params, encoder_params = first or (unet_params, encoder_params)
    schedule = NoiseSchedule.from_config(SCHEDULERS[prediction])

    def loss(params: Params, batch: tuple[Array, Array], key: Array) -> tuple[Array, dict[str, Array]]:
        clean, ids = batch
        text = P.merge(encoder, _part(params, "text_encoder/"))(ids)
        timestep_key, place_key, noise_key = jax.random.split(key, 3)
        places = jnp.where(jax.random.bernoulli(place_key, shape=clean.shape[:1]), *DECIDED_AT)
        position = jax.nn.sigmoid(places + jax.random.normal(timestep_key, clean.shape[:1]))
        timesteps = jnp.floor(position * schedule.num_train_timesteps).astype(jnp.int32)
        unet_params, clips = _part(params, "unet/"), clean[:, None]
        denoiser = Denoiser(unet, schedule, unet_params, "float32")
        value = diffusion_loss(
            denoiser, clips, timesteps=timesteps, encoder_hidden_states=text, key=noise_key, remat=False
        )
        return value, {}

    def batch(rng: np.random.Generator, step: int) -> tuple[np.ndarray, np.ndarray]:
        chosen = rng.integers(len(latents), size=BATCH)
        left_out = rng.random((BATCH, 1)) < UNCONDITIONAL
        return latents[chosen], np.where(left_out, empty_ids, input_ids[chosen])

    params = {f"unet/{path}": leaf for path, leaf in unet_params.items()}
    params |= {f"text_encoder/{path}": leaf for path, leaf in encoder_params.items()}
    trained = fit(f"text to image, {prediction}", params, loss, batch, recipe, directory)
    return _part(trained, "unet/"), _part(trained, "text_encoder/")


def with_new_words(params: Params, joined: Sequence[tuple[int, int]]) -> Params:
    """The text encoder's parameters with an embedding for every new token: the mean of the two that it joins."""
    path = "token_embedding/embedding"
    *rows, start, end = np.asarray(params[path], np.float32)
    for first, second in joined:
        rows.append((rows[first] + rows[second]) / 2)
    grown: Params = {**params, path: jnp.asarray(np.stack([*rows, start, end]))}
    return grown


def _part(params: Params, prefix: str) -> Params:
    return {path.removeprefix(prefix): leaf for path, leaf in params.items() if path.startswith(prefix)}
