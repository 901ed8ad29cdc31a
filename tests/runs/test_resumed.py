"""Runs that are stopped at some point, and resumed: they end as if nothing had happened, or say why they can't."""

import json
import re
import shlex
import shutil
import signal
from dataclasses import asdict, replace

import jax.numpy as jnp
import numpy as np
import pytest

import vrwkv_jax.runs.tuning
import vrwkv_jax.tuning.loop
from tests.runs.runs import EDITS, STEPS, TINY, assert_same_run, figures, interrupted_at
from vrwkv_jax import built_in
from vrwkv_jax.commands.cli import run_cli
from vrwkv_jax.commands.tune import main
from vrwkv_jax.config import TuneConfig, VideoConfig, load_yaml
from vrwkv_jax.editing import kept_steps, steps
from vrwkv_jax.editing.kept_steps import KeptState, KeptTrajectory
from vrwkv_jax.media.video import write_video
from vrwkv_jax.models.mixers.vrwkv import VRWKVConfig
from vrwkv_jax.runs import results
from vrwkv_jax.runs.checkpoints import Checkpoints
from vrwkv_jax.runs.directory import RunDirectory
from vrwkv_jax.runs.log import RunLog
from vrwkv_jax.runs.resume import check_contents, check_settings
from vrwkv_jax.system.errors import UserError


@pytest.fixture
def stopped(tmp_path, files, monkeypatch):
    """A run that Ctrl-C has ended after step 3 of 4."""
    directory = tmp_path / "run"
    with monkeypatch.context() as patch:
        signal_after(patch, 3, signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            main([*files, *TINY, *EDITS, *STEPS, "--output", str(directory)])
    return directory


def signal_after(patch, step, number):
    add = RunLog.add

    def add_and_signal(self, **figures):
        add(self, **figures)
        if figures["step"] == step:
            signal.raise_signal(number)

    patch.setattr(RunLog, "add", add_and_signal)


def resume(directory, *flags):
    main(["--output", str(directory), "--resume", *flags])


def test_the_whole_run_has_its_samples(whole):
    assert sorted(path.name for path in (whole / "samples").iterdir()) == ["step-000003.mp4", "step-000003.png"]


def test_no_step_at_all_is_a_run_too(files, tmp_path, capsys):
    output = tmp_path / "run"
    main([*files, *TINY, *EDITS, "--steps", "0", "--inversion-tolerance", "0", "--output", str(output)])
    said = capsys.readouterr().out
    assert "loss.png" not in said
    assert "asked     18 row-calls (inversion 9, reconstruction 3, edits 6)" in said
    row_calls = json.loads((output / "metrics.json").read_text())["row_calls"]
    assert row_calls == {"inversion": 3 * 3, "reconstruction": 3, "edits": 2 * 3}
    names = {path.name for path in output.iterdir()}
    assert {"tuned", "edits", "metrics.json"} <= names and "unfinished" not in names


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_while_it_tunes(number, status, whole, files, tmp_path, monkeypatch, capsys):
    output = tmp_path / "a run"
    with monkeypatch.context() as patch:
        signal_after(patch, 3, number)
        argv = [*files, *TINY, *EDITS, *STEPS, "--output", str(output)]
        assert run_cli(lambda: main(argv)) == status
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith(
        f"interrupted: {output} is saved up to step 3 of its tuning; resume it with: python -m train.tune"
    )
    assert len(figures(output)) == 3 and not (output / "tuned").exists()
    expected = r"an unfinished run, saved up to step 3 of its tuning: resume it with --resume, .* --overwrite"
    with pytest.raises(UserError, match=expected):
        main(argv)
    command = shlex.split(said.partition("resume it with: ")[2])
    main(command[3:])
    assert_same_run(output, whole)
    assert "resuming after step 3 of 4" in capsys.readouterr().err


def test_a_longer_tuning_goes_on_from_a_shorter_one(whole, files, tmp_path, monkeypatch):
    """Stopped in its inversion, which then is done again, with the model of more steps."""
    output = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(KeptTrajectory, "keep", interrupted_at(KeptTrajectory.keep, 2))
        with pytest.raises(KeyboardInterrupt, match="saved up to step 2"):
            main([*files, *TINY, *EDITS, *STEPS, "--steps", "2", "--output", str(output)])
    assert (output / "tuned").exists()
    with pytest.raises(UserError, match=r"is at step 2 of its tuning, past --steps 1: give as many or more"):
        resume(output, "--steps", "1")
    resume(output, "--steps", "4")
    assert_same_run(output, whole)


def test_inversion_and_edits_are_not_repeated(whole, files, tmp_path, monkeypatch):
    output = tmp_path / "run"
    monkeypatch.setattr("vrwkv_jax.commands.tune.start_editing", lambda *_: None)  # which calls the same functions
    kept, edited, stepped = [], [], []
    keep, edit_once = KeptTrajectory.keep, results.edit_once
    monkeypatch.setattr(vrwkv_jax.tuning.loop, "tuning_step", counting(vrwkv_jax.tuning.loop.tuning_step, stepped))
    argv = [*files, *TINY, *EDITS, *STEPS, "--output", str(output)]
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(KeptTrajectory, "keep", interrupted_at(counting(keep, kept), 2))  # the clip, and one step
        main(argv)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(KeptTrajectory, "keep", counting(keep, kept))
        patch.setattr(results, "edit_once", interrupted_at(counting(edit_once, edited), 2))
        resume(output)
    monkeypatch.setattr(results, "edit_once", counting(edit_once, edited))
    resume(output)
    assert [args[1] for args in kept] == [0, 1, 2, 3]
    assert [args[2] for args in edited] == ["a blue disc", "a green disc", "a green disc"]
    assert len(stepped) == 4
    assert_same_run(output, whole)


def test_sampling_goes_on_in_the_middle_of_an_edit(whole, files, tmp_path, monkeypatch):
    """The second of three steps of the first edit is the last that is kept; DPM-Solver++ looks back on the first."""
    monkeypatch.setattr("vrwkv_jax.commands.tune.start_editing", lambda *_: None)  # which calls the same functions
    output, sampled = tmp_path / "run", []
    monkeypatch.setattr(kept_steps, "SECONDS", 0)
    monkeypatch.setattr(steps, "sampling_step", counting(steps.sampling_step, sampled))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(KeptState, "keep", interrupted_at(KeptState.keep, 3 + 2))
        main([*files, *TINY, *EDITS, *STEPS, "--output", str(output)])
    resume(output)
    assert len(sampled) == 3 * len(["sample", "reconstruction", *EDITS[1::2]])
    assert_same_run(output, whole)


def counting(function, calls):
    def counted(*args, **kwargs):
        calls.append(args)
        return function(*args, **kwargs)

    return counted


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--prompt", "a dog"], "prompt was 'a red disc' and is 'a dog'"),
        (["--lr", "0.5", "--seed", "1"], r"seed was 33 and is 1, tuning\.learning_rate was 3e-05 and is 0\.5"),
        (["--frames", "1"], r"clip\.frames was 2 and is 1"),
        (["--placement", "skip"], r"video_model\.placement was \['mid'\] and is \['skip'\]"),
    ],
)
def test_other_settings_are_refused(flags, said, stopped):
    before = contents(stopped)
    with pytest.raises(UserError, match=rf"can't be resumed with other settings of its tuning: {said}; leave them out"):
        resume(stopped, *flags)
    assert contents(stopped) == before


