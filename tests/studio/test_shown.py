"""What the page says of a job, as HTML."""

from pathlib import Path

import numpy as np
import pytest

from vrwkv_jax.config import TuneConfig, save_yaml
from vrwkv_jax.runs import own
from vrwkv_jax.studio.jobs import Job, State, Status
from vrwkv_jax.studio.progress import Progress
from vrwkv_jax.studio.shown import NOTHING, file_url, job_html, picture_html, sample_html


@pytest.fixture
def job(tmp_path) -> Job:
    run = tmp_path / "<i>star"
    run.mkdir()
    own.mark(run, own.TUNING)
    save_yaml(TuneConfig(prompt="a star", edit_prompts=("x", "y")), run / "config.yaml")
    (run / "log.jsonl").write_text('{"step": 1, "loss": 0.5}\n')
    return Job(("tune", "--prompt", "<script>"), str(run), 0.0, 1)


def test_nothing():
    assert job_html(None) == NOTHING and sample_html(None) == ""


def test_a_job_that_runs(job):
    html = job_html(Status(job, State.RUNNING, Progress("inversion", 3, 12, "00:09"), False))
    assert "inversion: 3 of 12 · 00:09 left" in html and "width:25.0%" in html
    assert '<li class="done">tuning</li><li class="now">inversion</li>' in html and "edit 2</li>" in html
    assert 'class="loss"' in html and "<script" not in html and "<i>star" not in html


def test_how_jobs_end(job):
    assert "can go on" in job_html(Status(job, State.STOPPED, Progress(), True))
    html = job_html(Status(job, State.FAILED, Progress(error="<b> is not there: name another"), False))
    assert "&lt;b&gt; is not there: name another." in html
    assert 'class="now"' not in job_html(Status(job, State.FINISHED, Progress("edit 2", 4, 4), False))


def test_the_newest_sample(job):
    samples = Path(job.directory) / "samples"
    samples.mkdir()
    for step in (10, 20):
        (samples / f"step-{step:06}.mp4").touch()
    html = sample_html(Status(job, State.RUNNING, Progress(), False))
    assert "after 20 steps" in html and "step-000020.mp4" in html and "%3Ci%3Estar" in html


def test_addresses(tmp_path):
    file = tmp_path / 'a "b" #1?.mp4'
    file.touch()
    assert file_url(file).startswith(f"gradio_api/file={tmp_path}/a%20%22b%22%20%231%3F.mp4?")


def test_pictures():
    html = picture_html(np.zeros((8, 8, 3), np.uint8), "<frames>")
    assert html.startswith('<figure class="preview"><img alt="&lt;frames&gt;" src="data:image/webp;base64,UklGR')
