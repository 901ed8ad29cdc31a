"""The tab of a new run: clip, model, prompts, and what else can be set, folded away."""

from html import escape
from typing import Any

import gradio as gr

from vrwkv_jax import built_in
from vrwkv_jax.config.editing import DEFAULT_PRESET, PRESETS
from vrwkv_jax.config.flags import defaults
from vrwkv_jax.models.mixers.registry import MIXERS
from vrwkv_jax.runs.size import sized
from vrwkv_jax.studio.forms import NewRun, checked_model, tune_words
from vrwkv_jax.studio.gallery import free_name
from vrwkv_jax.studio.models import BUILT_IN, described
from vrwkv_jax.studio.preview import chosen_frames, whole_frame
from vrwkv_jax.studio.said import HANDLER, says_mistakes
from vrwkv_jax.studio.shown import picture_html
from vrwkv_jax.studio.studio import Studio
from vrwkv_jax.studio.uploads import ENDINGS, UploadedClip, accept, uploaded_clip, uploaded_clips
from vrwkv_jax.system.errors import printable

BUILT_IN_CLIP = ("Built-in clip: a yellow star circles", "")
BUILT_IN_MODEL = ("Built-in small model", "")
CLIP_FIELDS = ("clip", "begin", "end", "frames", "stride", "width", "height")


