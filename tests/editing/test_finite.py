"""What is no number ends the work in a sentence, and never in a black clip."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest

from vrwkv_jax import Editor, built_in
from vrwkv_jax.editing.finite import check_finite
from vrwkv_jax.editing.settings import Sampling
from vrwkv_jax.models.video_config import VideoConfig
from vrwkv_jax.system.errors import UserError


def test_one_number_is_enough():
    latents = jnp.zeros((1, 2, 3, 3, 4))
    check_finite(latents, "step 2", "nothing")
    for value in (jnp.nan, jnp.inf, -jnp.inf):
        with pytest.raises(UserError, match=r"^step 2 gave latents that are no finite numbers: most likely a bug$"):
            check_finite(latents.at[0, 1, 2, 0, 3].set(value), "step 2", "a bug")


@pytest.fixture(scope="module")
def editor(tiny_checkpoint) -> Editor:
    return Editor.from_pretrained(tiny_checkpoint, video=VideoConfig(placement=("mid",)))


def with_damaged_vae(editor: Editor) -> Editor:
    components = editor.components
    params = {path: leaf.at[(0,) * leaf.ndim].set(jnp.nan) for path, leaf in components.vae.params.items()}
    return replace(editor, components=replace(components, vae=replace(components.vae, params=params)))


def test_a_damaged_vae(editor):
    damaged = with_damaged_vae(editor)
    with pytest.raises(UserError, match=r"encoding the clip gave latents that are no finite numbers: .* VAE's weights"):
        damaged.encode(built_in.clip(2, 16, 16))
    with pytest.raises(UserError, match=r"decoding gave pixels that are no finite numbers: .* VAE's weights"):
        damaged.decode(jnp.zeros((1, 2, 16, 16, 4)))


def test_stage_and_step_are_named(editor):
    clip = built_in.clip(2, 16, 16)
    inversion = editor.invert(clip, "a disc", num_inference_steps=3)
    inversion.trajectory[-1, 0, 0, 0, 0] = np.nan
    with pytest.raises(
        UserError, match=r"step 1 of 3 of sampling under 'a ring' gave .* likely the guidance scale \(1\)"
    ):
        editor.edit(inversion, "a ring", sampling=Sampling(guidance_scale=1.0))
    broken = editor.with_unet_params({"conv_out/bias": jnp.full(4, jnp.nan)})
    with pytest.raises(UserError, match=r"step 1 of 3 of the inversion gave latents that are no finite numbers"):
        broken.invert(clip, "a disc", num_inference_steps=3)
