"""Runs that replace others: whenever one is stopped, both are there, or the new one alone, and nothing is lost."""

import resource
import shutil
import signal
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import jax
import pytest

from tests.runs.runs import Told
from vrwkv_jax import built_in
from vrwkv_jax.checkpoint import native
from vrwkv_jax.commands.tune import _says_how_to_resume
from vrwkv_jax.config import ClipConfig, TuneConfig, messages_name_flags, save_yaml
from vrwkv_jax.media.video import write_video
from vrwkv_jax.runs import own
from vrwkv_jax.runs.claim import claimed, free_directory, put_in_place, unfinished_config
from vrwkv_jax.runs.directory import RunDirectory
from vrwkv_jax.system.errors import UserError, WriteError
from vrwkv_jax.system.reporter import SILENT, Reporter
from vrwkv_jax.tuning.state import TuningState


class Killed(BaseException):
    """As if the process had ended there."""


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def config(tmp_path) -> TuneConfig:
    return TuneConfig(output=str(tmp_path / "run"))


def fill(working: RunDirectory, config: TuneConfig, prompt: str, finished: bool = True) -> None:
    save_yaml(replace(config, prompt=prompt), working.config)
    (working.unfinished / "step-000020").mkdir(parents=True)
    if finished:
        working.metrics.write_text("{}")


def run(config: TuneConfig, prompt: str, reporter: Reporter = SILENT) -> None:
    directory = free_directory(config, reporter)
    with claimed(directory, config, reporter) as working:
        if not config.resume:
            fill(working, config, prompt)
        put_in_place(working, directory, reporter)


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def old_run(directory: Path, config: TuneConfig, prompt: str, finished: bool = True) -> None:
    """A run as versions before the mark wrote it."""
    directory.mkdir(exist_ok=True)
    fill(RunDirectory(directory), config, prompt, finished)
    (directory / "log.jsonl").write_text("")
    (directory / "tensorboard").mkdir()


def contents(directory: Path) -> dict[str, bytes | None]:
    paths = sorted(directory.rglob("*"))
    return {str(path.relative_to(directory)): path.read_bytes() if path.is_file() else None for path in paths}


@pytest.fixture
def half_replaced(config, tmp_path, monkeypatch) -> Path:
    """A run that was killed when the old one had gone and the new one was not in its place."""
    run(config, "old")
    rename = Path.rename

    def killed(path, target):
        if path.name == "run.new":
            raise Killed
        return rename(path, target)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Path, "rename", killed)
        run(replace(config, overwrite=True), "new")
    assert names(tmp_path) == [".run.old", "run.new"]
    return tmp_path / "run"


@pytest.mark.parametrize("overwrite", [False, True])
def test_no_run_starts_where_a_replacement_waits(overwrite, half_replaced, config, tmp_path):
    expected = r"run\.new holds a run that is to replace .*run, finished but for tidying up: resume it with output"
    with pytest.raises(UserError, match=expected):
        free_directory(replace(config, overwrite=overwrite))
    assert names(tmp_path) == [".run.old", "run.new"]


def test_no_name_is_chosen_for_which_a_replacement_waits(tmp_path, monkeypatch, told):
    monkeypatch.chdir(tmp_path)
    waiting = tmp_path / "runs" / "small-clip.new"
    waiting.parent.mkdir()
    old_run(waiting, TuneConfig(output="runs/small-clip"), "new", finished=False)
    assert free_directory(TuneConfig(), told).path == Path("runs/small-clip-2")
    assert "saved up to step 20 of its tuning: to resume it, use output runs/small-clip" in told.messages[0]


def test_a_replacement_that_waits_takes_its_place(half_replaced, config, tmp_path, told):
    assert unfinished_config(config.output).prompt == "new"
    run(replace(config, resume=True), "new", told)
    assert told.messages == [f"resuming {half_replaced}.new, which is to replace {half_replaced}"]
    assert names(tmp_path) == ["run"] and "prompt: new" in (half_replaced / "config.yaml").read_text()


