"""``--batch``: jobs one after another, looked at before the first, skipped where done, resumed where stopped."""

from pathlib import Path

import pytest
import yaml

from vrwkv_jax.commands import batch
from vrwkv_jax.commands.tune import main
from vrwkv_jax.config import load_yaml, messages_name_flags
from vrwkv_jax.config.batch import read_batch
from vrwkv_jax.config.schema import SMALL, TuneConfig
from vrwkv_jax.runs.directory import RunDirectory
from vrwkv_jax.system.errors import UserError

RECIPE = Path(__file__).parents[2] / "recipes" / "batch.yaml"


def written(tmp_path, jobs) -> str:
    path = tmp_path / "jobs.yaml"
    path.write_text(yaml.safe_dump(jobs))
    return str(path)


def test_jobs_override_flags_and_flags_defaults(tmp_path):
    """Settings stand in their sections, or not; the model settles the defaults."""
    jobs = [
        {"prompt": "a", "output": "x", "seed": 5, "num_inference_steps": 7},
        {"model": "sd", "output": "y", "clip": {"frames": 3}, "stride": 4, "video": "~/v.mp4", "prompt": "b"},
    ]
    first, second = read_batch(written(tmp_path, jobs), ["--seed", "9", "--steps", "20"])
    assert (first.seed, first.tuning.steps, first.editing.num_inference_steps) == (5, 20, 7)
    assert first.clip == SMALL.clip and first.tuning.learning_rate == SMALL.tuning.learning_rate
    assert (second.seed, second.tuning.steps, second.clip.frames, second.clip.stride) == (9, 20, 3, 4)
    assert second.tuning.learning_rate == TuneConfig().tuning.learning_rate
    assert second.clip.video == str(Path("~/v.mp4").expanduser())


def test_a_file_of_settings_is_shared(tmp_path):
    (tmp_path / "shared.yaml").write_text("seed: 4\nclip: {frames: 3, stride: 1}\n")
    path = written(tmp_path, [{"output": "x", "frames": 5}, {"output": "y", "seed": 6}])
    first, second = read_batch(path, ["--config", str(tmp_path / "shared.yaml")])
    assert (first.seed, first.clip.frames, second.seed, second.clip.frames) == (4, 5, 6, 3)


def test_the_recipe_is_accepted(monkeypatch):
    monkeypatch.chdir(RECIPE.parents[1])
    jobs = read_batch("recipes/batch.yaml", ["--steps", "50"])
    assert [job.output for job in jobs] == ["runs/batch-blue", "runs/batch-square"]
    assert [job.controls.cross_attention for job in jobs] == [SMALL.controls.cross_attention, 0.3]


@pytest.fixture
def ran(monkeypatch):
    """Writes down the jobs instead of running them; what is in ``fails`` fails."""
    jobs = []

    def run(config):
        jobs.append(config)
        directory = RunDirectory(Path(config.output))
        failed = directory.path.name == "fails"
        if not failed:
            finish(directory)
        return int(failed)

    monkeypatch.setattr(batch, "_run", run)
    return jobs


def finish(directory):
    directory.path.mkdir(exist_ok=True)
    batch.save_yaml(TuneConfig(output=str(directory)), directory.config)
    (directory.path / ".vrwkv-jax").write_text("a run of python -m train.tune\n")
    directory.metrics.write_text("{}")


def test_every_mistake_is_told_before_the_first_job(tmp_path, ran, video):
    good = {"prompt": "a", "output": str(tmp_path / "good")}
    filled = tmp_path / "filled"
    filled.mkdir()
    (filled / "mine").touch()
    jobs = [
        good,
        good | {"output": str(tmp_path / "." / "good")},
        {"prompt": "a"},
        {"video": "nowhere.mp4", "prompt": "a", "output": str(tmp_path / "a")},
        {"video": str(video), "output": str(tmp_path / "b")},
        good | {"output": str(filled)},
        good | {"output": str(tmp_path / "c"), "mask": "none.png"},
        good | {"output": str(tmp_path / "d"), "model": "./none"},
    ]
    with messages_name_flags(), pytest.raises(UserError) as error:
        main(["--batch", written(tmp_path, jobs)])
    lines = str(error.value).splitlines()
    expected = [
        ("job 2 has the `output` of job 1", "name another"),
        ("job 3 has no `output`", "name the directory"),
        ("job 4: nowhere.mp4 is not there", ""),
        ("job 5: `prompt` is missing", str(video)),
        ("job 6: --output", "filled is not empty"),
        ("job 7: the mask none.png is not there", ""),
        ("job 8: the model ./none is not there", ""),
    ]
    assert len(lines) == len(expected) and not ran
    for line, words in zip(lines, expected, strict=True):
        assert all(word in line for word in words), line


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("prompt: a", "holds no list"),
        ("- a\n- [b]", "job 1 is no mapping of settings.*\n.*job 2 is no mapping"),
        ("- {sede: 3}\n- {seed: -1}", r"job 1: `sede`.*\n.*job 2: `seed` -1"),
    ],
)
def test_a_file_that_will_not_do(tmp_path, content, message):
    (tmp_path / "jobs.yaml").write_text(content)
    with pytest.raises(UserError, match=message):
        read_batch(str(tmp_path / "jobs.yaml"), [])


@pytest.mark.parametrize("flag", ["--output=x", "--resume", "--overwrite"])
def test_flags_that_cannot_be_shared(tmp_path, flag):
    with pytest.raises(UserError, match=rf"{flag.split('=')[0]} is not for --batch"):
        main(["--batch", written(tmp_path, [{"output": "y"}]), flag])


def test_a_job_that_fails_leaves_the_others_and_is_tried_again(tmp_path, ran, capsys):
    jobs = [{"prompt": "a", "output": str(tmp_path / name)} for name in ("one", "fails", "two")]
    for again in (False, True):
        with pytest.raises(SystemExit) as status:
            main(["--batch", written(tmp_path, jobs)])
        assert status.value.code == 1
        out, err = capsys.readouterr()
        assert f"2 of 3 jobs are finished; failed: {tmp_path / 'fails'}" in out
        assert ("one: finished already" in err) == again and "fails: failed" in err
    assert [Path(job.output).name for job in ran] == ["one", "fails", "two", "fails"]


def test_what_was_stopped_is_resumed(tmp_path, ran, capsys):
    stopped = RunDirectory(tmp_path / "stopped")
    finish(stopped)
    stopped.metrics.unlink()
    main(["--batch", written(tmp_path, [{"prompt": "a", "output": str(stopped)}])])
    assert [job.resume for job in ran] == [True] and "stopped, resumed" in capsys.readouterr().err


def test_each_is_a_process_with_the_settings_of_its_job(tmp_path, monkeypatch):
    seen = []

    class Process:
        def __init__(self, command):
            seen.append((command[1:4], command[6:], load_yaml(TuneConfig, command[5])))

        def wait(self):
            return 3

    monkeypatch.setattr(batch.subprocess, "Popen", Process)
    (config,) = read_batch(written(tmp_path, [{"prompt": "a", "output": "x", "seed": 5}]), [])
    for resume in (False, True):
        assert batch._run(batch.replace(config, resume=resume)) == 3
        expected = (["-m", "vrwkv_jax", "tune"], ["--output", "x", *["--resume"] * resume], config)
        assert seen.pop() == expected