def new_run_tab(studio: Studio, page: gr.Blocks) -> Any:
    """Makes the tab; returns the event of a run that was started."""
    usual = defaults(None, None)
    fields: dict[str, Any] = {}
    with gr.Row(equal_height=False):
        with gr.Column(scale=5, min_width=280):
            fields["clip"] = gr.Dropdown([BUILT_IN_CLIP], value="", label="Clip", elem_id="clip")
            upload = gr.UploadButton(
                "Upload a clip", file_types=[*ENDINGS], size="sm", variant="secondary", elem_id="upload"
            )
            about = gr.HTML("", elem_id="clip-facts", elem_classes="model")
            with gr.Row(visible=False) as trim:
                fields["begin"] = gr.Slider(0, 1, 0, step=0.01, label="From (s)", min_width=120, elem_id="begin")
                fields["end"] = gr.Slider(0, 1, 1, step=0.01, label="To (s)", min_width=120, elem_id="end")
        with gr.Column(scale=4, min_width=220):
            whole = gr.HTML("", elem_id="whole")
    chosen = gr.HTML("", elem_id="chosen")
    with gr.Row(equal_height=False):
        fields["model"] = gr.Dropdown(
            [BUILT_IN_MODEL],
            value="",
            label="Model",
            info="A Stable Diffusion 1.x or 2.x checkpoint: a path, or owner/name on Hugging Face",
            allow_custom_value=True,
            elem_id="model",
        )
        fields["preset"] = gr.Radio(
            list(PRESETS), value=DEFAULT_PRESET, label="Preset", info="What an edit may cost", elem_id="preset"
        )
    model_facts = gr.HTML(_facts(BUILT_IN), elem_classes="model")
    with gr.Row(equal_height=False):
        fields["prompt"] = gr.Textbox(
            built_in.PROMPT,
            label="What the clip shows",
            lines=2,
            placeholder="a jeep turns on a road",
            elem_id="prompt",
        )
        fields["edit_prompts"] = gr.Textbox(
            built_in.EDIT_PROMPTS[0],
            label="What the edits shall show, one a line",
            lines=2,
            placeholder="a red sports car turns on a road",
            elem_id="edit-prompts",
        )
    with gr.Accordion("Further settings", open=False, elem_id="further"):
        with gr.Row():
            fields["frames"] = _number("Frames", usual.clip.count, "frames", info="of the clip")
            fields["stride"] = _number("Stride", 0, "stride", info="0: fits the trim")
            fields["width"] = _number("Width", usual.clip.width, "width", info="0: as the source")
            fields["height"] = _number("Height", usual.clip.height, "height", info="0: as the source")
        with gr.Row():
            fields["steps"] = _number("Tuning steps", usual.tuning.steps, "steps")
            fields["num_inference_steps"] = _number(
                "Inference steps", usual.editing.num_inference_steps, "inference-steps"
            )
            fields["guidance_scale"] = _number("Guidance", usual.editing.guidance_scale, "guidance")
            fields["sample_every"] = _number("Sample every n steps", 0, "sample-every")
        with gr.Row():
            fields["seed"] = _number("Seed", usual.seed, "seed")
            fields["mixer"] = gr.Dropdown(
                [*MIXERS, "none"], value=usual.video_model.mixer, label="Mixer", min_width=120, elem_id="mixer"
            )
            fields["negative_prompt"] = gr.Textbox("", label="What edits shall not show", scale=2, elem_id="negative")
    start = gr.Button("Tune and edit", variant="primary", size="lg", elem_id="start")

    names = list(fields)

    def form(*values: Any) -> NewRun:
        given = dict(zip(names, values, strict=True))
        given["clip"] = uploaded_clip(studio.places.uploads, given["clip"]) if given["clip"] else None
        given["model"] = checked_model(given["model"] or "", studio.listed_models(), any_path=studio.any_path)
        return NewRun(**given)

    def preview(*values: Any) -> list[Any]:
        """What is taken of the clip, with the built-in model's settings where a field doesn't concern it."""
        given = dict(zip(CLIP_FIELDS, values, strict=True))
        given["clip"] = uploaded_clip(studio.places.uploads, given["clip"]) if given["clip"] else None
        clip = sized(NewRun(**given, prompt="-", edit_prompts="-").config().clip)
        return [
            picture_html(
                whole_frame(clip), "The first frame" + ", of which the dark part is cropped" * (clip.video is not None)
            ),
            picture_html(chosen_frames(clip), f"The {clip.count} frames that are edited"),
        ]

    def begin(*values: Any) -> None:
        filled = form(*values)
        filled.config()  # mistakes are told before anything else is looked at

        studio.jobs.check_free()
        directory = free_name(studio.places, filled.stem())
        config = filled.config(str(directory))
        studio.jobs.start(tune_words(config), directory)

    def take(file: str) -> list[Any]:
        clip = accept(file, file, studio.places.uploads, studio.limits)
        return [gr.Dropdown(_clips(studio), value=clip.path.name), *_of_clip(clip), "", ""]

    def choose(name: str) -> list[Any]:
        if not name:
            return [*_of_clip(None), built_in.PROMPT, built_in.EDIT_PROMPTS[0]]
        return [*_of_clip(uploaded_clip(studio.places.uploads, name)), "", ""]

    def choose_model(named: str, preset: str) -> list[Any]:
        model = checked_model(named or "", studio.listed_models(), any_path=studio.any_path)
        of = defaults(model, None, preset)
        numbers = (of.clip.count, of.clip.width, of.clip.height, of.tuning.steps)
        return [_facts(described(model)), *numbers, of.editing.num_inference_steps, of.editing.guidance_scale]

    def choose_preset(named: str, preset: str) -> int:
        return defaults(named or None, None, preset).editing.num_inference_steps

    previewed: dict[str, Any] = {
        "fn": says_mistakes(preview),
        "inputs": [fields[name] for name in CLIP_FIELDS],
        "outputs": [whole, chosen],
    }
    of_clip = [about, trim, fields["begin"], fields["end"], fields["prompt"], fields["edit_prompts"]]
    upload.upload(says_mistakes(take), upload, [fields["clip"], *of_clip], **HANDLER).success(**previewed, **HANDLER)
    fields["clip"].input(says_mistakes(choose), fields["clip"], of_clip, **HANDLER).success(**previewed, **HANDLER)
    looks = [fields[name].release for name in ("begin", "end")]
    looks += [fields[name].blur for name in ("frames", "stride", "width", "height")]
    gr.on(looks, **previewed, trigger_mode="always_last", **HANDLER)
    fields["model"].change(
        says_mistakes(choose_model),
        [fields["model"], fields["preset"]],
        [
            model_facts,
            *(fields[name] for name in ("frames", "width", "height", "steps", "num_inference_steps", "guidance_scale")),
        ],
        **{**HANDLER, "show_progress": "minimal"},
    ).success(**previewed, **HANDLER)
    fields["preset"].input(choose_preset, [fields["model"], fields["preset"]], fields["num_inference_steps"], **HANDLER)
    page.load(
        lambda: [gr.Dropdown(_clips(studio)), gr.Dropdown(_models(studio))],
        None,
        [fields["clip"], fields["model"]],
        **HANDLER,
    )
    page.load(**previewed, **HANDLER)
    return start.click(says_mistakes(begin), list(fields.values()), None, **HANDLER)


def _number(label: str, value: float | None, elem_id: str, **more: Any) -> gr.Number:
    return gr.Number(value, label=label, min_width=110, elem_id=elem_id, **more)


def _of_clip(clip: UploadedClip | None) -> list[Any]:
    """What is shown of it: its facts, whether it can be trimmed, from where to where."""
    if clip is None:
        return ["", gr.Row(visible=False), gr.Slider(value=0), gr.Slider(value=1)]
    last = max(0.01, round(clip.seconds, 2))
    return [
        _facts(str(clip)),
        gr.Row(visible=True),
        gr.Slider(maximum=last, value=0),
        gr.Slider(maximum=last, value=last),
    ]


def _clips(studio: Studio) -> list[tuple[str, str]]:
    return [BUILT_IN_CLIP, *((path.name, path.name) for path in uploaded_clips(studio.places.uploads))]


def _models(studio: Studio) -> list[tuple[str, str]]:
    return [BUILT_IN_MODEL, *((model, model) for model in studio.listed_models())]


def _facts(text: str) -> str:
    return f"<p>{'<br>'.join(escape(printable(line)) for line in text.splitlines())}</p>"
