"""The studio in Debian's chromium: from the page to an edited clip, and whatever may happen on the way."""

import json
import os
import re
import shutil
import time
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.studio.browser import SIZE, RunningStudio, browser
from vrwkv_jax import built_in
from vrwkv_jax.media.video import length, read_video, write_video

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(shutil.which("chromium") is None, reason="needs Debian's chromium"),
]
MINUTES = 60_000
QUICK = {"frames": 4, "width": 32, "height": 32, "steps": 40, "inference_steps": 4, "sample_every": 10}
GOOD_TO_SEE = {"frames": 8, "width": 64, "height": 64, "steps": 100, "inference_steps": 12, "sample_every": 30}
SETTINGS = GOOD_TO_SEE if "SCREENSHOTS" in os.environ else QUICK
CLIP = {name: SETTINGS[name] for name in ("frames", "width", "height")}


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

    def upload(self, file: Path) -> None:
        self.tab.locator("input[type=file]").first.set_input_files(file)

    def is_told(self, sentence: str) -> bool:
        self.tab.locator(".toast-wrap", has_text=sentence).first.wait_for(timeout=30_000)
        return True

    def picture(self, path: Path) -> None:
        time.sleep(1)
        with Image.open(BytesIO(self.tab.screenshot())) as shot:
            shot.convert("RGB").save(path, quality=70, method=6)


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
    page.picture(screenshots / "new-run.webp")
    page.open("further")
    page.fill(**SETTINGS)
    page.click("start")
    page.wait_for("running", 1)

    other = Page(chromium, studio.address)  # a second tab sees the same job, and can't start another
    other.wait_for("running", 1)
    other.click("start")
    assert other.is_told("a job for small-clip is running, and there is one at a time")

    page.tab.wait_for_selector(".loss .smooth", timeout=3 * MINUTES)
    page.tab.wait_for_selector(".sample video", timeout=3 * MINUTES)
    page.picture(screenshots / "tuning.webp")
    page.click("stop")
    page.wait_for("stopped")
    steps = len((runs / "small-clip/log.jsonl").read_text().splitlines())
    assert SETTINGS["sample_every"] <= steps < SETTINGS["steps"]
    other.wait_for("stopped")

    page.click("go-on")
    page.wait_for("running", 1)
    studio.kill()  # which the job does not notice
    studio.start()
    page = Page(chromium, studio.address)
    page.wait_for("finished", 10)
    run = runs / "small-clip"
    assert [json.loads(line)["step"] for line in (run / "log.jsonl").read_text().splitlines()] == list(
        range(1, SETTINGS["steps"] + 1)
    )
    assert json.loads((run / "metrics.json").read_text())["reconstruction_psnr_db"] > 10

    page.click("see-result")
    page.tab.wait_for_selector("#player video")
    page.tab.wait_for_function(
        "[...document.querySelector('clip-player')?.shadowRoot?.querySelectorAll('video') ?? "
        "document.querySelectorAll('#player video')].every(video => video.readyState > 1)"
    )
    page.picture(screenshots / "result.webp")

    page.open("again")
    page.fill(again_prompts="a yellow star moving in a circle at night", again_eta=0.5, again_seed=5)
    page.open("words")
    page.tab.locator("#blend").get_by_text("star", exact=True).click()
    page.tab.locator("#again").scroll_into_view_if_needed()
    page.picture(screenshots / "edit-again.webp")
    page.click("edit-again")
    page.wait_for("running", 1)
    page.wait_for("finished")
    [edit] = (run / "edits-2").glob("edit-1-*.mp4")
    first = next((run / "edits").glob("edit-1-*.mp4"))
    assert (
        length(edit) == CLIP["frames"]
        and np.abs(read_video(edit, **CLIP).astype(int) - read_video(first, **CLIP)).mean() > 1
    )
    assert (run / "edits-2" / edit.name.replace("edit", "mask")).is_file()  # of the word that was clicked
    assert page.hosts | other.hosts <= {address.removeprefix("http://") for address in studio.addresses} | {""}
    assert not page.complaints and not other.complaints
    assert "Traceback" not in studio.said()


@pytest.fixture
def page(studio, chromium):
    found = Page(chromium, studio.address)
    yield found
    assert not found.complaints and found.hosts <= {studio.address.removeprefix("http://"), ""}
    found.tab.close()


def test_an_upload_that_is_no_video_is_one_sentence(page, runs, tmp_path, studio):
    file = tmp_path / "song.mp4"
    file.write_bytes(b"no video at all" * 100)
    page.upload(file)
    assert page.is_told("song.mp4 cannot be read as a video")
    assert not list((runs / "uploads").iterdir())
    assert page.tab.locator("#clip input").input_value().startswith("Built-in clip")
    assert "Traceback" not in studio.said()


