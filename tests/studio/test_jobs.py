"""One command at a time, whatever happens to the studio that started it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vrwkv_jax.config import TuneConfig, save_yaml
from vrwkv_jax.runs import own
from vrwkv_jax.studio.jobs import Job, Jobs, State, line_of, resuming
from vrwkv_jax.studio.places import Places
from vrwkv_jax.system.errors import UserError

COMMAND = """
import signal, sys, time
from pathlib import Path
how, directory = sys.argv[-2:]
def stop(*_):
    print("interrupted: saved", flush=True)
    sys.exit(143)
signal.signal(signal.SIGTERM, stop)
print("loading the model\\ntuning        :  40%|####      | 40/100 [00:10<00:15,  3.9step/s]", flush=True)
if how == "error":
    print("error: --steps -1 is not at least 0", flush=True)
    sys.exit(2)
if how == "waits":
    time.sleep(60)
Path(directory, "metrics.json").write_text("{}")
"""


@pytest.fixture
def jobs(places):
    found = Jobs(places, (sys.executable, "-c", COMMAND))
    yield found
    status = found.status()
    if status is not None and status.is_running:
        os.kill(status.job.pid, signal.SIGKILL)


@pytest.fixture
def run(places) -> Path:
    """A run that has just begun."""
    path = places.runs / "star"
    path.mkdir()
    own.mark(path, own.TUNING)
    save_yaml(TuneConfig(), path / "config.yaml")
    return path


def start(jobs: Jobs, how: str, run: Path) -> Job:
    return jobs.start(["tune", how, str(run)], run)


def ended(jobs: Jobs):
    return until(jobs, lambda status: not status.is_running)


def until(jobs: Jobs, holds):
    latest = time.monotonic() + 20
    while not holds(status := jobs.status()):
        assert time.monotonic() < latest, status
        time.sleep(0.05)
    return status


def test_nothing_ran_yet(jobs):
    assert jobs.status() is None
    jobs.stop()  # does nothing
    with pytest.raises(UserError, match="nothing to go on with"):
        jobs.go_on()


def test_a_job_that_ends(jobs, run, places):
    start(jobs, "ends", run)
    status = ended(jobs)
    assert (status.state, status.can_go_on, status.error) == (State.FINISHED, False, None)
    assert Jobs(places).words_of(run) == ["tune", "ends", str(run)]


def test_one_at_a_time_and_stopped(jobs, run, places):
    job = start(jobs, "waits", run)
    status = until(jobs, lambda status: status.progress.stage == "tuning")
    assert (status.state, status.progress.done, status.progress.left) == (State.RUNNING, 40, "00:15")
    others = Jobs(places)  # of another studio
    assert others.status() == status
    with pytest.raises(UserError, match="a job for star is running, and there is one at a time"):
        others.start(["tune", "other"], run)
    with pytest.raises(UserError, match="one at a time"):
        others.check_free()
    assert json.loads(places.job.read_text())["pid"] == job.pid  # and not overwritten
    others.stop()
    status = ended(jobs)
    assert (status.state, status.can_go_on) == (State.STOPPED, True)
    assert jobs.go_on().words == resuming(run)


def test_an_error_is_the_sentence_of_the_command(jobs, run):
    start(jobs, "error", run)
    status = ended(jobs)
    assert (status.state, status.error) == (State.FAILED, "--steps -1 is not at least 0")


def test_a_job_that_is_killed_can_go_on(jobs, run):
    job = start(jobs, "waits", run)
    os.kill(job.pid, signal.SIGKILL)
    status = ended(jobs)
    assert (status.state, status.can_go_on) == (State.FAILED, True)
    assert status.error == "it ended without a word, as a process that is killed does"


def test_a_job_outlives_the_studio_that_is_killed(places, run):
    """Which has it in a session of its own, so that Ctrl-C in the studio's terminal doesn't reach it either."""
    studio = f"""
import sys
from pathlib import Path
from vrwkv_jax.studio.jobs import Jobs
from vrwkv_jax.studio.places import Places
jobs = Jobs(Places(Path({str(places.runs)!r})), (sys.executable, "-c", {COMMAND!r}))
print(jobs.start(["tune", "waits", {str(run)!r}], {str(run)!r}).pid, flush=True)
sys.stdin.read()
"""
    root = Path(__file__).parents[2]
    process = subprocess.Popen(
        [sys.executable, "-c", studio], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root
    )
    with process:
        pid = int(process.stdout.readline())
        process.kill()
    jobs = Jobs(places)
    assert jobs.status().state is State.RUNNING and jobs.status().job.pid == pid
    assert os.getsid(pid) == pid
    until(jobs, lambda status: status.progress.stage == "tuning")
    jobs.stop()
    assert ended(jobs).state is State.STOPPED


def test_a_process_id_that_was_given_again_is_left_alone(jobs, run, places):
    """As after a restart of the computer: the file says that a job runs, but nobody holds its lock."""
    start(jobs, "ends", run)
    ended(jobs)
    bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(30)"])
    data = json.loads(places.job.read_text())
    places.job.write_text(json.dumps({**data, "pid": bystander.pid}))
    jobs.stop()
    time.sleep(0.3)
    assert bystander.poll() is None and not jobs.status().is_running
    bystander.kill()
    bystander.wait()


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"words": 3}'])
def test_a_damaged_file_is_no_job(jobs, places, content):
    places.job.write_text(content)
    assert jobs.status() is None


def test_line_of():
    assert line_of(["edit", "runs/a b", "--prompt", "it's red"]) == "vrwkv edit 'runs/a b' --prompt 'it'\"'\"'s red'"


def after(places: Places, job: Job, printed: str = ""):
    """How a job of another time is seen today."""
    places.job.write_text(json.dumps({**vars(job), "words": list(job.words)}))
    places.log.write_text(printed)
    return Jobs(places).status()


def test_edits_are_whole_unfinished_or_not_there(places, run):
    words = ("edit", str(run), "--prompt", "night", "--output", str(run / "edits-2"))
    job = Job(words, str(run / "edits-2"), 0.0, 1)
    status = after(places, job, "error: the prompt is too long\n")
    assert (status.state, status.can_go_on, status.error) == (State.FAILED, False, "the prompt is too long")
    (run / "edits-2/unfinished").mkdir(parents=True)
    (run / "edits-2/unfinished" / ("0" * 32 + ".npz")).touch()
    status = after(places, job, "interrupted: resume with the same command\n")
    assert (status.state, status.can_go_on) == (State.STOPPED, True)
    own.remove(run / "edits-2/unfinished", {".*": None})
    (run / "edits-2/contact_sheet.png").touch()
    assert after(places, job).state is State.FINISHED


def test_a_mask_is_there_or_not(places, run, tmp_path):
    job = Job(("mask", str(run), "--words", "star"), str(tmp_path / "star.mp4"), 0.0, 1)
    assert after(places, job).state is State.FAILED
    (tmp_path / "star.mp4").touch()
    assert after(places, job).state is State.FINISHED
