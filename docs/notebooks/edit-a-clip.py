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
# # Edit a clip
#
# From one clip and one sentence to edits of the clip: tune Stable Diffusion on it, invert it, sample it back under
# other sentences. Choose a machine with a GPU (in Colab: Runtime, Change runtime type), and run the cells from top to
# bottom.

# %%
# %pip install -q "vrwkv-jax[cuda]"

# %% [markdown]
# ## What to edit
#
# `SMALL = True` takes the small model and the clip that come with the package: everything then runs on a processor, in
# a minute or two. The steps are few, so that you see every part at work; 100 and 20 make good edits.

# %%
SMALL = False

if SMALL:
    MODEL, VIDEO, SIZE, FRAMES, STRIDE = None, None, 64, 8, 1
    PROMPT = "a yellow star moving in a circle in front of a sunset"
    EDIT_PROMPT = "a blue star moving in a circle in front of a sunset"
    NIGHT = "a yellow star moving in a circle at night"
    TUNING_STEPS, INFERENCE_STEPS, GUIDANCE = 20, 8, 3.0
else:
    MODEL, VIDEO, SIZE, FRAMES, STRIDE = "stable-diffusion-v1-5/stable-diffusion-v1-5", "jeep.mp4", 512, 8, 2
    PROMPT = "a jeep turns on a road"
    EDIT_PROMPT = "a red sports car turns on a road"
    NIGHT = "a jeep turns on a road at night"
    TUNING_STEPS, INFERENCE_STEPS, GUIDANCE = 300, 50, 7.5

# %%
from vrwkv_jax import ControlConfig, Editor, Sampling, built_in, tune
from vrwkv_jax.config import TuneConfig, TuningConfig
from vrwkv_jax.media.inline import show
from vrwkv_jax.media.video import read_video, write_video

if VIDEO is None:
    clip = built_in.clip(FRAMES, SIZE, SIZE)
else:  # upload it first, in Colab by the folder on the left
    clip = read_video(VIDEO, frames=FRAMES, stride=STRIDE, width=SIZE, height=SIZE)
show(clip)

# %% [markdown]
# ## The model
#
# A Hugging Face id, or the path of a checkpoint in any usual form. Its U-Net gets mixers that carry information between
# the frames; they start as the identity.

# %%
editor = Editor.from_pretrained(MODEL or built_in.MODEL)
editor.video

# %% [markdown]
# ## Tune it on the clip
#
# The mixers and a few of the U-Net's own layers learn what moves in the clip, and how.

# %%
from tqdm.auto import tqdm

progress = tqdm(total=TUNING_STEPS, unit="step")
run = tune(
    editor,
    clip,
    PROMPT,
    TuneConfig(prompt=PROMPT, tuning=TuningConfig(steps=TUNING_STEPS)),
    callback=lambda loss, **_: (progress.set_postfix(loss=f"{loss:.3f}"), progress.update()),
)
progress.close()
tuned = editor.with_unet_params(run.params)
run

# %% [markdown]
# ## Invert it
#
# To the noise from which sampling under the clip's own sentence leads back to the clip.

# %%
inversion = tuned.invert(clip, PROMPT, num_inference_steps=INFERENCE_STEPS)
reconstruction = tuned.edit(inversion, PROMPT, sampling=Sampling(guidance_scale=1.0))
show({"source": clip, "reconstruction": reconstruction.frames})

# %% [markdown]
# ## Edit it

# %%
sampling = Sampling(guidance_scale=GUIDANCE)
plain = tuned.edit(inversion, EDIT_PROMPT, sampling=sampling)
plain

# %% [markdown]
# ## Hold what should stay
#
# Controls take over from the source what an edit should keep: residual features hold places and shapes, attention maps
# of the words that both sentences share hold where those are. A share of 0.6 is the first 60 % of the steps.

# %%
controls = ControlConfig(features=0.5, cross_attention=0.6, replace_words=True)
held = tuned.edit(inversion, EDIT_PROMPT, sampling=sampling, controls=controls)
night = tuned.edit(inversion, NIGHT, sampling=sampling, controls=controls)
show({"source": clip, "without controls": plain.frames, "with": held.frames, NIGHT: night.frames})

# %% [markdown]
# ## Save it

# %%
write_video("edited.mp4", held.frames, fps=8)

# %% [markdown]
# All of this in one command, which can be stopped and resumed: `python -m train.tune --model ... --video jeep.mp4
# --prompt "a jeep turns on a road" --edit-prompt "a red sports car turns on a road"`.
