# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Stable Diffusion in Flax
#
# Text encoder, U-Net and VAE of Stable Diffusion 1.x and 2.x as Flax NNX modules, with the weights of any usual
# checkpoint, each by itself: `jit` them, differentiate through them, look into them. And all three together, from a
# sentence to a picture.

# %%
# %pip install -q "vrwkv-jax[cuda]"

# %%
SMALL = False  # True: the small model that comes with the package, on any machine

if SMALL:
    MODEL, SIZE, PROMPT, OTHER, STEPS, GUIDANCE = None, 64, "a red circle on grass", "a blue star at night", 8, 3.0
else:
    MODEL, SIZE = "stable-diffusion-v1-5/stable-diffusion-v1-5", 512
    PROMPT, OTHER = "a photograph of a lighthouse in a storm", "a lighthouse, watercolour"
    STEPS, GUIDANCE = 30, 7.5

# %% [markdown]
# ## Pictures

# %%
from vrwkv_jax import Sampling, TextToImage, built_in
from vrwkv_jax.media.inline import show_pictures

draw = TextToImage.from_pretrained(MODEL or built_in.MODEL)
sampling = Sampling(guidance_scale=GUIDANCE, sampler="dpm++")
pictures = draw([PROMPT, OTHER], height=SIZE, width=SIZE, num_inference_steps=STEPS, sampling=sampling)
show_pictures({PROMPT: pictures[0], OTHER: pictures[1]})

# %% [markdown]
# ## The three models
#
# `Components` holds each as the static graph of a Flax NNX module and its parameters, an ordinary dictionary from path
# to array. `merge` makes the module of them.

# %%
import jax
import jax.numpy as jnp
import numpy as np

from vrwkv_jax.models import params as P

components = draw.editor.components
text_encoder, unet, vae = (
    P.merge(part.graphdef, part.params) for part in (components.text_encoder, components.unet, components.vae)
)
{name: P.count(getattr(components, name).params) for name in ("text_encoder", "unet", "vae")}

# %% [markdown]
# The text encoder: token ids to hidden states.

# %%
tokens = jnp.asarray(components.tokenizer(["", PROMPT]))
text = text_encoder(tokens)
tokens.shape, text.shape

# %% [markdown]
# The VAE: pixels from -1 to 1, channels last, to the mean and the log variance of latents, and back.

# %%
pixels = jnp.asarray(pictures[:1]) / 127.5 - 1
mean, _ = vae.encode(pixels)
back = vae.decode(mean)
decoded = np.asarray((back[0].clip(-1, 1) + 1) * 127.5).round().astype(np.uint8)
show_pictures({"picture": pictures[0], "encoded and decoded": decoded})

# %% [markdown]
# The U-Net: latents `[batch, frame, height, width, channel]`, a timestep and the text of each to what it predicts. A
# picture is a clip of one frame. Scaled by the VAE's factor, latents have unit variance.

# %%
schedule = components.schedule
latents = mean[:, None] * components.vae_config.scaling_factor
noise = jax.random.normal(jax.random.key(0), latents.shape)
timestep = jnp.asarray([500])
noisy = schedule.add_noise(latents, noise, timestep)
prediction = unet(noisy, timestep, text[1:])
schedule.prediction_type, prediction.shape

# %% [markdown]
# Everything is a function of the parameters, so gradients are those of `jax.grad`. Here: how much each place of the
# latents matters for what the sentence changes in the prediction.


# %%
def answer(latents, params):
    module = P.merge(components.unet.graphdef, params)
    return jnp.square(module(latents, timestep, text[1:]) - module(latents, timestep, text[:1])).mean()


gradient = jax.jit(jax.grad(answer))(noisy, components.unet.params)
strength = jnp.abs(gradient).sum(-1)[0, 0]
strength.shape, float(strength.max() / strength.mean())