def test_a_clip_is_uploaded_and_trimmed(page, runs, tmp_path, screenshots):
    file = tmp_path / "My clip.mp4"
    write_video(file, np.repeat(built_in.clip(16, 256, 144), 2, axis=0), 16)
    page.upload(file)
    page.tab.get_by_text("32 frames of 256 × 144, 2.0 s at 16 frames per second").wait_for()
    [taken] = (runs / "uploads").iterdir()
    assert re.fullmatch(r"my-clip-[0-9a-f]{8}\.mp4", taken.name) and taken.read_bytes() == file.read_bytes()
    before = page.tab.locator("#chosen img").get_attribute("src")
    page.tab.get_by_text("of which the dark part is cropped").wait_for()
    slider = page.tab.locator("#begin input[type=number]")
    slider.fill("1")
    slider.blur()
    page.tab.wait_for_function("before => document.querySelector('#chosen img').src != before", arg=before)
    page.picture(screenshots / "trim.webp")
    page.click("start")
    assert page.is_told("the prompt is missing: say what the clip shows")
    page.fill(prompt="a star", edit_prompts="a blue star")
    page.open("further")
    page.fill(frames=20)
    page.click("start")
    assert page.is_told("from 1.00 s to 2.00 s there are 16 frames, and 20 frames with stride 1 need 20")
    page.fill(frames=8, width=33, steps=-1)
    page.click("start")
    assert page.is_told("width 33 is not a multiple of 8: use 32 or 40; tuning steps -1 is not at least 0")
    assert [path.name for path in runs.iterdir() if (path / "config.yaml").exists()] in ([], ["small-clip"])


def test_an_error_of_the_command_is_its_sentence(page, runs, studio, tmp_path):
    """Here of a checkpoint that is gone when the job starts to read it."""
    model = tmp_path / "model"
    model.mkdir()
    page.fill(model=model)
    page.click("start")
    page.wait_for("failed", 1)
    error = page.tab.locator(".job .error").inner_text()
    assert str(model) in error and "Traceback" not in error


def test_another_name_of_this_computer_is_refused(page, studio):
    """As a site has whose name leads to 127.0.0.1, to read the page with its visitor's browser."""
    asked = page.tab.request.get(studio.address, headers={"Host": "example.org"})
    assert asked.status == 400 and page.tab.request.get(studio.address).status == 200


def test_a_page_for_others_asks_for_the_password(chromium, tmp_path_factory, monkeypatch):
    monkeypatch.setenv("VRWKV_STUDIO_PASSWORD", "correct horse")
    running = RunningStudio(tmp_path_factory.mktemp("shared"))
    try:
        tab = chromium.new_page(viewport=SIZE)
        tab.goto(running.address)
        tab.get_by_label("username").fill("studio")
        tab.get_by_label("password").fill("correct horse")
        assert not tab.locator("#start").count()
        assert tab.request.get(f"{running.address}/config").status == 401
        assert tab.request.get(f"{running.address}/gradio_api/file={running.directory}/runs/x.png").status in (401, 404)
        tab.get_by_label("password").fill("wrong horse")
        tab.get_by_role("button", name="Login").click()
        tab.get_by_text("Incorrect Credentials").wait_for()
        assert not tab.locator("#start").count()
        tab.get_by_label("username").fill("studio")
        tab.get_by_label("password").fill("correct horse")
        tab.get_by_role("button", name="Login").click()
        tab.wait_for_selector("#start")
        assert "correct horse" not in running.said()
    finally:
        running.kill()


def test_masks_are_painted_and_made_of_words(studio, chromium, runs, screenshots):
    """Of the run that the first test has made, after which this one comes."""
    page = Page(chromium, studio.address)
    page.to("Runs")
    page.open("again")
    page.open("mask")
    page.tab.locator("#mask-words").get_by_text("star", exact=True).click()
    page.click("make-mask")
    page.wait_for("running", 1)
    page.wait_for("finished")
    page.tab.wait_for_selector("#mask-over video")
    assert (runs / "uploads/masks/small-clip/star.mp4").is_file()

    canvas = page.tab.locator("#drawing canvas").first
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.tab.mouse.move(x - 30, y)
    page.tab.mouse.down()
    page.tab.mouse.move(x + 30, y + 20, steps=8)
    page.tab.mouse.up()
    page.picture(screenshots / "mask.webp")
    page.click("use-drawing")
    page.tab.wait_for_function("document.querySelector('#mask-choice input').value == 'drawn.png'")
    drawn = np.asarray(Image.open(runs / "uploads/masks/small-clip/drawn.png").convert("L"))
    assert drawn.shape == (CLIP["height"], CLIP["width"]) and 0.005 < (drawn > 127).mean() < 0.5
    assert not page.complaints and "Traceback" not in studio.said()
    page.tab.close()


def test_an_edit_is_downloaded_in_every_form(studio, chromium, runs):
    page = Page(chromium, studio.address)
    page.to("Runs")
    page.tab.wait_for_selector("#player clip-player")
    for form, ending in {"GIF": ".gif", "PNG frames": ".zip", "mp4": ".mp4"}.items():
        page.tab.locator("#form").get_by_text(form, exact=True).click()
        button = page.tab.locator("#download")
        page.tab.wait_for_function("text => document.querySelector('#download').innerText.includes(text)", arg=form)
        with page.tab.expect_download() as download:
            button.click()
        assert Path(download.value.suggested_filename).suffix == ending
        assert Path(download.value.path()).stat().st_size > 100
    page.open("settings")
    page.tab.locator("#settings .cm-content", has_text="vrwkv tune --prompt").wait_for()
    page.tab.locator("#settings .cm-content", has_text="edit_prompts:").wait_for()
    page.tab.close()
