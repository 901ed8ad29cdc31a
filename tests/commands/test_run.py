"""A whole run by ``vrwkv tune``: what it leaves, and what comes back of it."""

import json

import av
import numpy as np
from PIL import Image

from tests.commands.tiny import decode
from vrwkv_jax import load_run
from vrwkv_jax.config import TuneConfig
from vrwkv_jax.runs import own
from vrwkv_jax.runs.directory import RUN


def test_a_run_holds_what_the_docs_say(run_directory):
    edits = {path.name for path in (run_directory / "edits").iterdir()}
    names = {"edit-1-a-blue-disc.mp4", "edit-2-ein-gr-ner-ball-on-sand.mp4", "side_by_side.mp4", "contact_sheet.png"}
    names |= {"yt_slices.png", "change.png"}
    assert edits == names
    files = {path.name for path in run_directory.iterdir()}
    expected = {"config.yaml", "tuned", "trajectory.npy", "edits", "source.mp4", "reconstruction.mp4", "loss.png"}
    assert files == expected | {"log.jsonl", "metrics.json", "tensorboard", ".vrwkv-jax"}
    assert own.strange(run_directory, RUN) == []
    for path in run_directory.rglob("*.mp4"):
        frames = decode(path)
        assert len(frames) == 3 and np.ptp(frames[0]) > 20, path
    for name, least in {"loss.png": 300, "edits/contact_sheet.png": 3 * 24}.items():
        with Image.open(run_directory / name) as picture:
            assert picture.size[0] > least
    with av.open(str(run_directory / "source.mp4")) as container:
        assert float(container.streams.video[0].average_rate) == 5  # every second frame of 10 a second


def test_metrics_and_log(run_directory):
    metrics = json.loads((run_directory / "metrics.json").read_text())
    assert 0 < metrics["reconstruction_psnr_db"] <= metrics["autoencoder_psnr_db"] + 1
    assert metrics["tuned_parameters"] == metrics["all_parameters"] > 50_000
    assert {"load", "tuning", "inversion and reconstruction", "edits"} <= metrics["seconds"].keys()
    assert metrics["versions"]["jax"] and metrics["device"]
    log = [json.loads(line) for line in (run_directory / "log.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in log] == [1, 2]
    names = "loss grad_norm param_norm update_norm learning_rate gains_learning_rate seconds memory_bytes"
    assert all(entry[name] > 0 for entry in log for name in names.split())
    assert metrics["provenance"]["clip_sha256"] and len(metrics["provenance"]["weights_sha256"]) == 3


def test_a_finished_run_comes_back(run_directory):
    run = load_run(run_directory)
    assert run.config.prompt == "a red disc" and run.config.clip.frames == 3
    assert run.config.video_model == TuneConfig().video_model.settled()  # not "auto", which may mean another some day
    assert run.inversion.latents.shape == (1, 3, 4, 6, 4) and run.inversion.num_inference_steps == 2
    editor = run.editor()
    for path, leaf in run.params.items():
        np.testing.assert_array_equal(editor.unet.params[path], leaf)