def test_settings_are_compared_where_an_earlier_version_had_them(tmp_path, monkeypatch):
    config = TuneConfig(video_model=VideoConfig(vrwkv=VRWKVConfig(token_order="joint")))
    earlier = asdict(config)
    earlier["video_model"] |= earlier["video_model"].pop("vrwkv")
    monkeypatch.setattr(Checkpoints, "about", lambda self: {"config": earlier})
    check_settings(config, RunDirectory(tmp_path))
    with pytest.raises(UserError, match=r": video_model\.vrwkv\.token_order was 'joint' and is 'factorised'; leave"):
        check_settings(TuneConfig(), RunDirectory(tmp_path))


def contents(directory):
    return {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def test_another_clip_or_model_is_refused(stopped, files, tmp_path):
    """By what the files hold: a copy elsewhere will do, another clip under the same name will not."""
    before = contents(stopped)
    other = tmp_path / "other.mp4"
    write_video(other, built_in.clip(2, 16, 16)[:, ::-1].copy(), fps=10)
    with pytest.raises(UserError, match=rf"the clip's frames \(clip.video {other}, sha256 was [0-9a-f]+ and is"):
        resume(stopped, "--video", str(other))
    model = tmp_path / "model"
    shutil.copytree(files[1], model)
    weights = model / "vae" / "diffusion_pytorch_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-2] ^= 1
    weights.write_bytes(content)
    with pytest.raises(UserError, match=r"the model's weights \(.*, sha256 was [0-9a-f]+ of vae/diffusion_pyt"):
        resume(stopped, "--model", str(model))
    assert contents(stopped) == before


def test_what_does_not_matter_to_tuning_may_change(stopped, files, tmp_path):
    moved = tmp_path / "moved.mp4"
    shutil.copy(files[3], moved)
    resume(stopped, "--video", str(moved), "--edit-prompt", "snow", "--checkpoint-every", "1", "--sample-every", "0")
    assert (stopped / "edits" / "edit-1-snow.mp4").exists() and len(figures(stopped)) == 4


def test_what_may_change_the_last_bits_is_said(stopped):
    config = replace(load_yaml(TuneConfig, stopped / "config.yaml"), mesh="frame=2")
    about = Checkpoints(stopped / "unfinished").about()
    now = about["provenance"] | {"device_count": 2, "bi_wkv": "mosaic"}
    now["versions"] = now["versions"] | {"jaxlib": "0.0.1", "orbax-checkpoint": "0.0.2"}
    expected = (
        r"number of devices 1 to 2, Bi-WKV scan to mosaic, mesh None to frame=2, jaxlib .* to 0\.0\.1, orbax-chec"
    )
    with pytest.warns(UserWarning, match=expected):
        check_contents(config, now, RunDirectory(stopped))


def test_a_damaged_checkpoint_costs_only_its_steps(stopped, whole):
    (stopped / "unfinished" / "step-000003" / "state.json").write_text("{")
    with pytest.warns(UserWarning, match="step 3 is damaged, so that of step 2 is taken"):
        resume(stopped)
    assert_same_run(stopped, whole)


def test_there_must_be_something_to_resume(whole, stopped, tmp_path):
    with pytest.raises(UserError, match="is finished, so there is nothing to resume: edit its clip again with"):
        resume(whole)
    with pytest.raises(UserError, match="holds no run to resume: leave --resume out"):
        resume(tmp_path)
    with pytest.raises(UserError, match="--resume needs --output"):
        main(["--resume"])
    with pytest.raises(UserError, match="leave one of them out"):
        resume(stopped, "--overwrite")


def test_a_replacement_that_was_interrupted(whole, files, tmp_path, monkeypatch):
    """The old run stays until the new one, resumed, takes its place."""
    output = tmp_path / "run"
    shutil.copytree(whole, output)
    old = contents(output)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt, match=rf"run\.new .* --output {output} "):
        signal_after(patch, 1, signal.SIGINT)
        main([*files, *TINY, *STEPS, "--edit-prompt", "snow", "--output", str(output), "--overwrite"])
    assert contents(output) == old
    resume(output)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert (output / "edits" / "edit-1-snow.mp4").exists()
    resume_again = pytest.raises(UserError, match="is finished")
    with resume_again:
        resume(output)


