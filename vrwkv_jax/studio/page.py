"""The page: what is filled in on the left, what runs on the right; each tab is in a file of its own."""

import gradio as gr

from vrwkv_jax.studio.job_panel import JobPanel
from vrwkv_jax.studio.new_run import new_run_tab
from vrwkv_jax.studio.runs_tab import RunsTab
from vrwkv_jax.studio.said import HANDLER
from vrwkv_jax.studio.studio import Studio

THEME = gr.themes.Base(
    primary_hue="indigo",
    neutral_hue="slate",
    radius_size="md",
    font=["system-ui", "sans-serif"],
    font_mono=["ui-monospace", "monospace"],
).set(layout_gap="10px", block_padding="10px 12px", block_label_text_color="*body_text_color")
"""With the fonts that the computer has."""
TOP = '<div id="top"><b>vrwkv studio</b><span>edit a clip by a sentence</span></div>'


def build(studio: Studio) -> gr.Blocks:
    """The page of ``studio``, not served yet."""
    page = gr.Blocks(title="vrwkv studio", analytics_enabled=False, fill_width=True, delete_cache=(3600, 86400))
    with page:
        gr.HTML(TOP)
        with gr.Row(equal_height=False):
            with gr.Column(scale=13, min_width=560), gr.Tabs() as tabs:
                with gr.Tab("New run", id="new"):
                    started = new_run_tab(studio, page)
                with gr.Tab("Runs", id="runs"):
                    runs = RunsTab(studio)
            with gr.Column(scale=7, min_width=360, elem_id="side"):
                panel = JobPanel(studio)
        panel.connect(page)
        for event in (started, *runs.connect(page, panel.ended)):
            panel.follow(event)
        panel.result.click(lambda: (gr.Tabs(selected="runs"), panel.run_name()), None, [tabs, runs.chosen], **HANDLER)
    return page
