"""The benchmark of edits: what it asks for, how it adds up, and one small run."""

import json
import math
import sys
from dataclasses import replace

import jax
import numpy as np
import pytest

from benchmarks.edit_quality import __main__ as edit_quality
from benchmarks.edit_quality import budget, controls, methods
from benchmarks.edit_quality.summary import differences, summary
from benchmarks.edit_quality.tasks import hard_tasks, tasks
from vrwkv_jax.config import parse_tune_config
from vrwkv_jax.tuning.loop import tune
from vrwkv_jax.world import is_held_out, render
from vrwkv_jax.world.scene import stands_out


def test_tasks():
    clips = list(tasks(24, seed=0))
    assert len(clips) == 24
    for work in clips:
        assert [task.kind for task in work] == ["colour", "shape", "background", "style"]
        for task in work:
            before, after = task.source, task.target
            assert (
                before.things[0].motion != "still"
                and is_held_out(before)
                and before.style == "plain"
                and len(before.things) == 1
            )
            assert stands_out(after.things[0].colour, after.background)
            changed = {
                "colour": before.things[0].colour != after.things[0].colour,
                "shape": before.things[0].shape != after.things[0].shape,
                "background": before.background != after.background,
                "style": before.style != after.style,
            }
            assert [kind for kind, is_changed in changed.items() if is_changed] == [task.kind]
            thing = replace(after.things[0], colour=before.things[0].colour, shape=before.things[0].shape)
            assert thing == before.things[0]  # size, place and motion stay
    groups = {task.group for work in clips for task in work}
    assert groups == {"colour, like", "colour, opposite", "shape", "background", "style"}
    assert clips == list(tasks(24, seed=0)) != list(tasks(24, seed=1))


def test_hard_tasks():
    clips = list(hard_tasks(6, seed=0))
    for work in clips:
        assert [task.kind for task in work] == ["colour", "shape", "background", "material"]
        for task in work:
            assert is_held_out(task.source) and task.source.style == "plain"
            changed = {
                name for name in ("colour", "shape", "material") if _of(task.source, name) != _of(task.target, name)
            }
            changed |= {"background"} if task.source.background != task.target.background else set()
            assert changed == {task.kind}
            assert (task.source.camera, task.source.light) == (task.target.camera, task.target.light)
    assert clips == list(hard_tasks(6, seed=0)) != list(hard_tasks(6, seed=1))


def _of(scene, name):
    return getattr(scene.things[0], name)


def test_summary():
    def row(group, psnr, colour):
        return {"method": "vrwkv", "controls": "none", "group": group, "score": {"psnr": psnr, "colour": colour} | rest}

    rest = dict.fromkeys(
        ("ssim", "colour_in_place", "shape", "style", "iou", "path_error", "unchanged_psnr", "flicker")
    )
    table = {r["group"]: r for r in summary([row("shape", 20, 1), row("shape", 24, 0), row("style", 10, None)])}
    assert set(table) == {"shape", "style", "all"}
    assert [table[name]["edits"] for name in ("shape", "style", "all")] == [2, 1, 3]
    assert table["shape"]["figures"]["psnr"] == {
        "mean": 22,
        "half_interval": pytest.approx(1.96 * math.sqrt(8) / math.sqrt(2)),
    }
    assert table["style"]["figures"] == {"psnr": {"mean": 10, "half_interval": None}}
    assert table["all"]["figures"]["colour"]["mean"] == 0.5


def test_of_seconds_the_median():
    """The first edit compiles."""
    rows = [
        {"method": "vrwkv", "controls": "none", "group": "shape", "score": {"seconds": s, "row_calls": s}}
        for s in (9.0, 1.0, 2.0)
    ]
    figures = {r["group"]: r["figures"] for r in summary(rows)}["all"]
    assert (figures["seconds"]["mean"], figures["row_calls"]["mean"]) == (2, 4)