def test_an_unfinished_replacement_is_not_dropped(config, tmp_path):
    run(config, "old")
    again = replace(config, overwrite=True)
    with claimed(free_directory(again), again) as working:
        fill(working, config, "new", finished=False)
    for flags in (config, again):
        with pytest.raises(UserError, match=r"saved up to step 20 of its tuning: resume it with .* or remove .*\.new"):
            free_directory(flags)
    assert RunDirectory(tmp_path / "run.new").how_far() == "saved up to step 20 of its tuning"


def test_a_replacement_without_a_checkpoint_begins_anew(config, tmp_path):
    run(config, "old")
    again = replace(config, overwrite=True)
    with claimed(free_directory(again), again) as working:
        save_yaml(config, working.config)
    with pytest.raises(UserError, match=r"stopped before its first checkpoint: resume it with"):
        free_directory(config)
    run(again, "new")
    assert names(tmp_path) == ["run"]


def test_an_interruption_waits_until_the_run_is_in_its_place(config, tmp_path, monkeypatch):
    run(config, "old")
    rename = Path.rename

    def interrupted(path, target):
        if path.name == "run.new":
            signal.raise_signal(signal.SIGINT)
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", interrupted)
    directory = tmp_path / "run"
    finished = pytest.raises(KeyboardInterrupt, match=f"^the run in {directory} is finished$")
    with finished, _says_how_to_resume(RunDirectory(directory), RunDirectory(tmp_path / "run.new")):
        run(replace(config, overwrite=True), "new")
    assert names(tmp_path) == ["run"] and "prompt: new" in (directory / "config.yaml").read_text()


def test_a_run_in_a_read_only_place_is_not_resumed(config, tmp_path, monkeypatch):
    old_run(tmp_path / "run", config, "old", finished=False)
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(UserError, match=r"^output .*run can't be written: .* is read-only for you"):
        free_directory(replace(config, resume=True))


@pytest.mark.parametrize("name", ["mkdir", "unlink"])
def test_a_replacement_that_cannot_be_made_is_one_sentence(name, config, tmp_path, monkeypatch):
    run(config, "old")
    again = replace(config, overwrite=True)
    with claimed(free_directory(again), again) as working:
        save_yaml(config, working.config)

    def refuse(*_, **__):
        raise OSError(28, "No space left on device")

    if name == "unlink":
        monkeypatch.setattr(Path, "unlink", refuse)
    else:
        mkdir = Path.mkdir
        monkeypatch.setattr(Path, "mkdir", lambda path, **how: (refuse if path == working.path else mkdir)(path, **how))
    expected = r"run\.new can't be made anew \(No space left on device\): make room"
    with pytest.raises(UserError, match=expected), claimed(RunDirectory(tmp_path / "run"), again):
        pass


@pytest.mark.parametrize("flags", [{"resume": True}, {"overwrite": True}, {}])
def test_a_replacement_is_nobody_else_s_to_work_in(flags, config, tmp_path):
    run(config, "old")
    again = replace(config, overwrite=True)
    with claimed(free_directory(again), again) as working:
        fill(working, config, "new", finished=False)
        expected = r"run\.new holds a run that is to replace .*run: name .*run instead"
        with pytest.raises(UserError, match=expected):
            free_directory(TuneConfig(output=str(working), **flags))
        with pytest.raises(UserError, match=expected):
            unfinished_config(str(working))


def test_the_directory_one_is_in(config, tmp_path, monkeypatch):
    (tmp_path / "run").mkdir()
    monkeypatch.chdir(tmp_path / "run")
    here = TuneConfig(output=".")
    assert free_directory(here).path == tmp_path / "run"
    old_run(tmp_path / "run", config, "old", finished=False)
    assert free_directory(replace(here, resume=True)).path == tmp_path / "run"
    assert unfinished_config(".").prompt == "old"


