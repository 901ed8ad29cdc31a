"""The tab of the runs: a gallery, and of the chosen one its clips, its settings, and another edit."""

from typing import Any

import gradio as gr

from vrwkv_jax.config import command_line
from vrwkv_jax.media.video import video_fps
from vrwkv_jax.studio.curve import loss_curve
from vrwkv_jax.studio.edit_again import EditAgainPanel
from vrwkv_jax.studio.exports import FORMS, exported
from vrwkv_jax.studio.gallery import EditedClip, StoredRun, loss_of, stored_run, stored_runs
from vrwkv_jax.studio.jobs import line_of, resuming
from vrwkv_jax.studio.player import player_html
from vrwkv_jax.studio.said import HANDLER, says_mistakes
from vrwkv_jax.studio.shown import caption, file_url, run_html
from vrwkv_jax.studio.studio import Studio
from vrwkv_jax.studio.thumbnails import thumbnail
from vrwkv_jax.system.errors import UserError

NO_RUN = '<p class="quiet">No run yet. Start one on the other tab.</p>'


class RunsTab:
    """The tab, and the name of the run that is chosen."""

    def __init__(self, studio: Studio):
        self._studio = studio
        self._names = gr.State([])
        self.chosen = gr.State(None)
        self._gallery = gr.Gallery(
            label="Runs",
            columns=4,
            height=150,
            show_label=False,
            allow_preview=False,
            object_fit="cover",
            fit_columns=False,
            buttons=[],
            elem_id="gallery",
        )
        self._about = gr.HTML(NO_RUN, elem_id="run")
        self._go_on = gr.Button("Go on with this run", variant="primary", visible=False, elem_id="go-on-run")
        with gr.Column(visible=False) as self._results:
            self._edit = gr.Dropdown([], label="Edit", elem_id="edit")
            self._player = gr.HTML("", elem_id="player")
            with gr.Row(equal_height=True):
                self._form = gr.Radio(list(FORMS), value="mp4", label="Export this edit", scale=3, elem_id="form")
                self._download = gr.DownloadButton("Download", scale=1, elem_id="download")
            self._again = EditAgainPanel(studio)
        with gr.Accordion("Settings of this run", open=False, visible=False, elem_id="settings") as self._settings:
            self._line = gr.Code(
                label="As a command line", language="shell", wrap_lines=True, buttons=["copy"], lines=2
            )
            self._edit_line = gr.Code(
                label="The edit above, as a command line",
                language="shell",
                wrap_lines=True,
                buttons=["copy"],
                lines=2,
                visible=False,
            )
            self._yaml = gr.Code(
                label="As YAML, for --config", language="yaml", buttons=["copy", "download"], lines=4, max_lines=16
            )

    def connect(self, page: gr.Blocks, ended: gr.State) -> list[Any]:
        """Hears what is chosen; returns the events that start something."""
        listed = [self._names, self._gallery, self.chosen]
        shown = [
            *(self._about, self._go_on, self._results, self._edit, self._settings, self._line, self._yaml),
        ]
        clips = [self._player, self._form, self._download, self._edit_line]
        page.load(self._list, self.chosen, listed, **HANDLER)
        ended.change(self._list, self.chosen, listed, **HANDLER).then(self._show, self.chosen, shown, **HANDLER).then(
            self._play, [self.chosen, self._edit], clips, **HANDLER
        )
        self._gallery.select(self._choose, self._names, self.chosen, **HANDLER)
        self.chosen.change(says_mistakes(self._show), self.chosen, shown, **HANDLER).then(
            self._play, [self.chosen, self._edit], clips, **HANDLER
        ).then(self._fill, self.chosen, self._again.outputs, **HANDLER)
        self._edit.input(says_mistakes(self._play), [self.chosen, self._edit], clips, **HANDLER)
        self._form.input(says_mistakes(self._export), [self.chosen, self._edit, self._form], self._download, **HANDLER)
        return [
            self._go_on.click(says_mistakes(self._resume), self.chosen, None, **HANDLER),
            *self._again.connect(self.chosen, ended),
        ]

    def _list(self, chosen: str | None) -> list[Any]:
        runs = stored_runs(self._studio.places)
        names = [run.name for run in runs]
        pictures = [(thumbnail(run, self._studio.places.cache), caption(run)) for run in runs]
        return [names, pictures, chosen if chosen in names else next(iter(names), None)]

    def _choose(self, names: list[str], event: gr.SelectData) -> str | None:
        return names[event.index] if event.index < len(names) else None

    def _run(self, name: str | None) -> StoredRun:
        return stored_run(self._studio.places, name)

    def _show(self, name: str | None) -> list[Any]:
        if name is None:
            hidden = [gr.Button(visible=False), gr.Column(visible=False), gr.Dropdown([]), gr.Accordion(visible=False)]
            return [NO_RUN, *hidden, "", ""]
        run = self._run(name)
        edits = run.edits()
        about = run_html(run)
        if not run.is_finished:
            about += loss_curve(loss_of(run.directory), run.config.tuning.steps)
        choices = [(_label(edit), _key(run, edit)) for edit in edits]
        newest = edits[-1] if edits else None
        return [
            about,
            gr.Button(visible=run.directory.is_unfinished() and not run.is_in_use),
            gr.Column(visible=run.is_finished),
            gr.Dropdown(choices, value=None if newest is None else _key(run, newest)),
            gr.Accordion(visible=True),
            line_of(["tune", *command_line(run.config)]),
            run.directory.working.config.read_text(),
        ]

    def _fill(self, name: str | None) -> list[Any]:
        if name is None:
            return [gr.skip()] * len(self._again.outputs)
        return self._again.filled(self._run(name))

    def _play(self, name: str | None, key: str | None) -> list[Any]:
        if name is None:
            return ["", gr.skip(), gr.skip(), gr.skip()]
        run = self._run(name)
        edit = _chosen(run, key)
        if run.source is None:
            return ["", gr.skip(), gr.skip(), gr.skip()]
        source, rebuilt = file_url(run.source), run.reconstruction and file_url(run.reconstruction)
        film = None if edit is None else exported(edit.clip, run.size, "mp4", self._studio.places.cache)
        html = player_html(source, rebuilt or None, None if film is None else file_url(film), fps=video_fps(run.source))
        words = None if edit is None else self._studio.jobs.words_of(edit.clip.parent)
        made_here = words is not None and words[0] == "edit"
        return [
            html,
            "mp4",
            gr.DownloadButton("Download mp4", value=film),
            gr.Code(line_of(words) if words and made_here else "", visible=made_here),
        ]

    def _export(self, name: str | None, key: str | None, form: str) -> Any:
        run = self._run(name)
        edit = _chosen(run, key)
        if edit is None:
            raise UserError("there is no edit to export: make one first")
        return gr.DownloadButton(
            f"Download {form}", value=exported(edit.clip, run.size, form, self._studio.places.cache)
        )

    def _resume(self, name: str | None) -> None:
        run = self._run(name)
        self._studio.jobs.start(resuming(run.directory.path), run.directory.path)


def _label(edit: EditedClip) -> str:
    place = edit.clip.parent.name
    return edit.prompt if place == "edits" else f"{edit.prompt} · {place}"


def _key(run: StoredRun, edit: EditedClip) -> str:
    return str(edit.clip.relative_to(run.directory.path))


def _chosen(run: StoredRun, key: str | None) -> EditedClip | None:
    """The edit that ``key`` names, looked up among those of the run; else the newest."""
    edits = run.edits()
    return next((edit for edit in edits if _key(run, edit) == key), edits[-1] if edits else None)