def test_differences_are_clip_by_clip():
    """Of clips that are 10 dB apart, where one method is better by 1 dB in each, and by 3 in one edit of the first."""
    rows = [
        {"method": method, "controls": "none", "clip": clip, "group": kind, "score": {"psnr": psnr, "style": None}}
        for clip, at in enumerate((20.0, 30.0, 10.0))
        for kind in ("shape", "colour")
        for method, psnr in (("vrwkv", at), ("image", at + (3 if (clip, kind) == (0, "shape") else 1)))
    ]
    rows.append({"method": "image", "controls": "all", "clip": 0, "group": "shape", "score": {"psnr": 0.0}})
    (row,) = differences(rows, "method", "vrwkv")
    assert (row["method"], row["controls"], row["less"], row["clips"]) == ("image", "none", "vrwkv", 3)
    of_clips = [2.0, 1.0, 1.0]
    half = 4.303 * np.std(of_clips, ddof=1) / math.sqrt(3)  # of Student's t, from tables
    assert row["figures"] == {"psnr": {"mean": np.mean(of_clips), "half_interval": pytest.approx(half, rel=1e-3)}}
    (row,) = differences(rows, "controls", "none")
    assert (row["method"], row["controls"], row["clips"]) == ("image", "all", 1)
    assert row["figures"] == {"psnr": {"mean": -23.0, "half_interval": None}}


def priced(way, row_calls, psnr, flicker):
    figures = {"row_calls": row_calls, "seconds": row_calls / 10, "psnr": psnr, "flicker": flicker}
    figures |= {"unchanged_psnr": psnr, "path_error": flicker}
    return {"controls": way, "group": "all", "figures": {name: {"mean": value} for name, value in figures.items()}}


def test_the_frontier_of_a_budget(tmp_path):
    table = [priced("a", 30, 24, 2), priced("b", 20, 25, 3), priced("c", 10, 22, 1), priced("d", 20, 23, 0.5)]
    assert [row["controls"] for row in budget.frontier(table, "psnr", "row_calls")] == ["c", "b"]
    assert [row["controls"] for row in budget.frontier(table, "flicker", "row_calls")] == ["c", "d"]
    budget.draw(tmp_path / "budget.png", [*table, priced(budget.FULL, 90, 26, 1)])
    assert (tmp_path / "budget.png").read_bytes()[:4] == b"\x89PNG"


def test_all_ways_of_a_budget_can_be_parsed():
    """Each is a configuration of its own, but for the presets, which were chosen among the others."""
    parsed = [edit_quality.config_of(words.split(), "plain") for words in budget.WAYS if words not in budget.PRESETS]
    assert all(parsed.index(own) == number for number, own in enumerate(parsed))
    full = parsed[0].editing
    assert (full.num_inference_steps, full.inversion_tolerance, full.is_guided_in(19, 20)) == (20, 0, True)


@pytest.mark.long
def test_a_small_run_goes_on_where_it_stopped(checkpoint, tmp_path, monkeypatch, capsys):
    arguments = [
        "edit_quality",
        "--model",
        str(checkpoint),
        "--output",
        str(tmp_path),
        "--mixer",
        "reconstruct",
        "image",
        "truth",
    ]
    settings = ["--", "--frames", "3", "--num-inference-steps", "2", "--guidance-scale", "2"]
    monkeypatch.setattr(sys, "argv", [*arguments, "--clips", "1", *settings])
    edit_quality.main()
    (scores,) = tmp_path.glob("scores-*.jsonl")
    settings_of_all, *lines = scores.read_text().splitlines()
    assert json.loads(settings_of_all)["tune"]["clip"]["frames"] == 3
    assert json.loads(lines[0])["group"] == "unedited" and len(lines) == 9
    with np.load(tmp_path / json.loads(lines[1])["file"]) as clips:
        assert {name: clips[name].shape for name in clips} == dict.fromkeys(
            ("source", "truth", "edited"), (3, 64, 64, 3)
        )
        assert (clips["source"] != clips["truth"]).any()

    monkeypatch.setattr(sys, "argv", [*arguments, "--clips", "2", *settings])
    edit_quality.main()
    assert scores.read_text().splitlines()[: 1 + 9] == [settings_of_all, *lines]
    summary = json.loads((tmp_path / "summary.json").read_text())
    of_all = {r["method"]: r for r in summary["equal"]["steps"] if r["group"] == "all"}
    assert of_all["image"]["edits"] == of_all["truth"]["edits"] == 8
    assert all(row["score"]["psnr"] > 60 for row in map(json.loads, lines) if row["method"] == "truth")
    assert "reconstruct" in capsys.readouterr().out


