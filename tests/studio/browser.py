"""A studio in a process of its own, and a browser that looks at it."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SIZE = {"width": 1400, "height": 900}


class RunningStudio:
    """``vrwkv studio`` on a free port, for the runs in ``directory / "runs"``."""

    def __init__(self, directory: Path, *flags: str):
        self.directory, self._flags = directory, flags
        self.addresses: list[str] = []
        self.start()

    def start(self) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
        with open(self.directory / "studio.log", "w") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "vrwkv_jax.studio", "--port", "0", "--no-open-browser", *self._flags],
                cwd=self.directory,
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        until = time.monotonic() + 120
        while not (found := re.search(r"http://127\.0\.0\.1:\d+", self.said())):
            assert self._process.poll() is None and time.monotonic() < until, self.said()
            time.sleep(0.2)
        self.address = found[0]
        self.addresses.append(self.address)

    def said(self) -> str:
        return (self.directory / "studio.log").read_text()

    def kill(self) -> None:
        """At once, as a crash does."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()


@contextmanager
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        yield chromium
        chromium.close()
