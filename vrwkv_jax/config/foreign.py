"""Settings by their names in Tune-A-Video and the diffusers training scripts, and what has their place here."""

RENAMED = {
    "pretrained_model_path": "`model`",
    "pretrained_model_name_or_path": "`model`",
    "output_dir": "`output`",
    "train_data.video_path": "`clip.video`",
    "train_data.prompt": "`prompt`",
    "train_data.n_sample_frames": "`clip.frames`",
    "train_data.width": "`clip.width`",
    "train_data.height": "`clip.height`",
    "train_data.sample_start_idx": "`clip.start`",
    "train_data.sample_frame_rate": "`clip.stride`",
    "validation_data.prompts": "`edit_prompts`",
    "validation_data.num_inference_steps": "`editing.num_inference_steps`",
    "validation_data.num_inv_steps": "`editing.num_inference_steps`, which holds for inversion and sampling",
    "validation_data.guidance_scale": "`editing.guidance_scale`",
    "checkpointing_steps": "`checkpoint_every`",
    "validation_steps": "`sample_every`",
    "resume_from_checkpoint": "`resume`, which is true or false",
    "learning_rate": "`tuning.learning_rate`",
    "train_batch_size": "`tuning.batch_size`, of draws of noise for the one clip",
    "max_train_steps": "`tuning.steps`",
    "trainable_modules": "`tuning.train`, which is mixers or all",
    "mixed_precision": "`tuning.dtype`, which is float32 or bfloat16",
    "gradient_checkpointing": "`tuning.remat`",
    "adam_beta1": "`tuning.beta1`",
    "adam_beta2": "`tuning.beta2`",
    "adam_weight_decay": "`tuning.weight_decay`",
    "adam_epsilon": "`tuning.epsilon`",
}
"""Their name -> what it is called here."""

WITHOUT_COUNTERPART = {
    "validation_data.video_length": "an edit has the frames of its clip",
    "validation_data.width": "an edit has the size of its clip",
    "validation_data.height": "an edit has the size of its clip",
    "validation_data.use_inv_latent": "an edit always starts from the inverted clip",
    "gradient_accumulation_steps": "a step sees the one clip",
    "use_8bit_adam": "only what trains has optimiser state, which is small",
    "enable_xformers_memory_efficient_attention": "there is no xformers in JAX",
    "lr_scheduler": "the learning rate is constant",
    "lr_warmup_steps": "the learning rate is constant",
    "scale_lr": "the learning rate is constant",
}
"""Their name -> why there is no such setting here."""

SECTIONS = {"train_data": "`clip`", "validation_data": "`editing`"}
"""Their section -> the section here that comes nearest."""


def translate(place: str) -> str | None:
    """What to write instead of the setting at ``place`` ("train_data.width"); None where it is no such setting."""
    if place in RENAMED:
        return f"is Tune-A-Video's name: here it is {RENAMED[place]}"
    if place in WITHOUT_COUNTERPART:
        return f"is Tune-A-Video's and has no counterpart: {WITHOUT_COUNTERPART[place]}; remove it"
    section = place.split(".")[0]
    if section in SECTIONS:
        return f"is Tune-A-Video's: the nearest section here is {SECTIONS[section]}"
    return None