@pytest.mark.long
def test_a_small_run_in_the_hard_world_at_equal_steps_and_time(checkpoint, tmp_path, monkeypatch, capsys):
    arguments = ["--model", str(checkpoint), "--output", str(tmp_path), "--world", "hard", "--equal", "steps", "time"]
    settings = ["--", "--frames", "3", "--num-inference-steps", "2", "--steps", "12"]
    monkeypatch.setattr(sys, "argv", ["edit_quality", *arguments, "--mixer", "none", "--clips", "1", *settings])
    measured = {"vrwkv": 2.0, "none": 1.0}
    monkeypatch.setattr(methods, "seconds_per_step", lambda method, *_: measured[method])
    edit_quality.main()
    (scores,), (kept,) = tmp_path.glob("scores-*.jsonl"), tmp_path.glob("seconds_per_step-*.json")
    assert json.loads(kept.read_text()) == measured
    rows = list(map(json.loads, scores.read_text().splitlines()[1:]))
    assert [(row["steps"], row["group"]) for row in rows] == [
        (steps, kind) for steps in (12, 25) for kind in ("colour", "shape", "background", "material")
    ]
    assert all(row["score"]["warp_error"] > 0 for row in rows)
    tables = json.loads((tmp_path / "summary.json").read_text())["equal"]
    for equal, steps in (("steps", 12), ("time", 25)):
        of_all = next(row["figures"]["warp_error"]["mean"] for row in tables[equal] if row["group"] == "all")
        assert of_all == pytest.approx(np.mean([row["score"]["warp_error"] for row in rows if row["steps"] == steps]))


@pytest.mark.long
@pytest.mark.parametrize("mixer", ["none", "fluencyve"])  # which gives way by a schedule
def test_one_tuning_gives_what_one_for_each_number_of_steps_gives(checkpoint, mixer):
    config = methods.configured(mixer, replace(parse_tune_config(["--frames", "3"]), prompt="a star"))
    editor, clip = methods.load(mixer, checkpoint, config), np.zeros((3, 64, 64, 3), np.uint8)
    params = methods.tuned_params(editor, clip, config, {3: {}, 1: {}})
    assert params[0] == {} and set(params) == {0, 1, 3}
    for steps in (1, 3):
        alone = tune(editor, clip, "a star", replace(config, tuning=replace(config.tuning, steps=steps))).params
        jax.tree.map(np.testing.assert_array_equal, params[steps], alone)


def test_steps_at_equal_time(tmp_path):
    kept = tmp_path / "seconds.json"
    kept.write_text(json.dumps({"vrwkv": 2.0, "none": 1.5, "extended": 4.1, "fluencyve": 900.0}))
    steps = methods.Steps(parse_tune_config(["--steps", "100"]), kept)
    counts = {method: steps.of(method, "time") for method in ("vrwkv", "none", "extended", "fluencyve", "image")}
    assert counts == {"vrwkv": 100, "none": 135, "extended": 50, "fluencyve": 1, "image": 0}  # to 5, and at least 1
    assert steps.of("none", "steps") == 100


def test_every_control_is_a_configuration():
    config = parse_tune_config([])
    (colour, _, background, style), *_ = tasks(1, seed=0)
    for name in controls.CONTROLS:
        for task in (colour, background, style):
            controls.controlled(config, name, task)
    old, new = colour.source.things[0].colour, colour.target.things[0].colour
    assert controls.controlled(config, "reweighted", colour).controls.reweight == (f"{new}=2",)
    negative = controls.controlled(config, "negative prompt", colour)
    assert negative.negative_prompt == old and negative.controls.is_neutral


def test_the_true_mask():
    (task, *_), *_ = tasks(1, seed=0)
    mask = controls.true_mask(task, (5, 16, 16), 64)
    things = render(task.source, 5, 64)[1][:, 0] > 0.5
    assert mask.shape == (5, 16, 16)
    assert mask.repeat(4, 1).repeat(4, 2)[things].all() and mask.mean() < 0.5