@contextmanager
def small_files():
    """In this block the system refuses files of more than 2000 bytes, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


STATE = TuningState(30, {"kernel": jax.random.normal(jax.random.key(0), (300, 300))}, ())


@pytest.mark.parametrize(
    ("what", "write"),
    [
        ("edit.mp4 cannot be written", lambda run: write_video(run / "edit.mp4", built_in.clip(8, 128, 128), 10)),
        ("tuned/params can't be written", lambda run: native.save(run / "tuned", STATE.tuned)),
        ("the checkpoint of step 30 was not written", lambda run: RunDirectory(run).checkpoints.save(STATE, {})),
        ("run can't be written", lambda run: (run / "loss").write_bytes(bytes(9000))),
    ],
)
def test_a_write_that_the_system_refuses_names_the_command_that_goes_on(what, write, config, tmp_path):
    directory = tmp_path / "run"
    directory.mkdir()
    for kept in (
        "run holds nothing to resume yet: start again",
        "saved up to step 20 .*; resume it with: .* --output .* --resume",
    ):
        refused = pytest.raises(WriteError, match=rf"{what} \(.*File too large.*; .*{kept}$")
        run = RunDirectory(directory)
        with messages_name_flags(), refused, _says_how_to_resume(run, run), small_files():
            write(directory)
        shutil.rmtree(directory)
        old_run(directory, config, "old", finished=False)


def test_what_a_killed_write_leaves_goes(config, tmp_path):
    directory, left = tmp_path / "run", f".{'0123456789abcdef' * 2}.part"
    directory.mkdir()
    (directory / left).write_text("half a configuration")
    assert free_directory(config).path == directory
    with claimed(RunDirectory(directory), config) as working:
        fill(working, config, "old", finished=False)
    (directory / "mine").mkdir()
    for place in (directory, directory / "unfinished", directory / "mine"):
        (place / left).write_text("half a film")
        (place / ".mine.part").write_text("whole")
    with claimed(RunDirectory(directory), replace(config, resume=True)):
        assert list(directory.rglob(left)) == [directory / "mine" / left]
        assert len(list(directory.rglob(".mine.part"))) == 3


def test_a_run_that_is_killed_at_its_very_end_is_tidied_up(config, tmp_path, monkeypatch):
    def killed(path, names):
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(own, "remove", killed)
        run(config, "old")
    assert names(tmp_path / "run") == [own.MARK, "config.yaml", "metrics.json", "unfinished"]
    with pytest.raises(UserError, match="an unfinished run, finished but for tidying up: resume it with resume=True"):
        free_directory(config)
    run(replace(config, resume=True), "old")
    assert names(tmp_path / "run") == [own.MARK, "config.yaml", "metrics.json"]


FOREIGN = {
    "a project": {"config.yaml": "lr: 1", "thesis.txt": "all my work", ".git/HEAD": "ref"},
    "a run of another program": {"config.yaml": "lr: 1", "log.jsonl": "", "tensorboard/events": "", "unfinished/a": ""},
    "a configuration that was written by hand": {"config.yaml": "prompt: a jeep\n"},
    "a lock of another program": {".lock": "1234"},
}


@pytest.mark.parametrize("name", FOREIGN)
@pytest.mark.parametrize("flags", [{}, {"overwrite": True}, {"resume": True}])
def test_what_is_no_run_is_left_alone(flags, name, config, tmp_path):
    for path, text in FOREIGN[name].items():
        (tmp_path / "run" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "run" / path).write_text(text)
    before = contents(tmp_path)
    expected = (
        "is not empty: name another directory$" if not flags else "holds no run (of train.tune, so overwrite|to resume)"
    )
    with pytest.raises(UserError, match=expected):
        free_directory(replace(config, **flags))
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    "what", ["notes.txt", "renders/", "edits/notes.txt", "tuned/params/notes.txt", "samples", "edits@"]
)
def test_what_lies_beside_a_run_is_not_replaced_with_it(what, config, tmp_path):
    run(config, "old")
    directory, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    path = directory / what.rstrip("/@")
    path.parent.mkdir(parents=True, exist_ok=True)
    if what.endswith("/"):
        path.mkdir()
    elif what.endswith("@"):
        elsewhere.mkdir()
        (elsewhere / "edit-1-mine.mp4").write_text("mine")
        path.symlink_to(elsewhere)
    else:
        path.write_text("mine")
    before = contents(tmp_path)
    with pytest.raises(UserError, match=rf"holds what its run did not write \({what.rstrip('/@')}\).*: move that"):
        free_directory(replace(config, overwrite=True))
    assert contents(tmp_path) == before


def test_what_comes_beside_a_run_while_it_is_replaced_is_kept(config, tmp_path, told):
    run(config, "old")
    directory, again = tmp_path / "run", replace(config, overwrite=True)
    with claimed(free_directory(again), again) as working:
        fill(working, config, "new")
        (directory / "notes.txt").write_text("mine")
        (tmp_path / "run.old").write_text("mine, too")
        put_in_place(working, RunDirectory(directory), told)
    assert contents(tmp_path / "run.old-2") == {"notes.txt": b"mine"}
    assert told.messages == [f"what was not the earlier run's is now in {tmp_path}/run.old-2"]
    assert (
        names(tmp_path) == ["run", "run.old", "run.old-2"] and "prompt: new" in (directory / "config.yaml").read_text()
    )


def test_what_has_the_name_of_a_replaced_run_is_kept(config, tmp_path):
    run(config, "old")
    (tmp_path / ".run.old").mkdir()
    (tmp_path / ".run.old" / "config.yaml").write_text("mine")
    run(replace(config, overwrite=True), "new")
    assert names(tmp_path) == [".run.old", "run"] and names(tmp_path / ".run.old") == ["config.yaml"]


def test_a_project_that_took_the_name_meanwhile_is_kept(config, tmp_path):
    run(config, "old")
    directory, again = tmp_path / "run", replace(config, overwrite=True)
    with claimed(free_directory(again), again) as working:
        fill(working, config, "new")
        directory.rename(tmp_path / "moved")
        directory.mkdir()
        (directory / "config.yaml").write_text("lr: 1")
        put_in_place(working, RunDirectory(directory))
    assert contents(tmp_path / "run.old") == {"config.yaml": b"lr: 1"}


def test_a_run_without_a_mark_is_resumed_and_replaced(config, tmp_path):
    old_run(tmp_path / "run", config, "old", finished=False)
    assert unfinished_config(config.output).prompt == "old"
    with claimed(RunDirectory(tmp_path / "run"), replace(config, resume=True)):
        pass
    assert own.is_marked(tmp_path / "run", own.TUNING)
    shutil.rmtree(tmp_path / "run")
    old_run(tmp_path / "run", config, "old")
    run(replace(config, overwrite=True), "new")
    assert names(tmp_path) == ["run"] and "prompt: new" in (tmp_path / "run" / "config.yaml").read_text()


def test_places_that_are_nobody_s_run(config, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    for output, what in {"/": "the root of all files", "/usr/..": "the root", str(tmp_path): "your home"}.items():
        for flags in ({}, {"overwrite": True}, {"resume": True}):
            with pytest.raises(UserError, match=rf"^output {output} is {what}.*: name a directory in it$"):
                free_directory(TuneConfig(output=output, **flags))
    run(config, "old")
    again = replace(config, overwrite=True)
    with monkeypatch.context() as patch, pytest.raises(UserError, match="is a mount point, which no other directory"):
        patch.setattr("os.path.ismount", lambda path: True)
        free_directory(again)
    (tmp_path / "link").symlink_to(tmp_path / "run")
    with pytest.raises(UserError, match=rf"link is a link to {tmp_path}/run, .*: name that one"):
        free_directory(replace(again, output=str(tmp_path / "link")))


def test_nothing_is_resumed_through_links(config, tmp_path):
    with claimed(free_directory(config), config) as working:
        fill(working, config, "old", finished=False)
    (tmp_path / "film.mp4").write_text("mine")
    working.samples.mkdir()
    (working.samples / "step-000020.mp4").symlink_to(tmp_path / "film.mp4")
    with pytest.raises(UserError, match=r"run/samples/step-000020.mp4 is a link, where a run keeps something"):
        free_directory(replace(config, resume=True))


def test_names_that_are_too_long_and_directories_that_nobody_may_read(config, tmp_path, monkeypatch):
    for output in ("x" * 300, "雪" * 100, "a/" + "y" * 250):
        with pytest.raises(UserError, match=r"^output has a name of \d+ letters, '.*\.\.\.: choose a shorter one$"):
            free_directory(TuneConfig(output=output))
    monkeypatch.chdir(tmp_path)
    video = ClipConfig(video="雪" * 80 + ".mp4")
    assert free_directory(TuneConfig(clip=video)).path == Path("runs") / ("雪" * 80)

    def refuse(path):
        raise PermissionError(13, "Permission denied")

    (tmp_path / "run").mkdir()
    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(UserError, match=r"run can't be read \(Permission denied\): name another directory"):
        free_directory(config)
