"""The form of another edit of a run: prompts, what to keep of the clip, words to click, and a mask."""

from typing import Any

import gradio as gr

from vrwkv_jax.config import ControlConfig
from vrwkv_jax.config.editing import PRESETS
from vrwkv_jax.editing.controls.words import words_in
from vrwkv_jax.studio.forms import EditAgain, edit_words, lines_of
from vrwkv_jax.studio.gallery import StoredRun, free_edits, stored_run
from vrwkv_jax.studio.run_masks import (
    canvas,
    keep_drawing,
    mask_of,
    masks_of,
    over_source,
    tokenizer_of,
    word_mask_command,
)
from vrwkv_jax.studio.said import HANDLER, says_mistakes
from vrwkv_jax.studio.shown import file_url
from vrwkv_jax.studio.studio import Studio
from vrwkv_jax.studio.words import ChosenWords, chosen_words, with_words, word_choices

AS_RUN = "as the run"
NO_MASK = ("no mask", "")
PLAIN = ("cross_attention", "self_attention", "features", "replace_words")
"""Controls that are what their fields say."""
WORDS = ("blend", "kept", "kept_share", "reweighted", "factor")
TINT = "#ff00c8"


class EditAgainPanel:
    """The form, and what it starts."""

    def __init__(self, studio: Studio):
        self._studio = studio
        self._fields: dict[str, Any] = {}
        with gr.Accordion("Edit again", open=False, elem_id="again"):
            self._plain_fields()
            with gr.Accordion("Words", open=False, elem_id="words"):
                self._word_fields()
            with gr.Accordion("Mask", open=False, elem_id="mask"):
                self._mask_fields()
            self._start = gr.Button("Edit again", variant="primary", elem_id="edit-again")
        self.outputs = [*self._fields.values(), self._mask_words, self._drawing]

    def connect(self, chosen: gr.State, ended: gr.State) -> list[Any]:
        """Hears what is filled in for the run that is ``chosen``; returns the events that start something."""
        fields = self._fields
        prompts = [chosen, fields["prompts"], fields["replace_words"]]
        words = [fields[name] for name in ("blend", "kept", "reweighted")]
        gr.on(
            [fields["prompts"].blur, fields["replace_words"].input],
            says_mistakes(self._choices),
            [*prompts, *words],
            words,
            **HANDLER,
        )
        seen: dict[str, Any] = {
            "fn": says_mistakes(self._over_source),
            "inputs": [chosen, fields["mask"]],
            "outputs": self._over,
        }
        fields["mask"].change(**seen, **HANDLER)
        ended.change(self._newest_mask, [chosen, fields["mask"]], fields["mask"], **HANDLER)
        self._keep.click(says_mistakes(self._keep_drawing), [chosen, self._drawing], fields["mask"], **HANDLER)
        return [
            self._make.click(says_mistakes(self._make_mask), [chosen, self._mask_words], None, **HANDLER),
            self._start.click(says_mistakes(self._edit), [chosen, *fields.values()], None, **HANDLER),
        ]

    def filled(self, run: StoredRun) -> list[Any]:
        """What ``outputs`` show of a run: its own settings."""
        config, words, prompt = run.config, chosen_words(run.config.controls), "\n".join(run.config.edit_prompts[:1])
        replaces = config.controls.replace_words
        blend, kept, reweighted = self._choices(
            run.name, prompt, replaces, [*words.blend], [*words.cross_attention_words], [*words.reweight]
        )
        shares, factors = words.cross_attention_words, words.reweight
        values = {
            "prompts": prompt,
            "negative_prompt": config.negative_prompt,
            "cross_attention": config.controls.cross_attention,
            "features": config.controls.features,
            "self_attention": config.controls.self_attention,
            "replace_words": replaces,
            "guidance_scale": config.editing.guidance_scale,
            "num_inference_steps": config.editing.num_inference_steps,
            "eta": config.editing.eta,
            "seed": config.seed,
            "preset": AS_RUN,
            "blend": blend,
            "kept": kept,
            "kept_share": next(iter(shares.values()), 0.8),
            "reweighted": reweighted,
            "factor": next(iter(factors.values()), 1.5),
            "mask": gr.Dropdown(self._masks(run), value=""),
        }
        first = canvas(run)
        drawing = None if first is None else {"background": first, "layers": [], "composite": None}
        return [*(values[name] for name in self._fields), gr.CheckboxGroup(self._source_words(run), value=[]), drawing]

    def _plain_fields(self) -> None:
        fields = self._fields
        with gr.Row(equal_height=False):
            fields["prompts"] = gr.Textbox(
                label="What the edits shall show, one a line", lines=2, scale=3, elem_id="again-prompts"
            )
            fields["negative_prompt"] = gr.Textbox(
                label="What they shall not show", lines=2, scale=2, elem_id="again-negative"
            )
        with gr.Row():
            fields["cross_attention"] = _share("Keep words", "where each word is", "cross-attention")
            fields["features"] = _share("Keep features", "shapes and layout", "features")
            fields["self_attention"] = _share("Keep self-attention", "textures and layout", "self-attention")
        fields["replace_words"] = gr.Checkbox(
            label="A new word takes the place of the one that it replaces", elem_id="replace-words"
        )
        with gr.Row():
            fields["guidance_scale"] = gr.Number(label="Guidance", min_width=90, elem_id="again-guidance")
            fields["num_inference_steps"] = gr.Number(label="Inference steps", min_width=90, elem_id="again-steps")
            fields["eta"] = gr.Number(label="Fresh noise", min_width=90, elem_id="again-eta")
            fields["seed"] = gr.Number(label="Seed of the noise", min_width=90, elem_id="again-seed")
            fields["preset"] = gr.Dropdown([AS_RUN, *PRESETS], value=AS_RUN, label="Preset", min_width=110)

    def _word_fields(self) -> None:
        fields = self._fields
        fields["blend"] = gr.CheckboxGroup(
            [], label="Change only where these are", info="none: everywhere", elem_id="blend"
        )
        with gr.Row(equal_height=False):
            fields["kept"] = gr.CheckboxGroup(
                [],
                label="Keep these words otherwise",
                info="for a share of the steps of their own",
                scale=2,
                elem_id="kept",
            )
            fields["kept_share"] = _share("Their share", "", "kept-share")
        with gr.Row(equal_height=False):
            fields["reweighted"] = gr.CheckboxGroup(
                [], label="Make these words count more, or less", info="by a factor", scale=2, elem_id="reweighted"
            )
            fields["factor"] = gr.Slider(0, 3, 1.5, step=0.1, label="Their factor", min_width=150, elem_id="factor")

    def _mask_fields(self) -> None:
        with gr.Row(equal_height=False):
            with gr.Column(scale=1, min_width=240):
                self._fields["mask"] = gr.Dropdown(
                    [NO_MASK], value="", label="Mask", info="nothing changes outside of it", elem_id="mask-choice"
                )
                self._over = gr.HTML("", elem_id="mask-over")
                self._mask_words = gr.CheckboxGroup([], label="Make one of where these words are", elem_id="mask-words")
                self._make = gr.Button("Make the mask", size="sm", elem_id="make-mask")
            with gr.Column(scale=1, min_width=280):
                self._drawing = gr.ImageEditor(
                    label="Or paint over what may change",
                    type="numpy",
                    height=340,
                    sources=[],
                    transforms=[],
                    layers=False,
                    brush=gr.Brush(default_size=24, colors=[TINT], color_mode="fixed"),
                    elem_id="drawing",
                )
                self._keep = gr.Button("Use the painting", size="sm", elem_id="use-drawing")

    def _run(self, name: str | None) -> StoredRun:
        return stored_run(self._studio.places, name)

    def _choices(self, name: str | None, prompts: str, replaces: bool, *now: list[str]) -> list[Any]:
        """The words that there are to click, with those that are chosen ``now`` where they are still there."""
        run = self._run(name)
        edited = lines_of(prompts)
        found = word_choices(tokenizer_of(run), run.config.prompt or "", edited, replace_words=replaces)
        choices = (found.blend, found.cross_attention_words, found.reweight)
        return [
            gr.CheckboxGroup(words, value=[word for word in chosen if word in words])
            for words, chosen in zip(choices, now, strict=True)
        ]

    def _edit(self, name: str | None, *values: Any) -> None:
        run = self._run(name)
        given = dict(zip(self._fields, values, strict=True))
        preset, mask = given.pop("preset"), mask_of(self._studio.places, run, given.pop("mask"))
        controls = {name: given.pop(name) for name in PLAIN}
        blend, kept, share, reweighted, factor = (given.pop(name) for name in WORDS)
        chosen = ChosenWords(dict.fromkeys(kept, float(share)), dict.fromkeys(reweighted, float(factor)), blend)
        named = with_words(ControlConfig(), chosen)
        controls |= {name: getattr(named, name) for name in ("cross_attention_words", "reweight", "blend")}
        form = EditAgain(
            **given,
            preset=None if preset == AS_RUN else preset,
            controls={**controls, "mask": None if mask is None else str(mask)},
        )
        directory = str(run.directory.path)
        form.command(directory, run.config)  # mistakes are told first
        self._studio.jobs.check_free()
        output = free_edits(run)
        self._studio.jobs.start(edit_words(form.command(directory, run.config, str(output)), run.config), output)

    def _make_mask(self, name: str | None, words: list[str]) -> None:
        command, file = word_mask_command(self._studio.places, self._run(name), words)
        self._studio.jobs.start(command, file)

    def _keep_drawing(self, name: str | None, drawing: dict[str, Any] | None) -> Any:
        run = self._run(name)
        return gr.Dropdown(value=keep_drawing(self._studio.places, run, drawing).name, choices=self._masks(run))

    def _newest_mask(self, name: str | None, now: str) -> Any:
        """The masks that there are, and the one that a job has just made."""
        status = self._studio.jobs.status()
        if name is None or status is None or status.job.kind != "mask" or status.is_running:
            return gr.skip()
        masks = self._masks(self._run(name))
        return gr.Dropdown(masks, value=masks[1][1] if len(masks) > 1 and status.error is None else now)

    def _over_source(self, name: str | None, mask: str | None) -> str:
        if not name or not mask:
            return ""
        run = self._run(name)
        file = mask_of(self._studio.places, run, mask)
        if file is None:
            return ""
        url = file_url(over_source(run, file, self._studio.places.cache))
        return f'<video src="{url}" autoplay loop muted playsinline></video>'

    def _masks(self, run: StoredRun) -> list[tuple[str, str]]:
        return [NO_MASK, *((path.name, path.name) for path in masks_of(self._studio.places, run))]

    def _source_words(self, run: StoredRun) -> list[str]:
        return words_in(tokenizer_of(run), run.config.prompt or "")


def _share(label: str, info: str, elem_id: str) -> gr.Slider:
    return gr.Slider(0, 1, 0, step=0.05, label=label, info=info or None, min_width=150, elem_id=elem_id)
