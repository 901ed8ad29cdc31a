"""``vrwkv studio``: its flags, its password, and what the server lets through."""

import asyncio
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from vrwkv_jax.commands import studio
from vrwkv_jax.commands.studio import StudioCommand, password_of
from vrwkv_jax.config import parse_flags
from vrwkv_jax.studio.places import Places
from vrwkv_jax.studio.server import Guard
from vrwkv_jax.system.errors import UserError


def test_without_gradio_it_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"pip install 'vrwkv-jax\[studio\]'$"):
        studio.main([])
    assert list(tmp_path.iterdir()) == []


def test_flags():
    command = parse_flags(StudioCommand, ["--runs", "x", "--model", "a", "--model", "b", "--no-open-browser"])
    assert (command.runs, command.models, command.open_browser) == ("x", ("a", "b"), False)
    with pytest.raises(UserError, match="--port"):
        parse_flags(StudioCommand, ["--port", "70000"])


def test_a_page_that_others_see_has_a_password(tmp_path):
    alone = StudioCommand()
    assert password_of(alone, None) == (None, False)
    made = [password_of(StudioCommand(**{how: True}), None) for how in ("share", "listen", "share")]
    assert all(is_made and len(password) >= 16 for password, is_made in made)
    assert len({password for password, _ in made}) == 3
    assert password_of(alone, "long enough") == ("long enough", False)
    file = tmp_path / "password"
    file.write_text("correct horse\nbattery\n")
    assert password_of(StudioCommand(password_file=str(file), share=True), "other one") == ("correct horse", False)
    file.write_text("short\n")
    with pytest.raises(UserError, match="a password of 5 characters: choose 8 or more"):
        password_of(StudioCommand(password_file=str(file)), None)
    with pytest.raises(UserError, match="VRWKV_STUDIO_PASSWORD holds a password of 0 characters"):
        password_of(alone, "")
    with pytest.raises(UserError, match="nowhere can't be read"):
        password_of(StudioCommand(password_file="nowhere"), None)


def test_places(tmp_path):
    places = Places(tmp_path / "runs")
    places.make()
    assert places.uploads.is_dir() and places.cache.is_dir()
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="--runs"):
        Places(tmp_path / "file").make()
    places.uploads.rmdir()
    places.uploads.symlink_to(tmp_path)
    with pytest.raises(UserError, match="is a link"):
        places.make()


def answered(guard: Guard, path: str) -> tuple[int, dict[bytes, bytes]]:
    sent = []

    async def send(message):
        sent.append(message)

    asyncio.run(guard({"type": "http", "path": path}, None, send))
    return sent[0]["status"], dict(sent[0]["headers"])


def test_the_guard_gives_pictures_and_clips_of_the_runs_alone(tmp_path):
    async def everything(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})

    runs = tmp_path / "runs"
    runs.mkdir()
    (tmp_path / "secret.png").touch()
    (runs / "link.png").symlink_to(tmp_path / "secret.png")
    guard = Guard(everything, (str(runs),))
    status, headers = answered(guard, "/")
    assert status == 200 and b"default-src 'self'" in headers[b"content-security-policy"]
    for name, expected in {
        f"{runs}/star/source.mp4": 200,
        f"{runs}/star/config.yaml": 404,
        f"{runs}/.studio/job.json": 404,
        f"{tmp_path}/secret.png": 404,
        f"{runs}/../secret.png": 404,
        f"{runs}/link.png": 404,
        f"{runs}s/x.png": 404,
        "http://example.org/x.png": 404,
    }.items():
        assert answered(guard, f"/gradio_api/file={name}")[0] == expected, name
        assert answered(guard, f"/file/{name}")[0] == expected, name
    assert answered(guard, "/gradio_api/proxy=https://example.org/x.png")[0] == 404


def test_nothing_but_page_and_server_imports_gradio():
    """So that jobs, uploads and the gallery are there without it."""
    root = Path(__file__).parents[2]
    page = {"page", "new_run", "runs_tab", "job_panel", "edit_again", "said", "server", "__main__"}
    others = [path.stem for path in (root / "vrwkv_jax/studio").glob("*.py") if path.stem not in page]
    assert len(others) > 8
    code = f"import sys, importlib; [importlib.import_module('vrwkv_jax.studio.' + n) for n in {others}]"
    code += "; import vrwkv_jax.commands.studio; print('gradio' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(root)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout == "False\n"
