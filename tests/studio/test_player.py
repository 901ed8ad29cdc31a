"""The player of clips in a browser: they stay together, and the wipe follows its handle."""

import re
import shutil
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from vrwkv_jax.media.video import write_video
from vrwkv_jax.studio.player import HEAD, player_html

FRAMES, FPS = 24, 8
CLIPS = ("source.mp4", "reconstruction.mp4", "edit.mp4")
browser_only = pytest.mark.browser


def test_urls_are_escaped():
    html = player_html('a"b<.mp4', None, "c&d.mp4", fps=12.5)
    assert html == '<clip-player source="a&quot;b&lt;.mp4" edit="c&amp;d.mp4" fps="12.5"></clip-player>'


def test_the_head_asks_nobody_and_ends_once():
    assert not re.search(r"https?:|import\b|fetch\(", HEAD)
    assert HEAD.isascii()  # whatever the page says of its letters
    assert HEAD.count("</script") == 1 and HEAD.endswith("</script>")


class _Handler(SimpleHTTPRequestHandler):
    """With ranges, without which Chromium can't seek."""

    def do_GET(self):
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if wanted is None:
            return super().do_GET()
        content = Path(self.translate_path(self.path)).read_bytes()
        first, last = int(wanted[1]), int(wanted[2] or len(content) - 1)
        self.send_response(206)
        self.send_header("Content-Type", "video/mp4")
        self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
        self.send_header("Content-Length", str(last + 1 - first))
        self.end_headers()
        self.wfile.write(content[first : last + 1])

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The address of a page with a player of three clips, and of one with the source alone."""
    folder = tmp_path_factory.mktemp("page")
    ramp = np.linspace(0, 255, 64).astype(np.uint8)
    for clip, (name, channel) in enumerate(zip(CLIPS, (0, 1, 2), strict=True)):
        frames = np.zeros((FRAMES, 48, 64, 3), np.uint8)
        frames[..., channel] = ramp
        for index in range(FRAMES):
            frames[index, 8 * clip : 8 * clip + 16, 2 * index : 2 * index + 12] = 255
        write_video(folder / name, frames, FPS)
    head = f"<!doctype html><html lang=en><meta name=viewport content='width=device-width'>{HEAD}"
    (folder / "all.html").write_text(f"{head}{player_html(*CLIPS, fps=FPS)}", encoding="utf-8")
    (folder / "one.html").write_text(f"{head}{player_html(CLIPS[0], fps=FPS)}", encoding="utf-8")
    (folder / "gone.html").write_text(f"{head}{player_html(CLIPS[0], 'gone.mp4', CLIPS[2], fps=FPS)}", encoding="utf-8")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, directory=folder)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("apt-get install chromium")
    with playwright.sync_playwright() as found:
        browser = found.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def opened(browser, server):
    """Opens a page of the server, whose clips are ready when it is there."""
    contexts = []

    def opened(name: str, **options):
        context = browser.new_context(viewport={"width": 900, "height": 700}, **options)
        contexts.append(context)
        page = context.new_page()
        page.errors = []
        page.on("pageerror", lambda error: page.errors.append(str(error)))
        page.asked = []
        page.on("request", lambda request: page.asked.append(request.url))
        page.goto(f"{server}/{name}")
        page.wait_for_function(
            "document.querySelector('clip-player').videos.every(v => v.readyState >= 3 || v.error)", timeout=10_000
        )
        return page

    yield opened
    for context in contexts:
        context.close()


def times(page) -> list[float]:
    return page.evaluate("document.querySelector('clip-player').videos.map(v => v.currentTime)")


def settled(page) -> list[float]:
    """The times after seeking."""
    page.wait_for_function("document.querySelector('clip-player').videos.every(v => !v.seeking)")
    return times(page)


def shown(page) -> str:
    return page.locator(".where").text_content()


def spread(values: list[float]) -> float:
    return max(values) - min(values)


@browser_only
def test_clips_play_together_and_over_again(opened):
    page = opened("all.html")
    page.get_by_role("button", name="Play").click()
    seen = []
    for _ in range(45):
        page.wait_for_timeout(100)
        seen.append(times(page))
    assert not page.errors
    apart = sorted(map(spread, seen))
    # Less than a frame, at all times but for the jump back to the first frame, where one may be there before another.
    assert apart[int(0.9 * len(apart))] < 1 / FPS, apart
    first = np.array(seen)[:, 0]
    assert len(set(first)) > 30 and (np.diff(first) < 0).sum() == 1  # a loop of 3 s in 4.5 s
    page.get_by_role("button", name="Pause").click()
    stopped = settled(page)
    assert spread(stopped) == 0
    page.wait_for_timeout(300)
    assert times(page) == stopped


@browser_only
def test_slow_playing_takes_longer(opened):
    page = opened("all.html")
    page.get_by_label("Speed").select_option("0.25")
    page.get_by_role("button", name="Play").click()
    page.wait_for_timeout(1600)
    assert 0.1 < times(page)[0] < 0.8  # 0.4 s after a start that may take a while
    assert spread(times(page)) < 1 / FPS


@browser_only
def test_without_a_loop_they_end(opened):
    page = opened("all.html")
    page.get_by_role("button", name="Loop").click()
    page.get_by_label("Speed").select_option("2")
    page.get_by_role("button", name="Play").click()
    page.get_by_role("button", name="Play").wait_for(timeout=10_000)  # which said Pause meanwhile
    assert shown(page) == f"frame {FRAMES} of {FRAMES}"
    page.get_by_role("button", name="Play").click()
    page.wait_for_timeout(300)
    assert times(page)[0] < 2  # from the start


@browser_only
def test_frames_are_chosen_by_keys_and_slider(opened):
    page = opened("all.html")
    page.locator(".stage").focus()
    keys = {"ArrowRight": 1, "ArrowLeft": 0, "End": FRAMES - 1, "Home": 0}
    for key, frame in keys.items():
        page.keyboard.press(key)
        assert settled(page) == pytest.approx([(frame + 0.5) / FPS] * 3, abs=1e-6)
        assert shown(page) == f"frame {frame + 1} of {FRAMES}"
    page.keyboard.press("ArrowLeft")  # there is none before
    assert shown(page) == f"frame 1 of {FRAMES}"
    page.get_by_label("Frame", exact=True).fill("7")
    assert settled(page) == pytest.approx([7.5 / FPS] * 3, abs=1e-6)
    page.keyboard.press("ArrowUp")
    assert shown(page) == f"frame 9 of {FRAMES}"
    page.keyboard.press(" ")
    page.wait_for_timeout(400)
    assert settled(page)[0] > 8.5 / FPS
    page.keyboard.press("ArrowRight")  # stops, too
    assert spread(settled(page)) == 0
    page.get_by_role("button", name="Play").wait_for()


@browser_only
def test_the_frame_that_is_said_is_seen(opened):
    """The white square of the source stands 2 pixels further right in each frame."""
    page = opened("all.html")
    for frame in (0, 5, FRAMES - 1):
        page.get_by_label("Frame", exact=True).fill(str(frame))
        settled(page)
        blue = page.evaluate(
            """() => new Promise(done => requestAnimationFrame(() => {
                const video = document.querySelector('clip-player').videos[0];
                const canvas = document.createElement('canvas');
                [canvas.width, canvas.height] = [64, 48];
                const context = canvas.getContext('2d');
                context.drawImage(video, 0, 0);
                done(Array.from(context.getImageData(0, 8, 64, 1).data).filter((_, i) => i % 4 === 2));
            }))"""
        )
        place = np.flatnonzero(np.array(blue) > 127).mean()
        assert place == pytest.approx(2 * frame + 5.5, abs=0.6)  # the codec's borders


def clip_path(page) -> float:
    """Percent of the width that the source has."""
    text = page.evaluate("getComputedStyle(document.querySelector('clip-player').videos.at(-1)).clipPath")
    return float(re.fullmatch(r"inset\(0px 0px 0px ([\d.]+)%\)", text)[1])


def check_handle(page) -> None:
    box, handle = page.get_by_label("Edit", exact=True).bounding_box(), page.locator(".handle").bounding_box()
    middle = handle["x"] + handle["width"] / 2
    assert middle == pytest.approx(box["x"] + box["width"] * clip_path(page) / 100, abs=1)
    assert float(page.locator(".handle").get_attribute("aria-valuenow")) == pytest.approx(clip_path(page), abs=0.5)


@browser_only
def test_the_wipe_follows_its_handle(opened):
    page = opened("all.html")
    page.get_by_role("button", name="Wipe").click()
    source, edit = (page.get_by_label(name, exact=True).bounding_box() for name in ("Source", "Edit"))
    assert source == edit
    assert not page.get_by_label("Reconstruction", exact=True).is_visible()
    check_handle(page)
    assert clip_path(page) == 50
    x, y = edit["x"] + edit["width"] / 2, edit["y"] + edit["height"] / 3
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(edit["x"] + 0.2 * edit["width"], y + 40, steps=4)
    assert clip_path(page) == pytest.approx(20, abs=0.5)
    check_handle(page)
    page.mouse.move(edit["x"] - 500, y)
    assert clip_path(page) == 0
    page.mouse.move(edit["x"] + 0.7 * edit["width"], y)
    page.mouse.up()
    page.mouse.move(x, y)  # let go
    assert clip_path(page) == pytest.approx(70, abs=0.5)
    before = times(page)
    page.keyboard.press("ArrowLeft")
    assert clip_path(page) == pytest.approx(69, abs=0.5)
    page.keyboard.press("Shift+ArrowRight")
    assert clip_path(page) == pytest.approx(79, abs=0.5)
    page.keyboard.press("End")
    assert clip_path(page) == 100
    assert times(page) == before  # the keys of the handle move no frames
    check_handle(page)
    page.get_by_role("button", name="Wipe").click()
    assert page.evaluate("document.querySelector('clip-player').videos[2].style.clipPath") == ""
    assert page.get_by_label("Reconstruction", exact=True).is_visible()


@browser_only
def test_the_wipe_follows_a_finger(opened):
    page = opened("all.html", has_touch=True)
    page.get_by_role("button", name="Wipe").tap()
    box = page.get_by_label("Edit", exact=True).bounding_box()
    page.touchscreen.tap(box["x"] + 0.3 * box["width"], box["y"] + 20)
    assert clip_path(page) == pytest.approx(30, abs=0.5)
    fingers = page.context.new_cdp_session(page)
    for kind, share in (("touchStart", 0.3), ("touchMove", 0.5), ("touchMove", 0.9), ("touchEnd", None)):
        at = [] if share is None else [{"x": box["x"] + share * box["width"], "y": box["y"] + 20}]
        fingers.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": at})
    assert clip_path(page) == pytest.approx(90, abs=0.5)


@browser_only
def test_small_clips_keep_their_pixels(opened):
    page = opened("all.html")
    rendering = "getComputedStyle(document.querySelector('clip-player').videos[0]).imageRendering"
    assert page.evaluate(rendering) == "pixelated"
    page.get_by_role("button", name="Pixels").click()
    assert page.evaluate(rendering) == "auto"


@browser_only
def test_a_source_alone_has_nothing_to_wipe(opened):
    page = opened("one.html")
    assert page.get_by_role("button", name="Wipe").is_disabled()
    page.evaluate(f"document.querySelector('clip-player').setAttribute('edit', '{CLIPS[2]}')")
    page.get_by_role("button", name="Wipe").click()
    assert clip_path(page) == 50


@browser_only
def test_a_clip_that_is_not_there_is_said_and_the_others_play(opened):
    page = opened("gone.html")
    assert page.locator(".failed").text_content() == "Reconstruction"
    page.get_by_role("button", name="Play").click()
    page.wait_for_timeout(600)
    source, gone, edit = times(page)
    assert source > 0.1 and gone == 0 and abs(source - edit) < 1 / FPS
    assert not page.errors


@browser_only
def test_everything_is_reached_by_the_keyboard_and_has_a_name(opened):
    page = opened("all.html")
    page.get_by_role("button", name="Wipe").click()
    page.locator(".handle").focus()
    names = []
    for _ in range(7):
        focused = "document.querySelector('clip-player').shadowRoot.activeElement"
        names.append(page.evaluate(f"{focused}.ariaLabel || {focused}.textContent"))
        page.keyboard.press("Tab")
    assert names == ["Wipe between source and edit", "Play", "Frame", "Speed", "Loop", "Wipe", "Pixels"]
    assert all(url.startswith(page.url.rpartition("/")[0]) for url in page.asked)
