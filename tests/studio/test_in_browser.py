"""The studio in Debian's chromium, by hand as it were: from the page to an edited clip, and everything that can happen."""

import json
import re
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from tests.studio.browser import SIZE, RunningStudio, browser
from vrwkv_jax import built_in
from vrwkv_jax.media.video import length, read_video, write_video

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(shutil.which("chromium") is None, reason="needs Debian's chromium"),
]
MINUTES = 60_000


class Page:
    """A tab of the browser, and what somebody does in it."""

    def __init__(self, chromium, address: str):
        self.tab = chromium.new_page(viewport=SIZE)
        self.hosts: set[str] = set()
        self.complaints: list[str] = []
        self.tab.on("request", lambda request: self.hosts.add(re.sub(r"^\w+:/*([^/]*).*", r"\1", request.url)))
        self.tab.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.tab.goto(address)
        self.tab.wait_for_selector("#whole img")

    def fill(self, **fields: object) -> None:
        for name, value in fields.items():
            field = self.tab.locator(f"#{name.replace('_', '-')}").locator("input, textarea").first
            field.fill(str(value))
            field.blur()

    def click(self, button: str) -> None:
        self.tab.locator(f"#{button}").click()

    def open(self, accordion: str) -> None:
        self.tab.locator(f"#{accordion} button").first.click()

    def to(self, tab: str) -> None:
        self.tab.get_by_role("tab", name=tab).click()

    def wait_for(self, state: str, minutes: float = 3) -> None:
        self.tab.wait_for_selector(f'.job[data-state="{state}"]', timeout=minutes * MINUTES)

    def told(self) -> str:
        toast = self.tab.locator(".toast-body").last
        toast.wait_for(timeout=30_000)
        return toast.inner_text()

    def picture(self, path: Path) -> None:
        time.sleep(1)
        self.tab.screenshot(path=path)


@pytest.fixture(scope="module")
def studio(tmp_path_factory):
    running = RunningStudio(tmp_path_factory.mktemp("studio"))
    yield running
    running.kill()


@pytest.fixture(scope="module")
def chromium():
    with browser() as found:
        yield found


@pytest.fixture
def runs(studio) -> Path:
    return studio.directory / "runs"


def test_from_the_page_to_an_edited_clip(studio, chromium, runs, screenshots):
    """With a stop on the way, a second tab, a studio that is killed, and another edit in the end."""
    page = Page(chromium, studio.address)
    page.picture(screenshots / "new-run.png")
    page.open("further")
    page.fill(frames=4, width=32, height=32, steps=40, inference_steps=4, sample_every=10)
    page.click("start")
    page.wait_for("running", 1)

    other = Page(chromium, studio.address)  # a second tab sees the same job, and can't start another
    other.wait_for("running", 1)
    other.click("start")
    assert "a job for small-clip is running, and there is one at a time" in other.told()

    page.tab.wait_for_selector(".loss .smooth", timeout=3 * MINUTES)
    page.tab.wait_for_selector(".sample video", timeout=3 * MINUTES)
    page.picture(screenshots / "tuning.png")
    page.click("stop")
    page.wait_for("stopped")
    steps = len((runs / "small-clip/log.jsonl").read_text().splitlines())
    assert 10 <= steps < 40
    other.wait_for("stopped")

    page.click("go-on")
    page.wait_for("running", 1)
    studio.kill()  # which the job does not notice
    studio.start()
    page = Page(chromium, studio.address)
    page.wait_for("finished", 5)
    run = runs / "small-clip"
    assert [json.loads(line)["step"] for line in (run / "log.jsonl").read_text().splitlines()] == list(range(1, 41))
    assert json.loads((run / "metrics.json").read_text())["reconstruction_psnr_db"] > 10

    page.click("see-result")
    page.tab.wait_for_selector("#player video")
    page.tab.wait_for_function(
        "[...document.querySelector('clip-player')?.shadowRoot?.querySelectorAll('video') ?? "
        "document.querySelectorAll('#player video')].every(video => video.readyState > 1)"
    )
    page.picture(screenshots / "result.png")

    page.open("again")
    page.fill(again_prompts="a yellow star moving in a circle at night", again_seed=5)
    page.click("edit-again")
    page.wait_for("running", 1)
    page.wait_for("finished")
    [edit] = (run / "edits-2").glob("edit-1-*.mp4")
    clips = {"frames": 4, "width": 32, "height": 32}
    first = next((run / "edits").glob("edit-1-*.mp4"))
    assert length(edit) == 4 and np.abs(read_video(edit, **clips).astype(int) - read_video(first, **clips)).mean() > 1
    assert page.hosts | other.hosts <= {address.removeprefix("http://") for address in studio.addresses} | {""}
    assert not page.complaints and not other.complaints
    assert "Traceback" not in studio.said()