def test_somebody_else_s_new_directory_is_not_replaced(whole, tmp_path):
    output = tmp_path / "run"
    shutil.copytree(whole, output)
    shutil.copytree(whole, tmp_path / "run.new")
    with pytest.raises(UserError, match=r"run\.new is in the way of a run that is to replace"):
        main(["--output", str(output), "--overwrite"])


def test_a_step_without_numbers_replaces_nothing(whole, files, tmp_path, monkeypatch):
    output = tmp_path / "run"
    step = vrwkv_jax.tuning.loop.tuning_step
    calls = []

    def diverging(**arguments):
        tuned, state, metrics = step(**arguments)
        calls.append(None)
        if len(calls) == 3:
            tuned = {path: leaf * jnp.nan for path, leaf in tuned.items()}
            metrics["grad_norm"] = jnp.inf
        return tuned, state, metrics

    with monkeypatch.context() as patch:
        patch.setattr(vrwkv_jax.tuning.loop, "tuning_step", diverging)
        with pytest.raises(UserError, match=r"at step 3 .* gradient's norm inf: most likely .* learning rate"):
            main([*files, *TINY, *EDITS, *STEPS, "--output", str(output)])
    assert len(figures(output)) == 2 and not list(output.rglob("*.mp4"))
    resume(output)
    assert_same_run(output, whole)


def test_a_full_disk_is_one_sentence(whole, files, tmp_path, monkeypatch, capsys):
    output = tmp_path / "run"

    def add(self, **figures):
        if figures["step"] == 3:
            raise OSError(28, "No space left on device", str(output / "log.jsonl"))
        original(self, **figures)

    original = RunLog.add
    with monkeypatch.context() as patch:
        patch.setattr(RunLog, "add", add)
        assert run_cli(lambda: main([*files, *TINY, *EDITS, *STEPS, "--output", str(output)])) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert re.fullmatch(r"error: .*log.jsonl can't be written \(No space.*saved up to step 2.*resume it with: .*", said)
    resume(output)
    assert_same_run(output, whole)


def test_the_same_seed_gives_the_same_bytes(whole, files, tmp_path):
    main([*files, *TINY, *EDITS, *STEPS, "--output", str(tmp_path / "again")])
    assert_same_run(tmp_path / "again", whole)


def test_parameters_without_numbers_make_no_black_clip(stopped, monkeypatch):
    """Damage that no loss has shown, as where a checkpoint is used that is not ours."""
    tune = vrwkv_jax.runs.tuning.tune

    def damaged(*args, **kwargs):
        run = tune(*args, **kwargs)
        return type(run)(run.config, {path: leaf * np.nan for path, leaf in run.params.items()}, run.log)

    monkeypatch.setattr("vrwkv_jax.runs.tuning.tune", damaged)
    with pytest.raises(UserError, match="step 1 of 3 of the inversion gave latents that are no finite numbers"):
        resume(stopped)
    assert not (stopped / "edits").exists()
