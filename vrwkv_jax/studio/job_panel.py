"""What runs: seen on every tab, and in every browser that has the page open."""

from typing import Any

import gradio as gr

from vrwkv_jax.studio.jobs import State
from vrwkv_jax.studio.said import HANDLER, says_mistakes
from vrwkv_jax.studio.shown import NOTHING, job_html, run_of, sample_html
from vrwkv_jax.studio.studio import Studio

EVERY = 1.5
"""Seconds between two looks."""


class JobPanel:
    """The job, its curve and newest sample, and what can be done about it."""

    def __init__(self, studio: Studio):
        self._studio = studio
        self.seen = gr.State({})
        """What this browser shows already."""
        self._job = gr.HTML(NOTHING, elem_id="job")
        with gr.Row():
            self._stop = gr.Button("Stop", variant="stop", visible=False, elem_id="stop")
            self._go_on = gr.Button("Go on", variant="primary", visible=False, elem_id="go-on")
            self.result = gr.Button("See the result", variant="primary", visible=False, elem_id="see-result")
        self._sample = gr.HTML("")
        self.ended = gr.State("")
        """Changes when a job begins or ends."""
        self.outputs = [self.seen, self._job, self._sample, self._stop, self._go_on, self.result, self.ended]

    def connect(self, page: gr.Blocks) -> None:
        """Shows it from the beginning, looks again and again, and hears its buttons."""
        gr.Timer(EVERY).tick(self.refresh, self.seen, self.outputs, concurrency_limit=None, **HANDLER)
        page.load(self.refresh, self.seen, self.outputs, concurrency_limit=None, **HANDLER)
        for button, do in ((self._stop, self._studio.jobs.stop), (self._go_on, self._go_on_with)):
            button.click(says_mistakes(do), **HANDLER).success(self.refresh, self.seen, self.outputs, **HANDLER)

    def follow(self, started: Any) -> None:
        """Shows at once what an event has started."""
        started.success(self.refresh, self.seen, self.outputs, **HANDLER)

    def refresh(self, seen: dict[str, Any]) -> list[Any]:
        """What has changed since."""
        status = self._studio.jobs.status()
        state = None if status is None else status.state
        can_go_on = status is not None and status.can_go_on
        has_result = state is State.FINISHED and status is not None and status.job.kind != "mask"
        now: dict[str, Any] = {
            "job": job_html(status),
            "sample": sample_html(status),
            "stop": state in (State.RUNNING, State.STOPPING)
            and ("Stop at once" if state is State.STOPPING else "Stop"),
            "go_on": can_go_on,
            "result": has_result,
            "ended": "" if status is None else f"{status.job.started} {status.is_running}",
        }
        if now == seen:
            return [gr.skip()] * len(self.outputs)
        shown = {
            "job": now["job"],
            "sample": now["sample"],
            "stop": gr.Button(now["stop"] or "Stop", visible=bool(now["stop"])),
            "go_on": gr.Button(visible=can_go_on),
            "result": gr.Button(visible=has_result),
            "ended": now["ended"],
        }
        return [now, *(shown[name] if seen.get(name) != value else gr.skip() for name, value in now.items())]

    def run_name(self) -> str | None:
        """The run that the job belongs to."""
        status = self._studio.jobs.status()
        return None if status is None else run_of(status).path.name

    def _go_on_with(self) -> None:
        self._studio.jobs.go_on()
