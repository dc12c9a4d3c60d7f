"""The Space in a real browser: upload, score, compare, vote, reload, export, a killed server, two widths."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.space.conftest import SPACE

pytestmark = pytest.mark.slow
# Pictures for a person to look at, where a folder is named.
SCREENSHOTS = os.environ.get("SPACE_SCREENSHOTS")
WIDTHS = {"desktop": (1280, 900), "phone": (390, 844)}


class Server:
    """The Space as a process of its own, as `python app.py` starts it."""

    def __init__(self, files: Path, data: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        words = [f"--{name}={files / name}" for name in ("reward", "base", "tuned", "pairs")]
        self.command = [sys.executable, str(SPACE / "app.py"), *words, f"--data={data}", f"--port={self.port}"]
        self.start()

    def start(self) -> None:
        """Start it and wait until it answers."""
        self.process = subprocess.Popen(self.command, start_new_session=True)
        until = time.monotonic() + 300
        while time.monotonic() < until:
            try:
                httpx.get(self.url, timeout=5).raise_for_status()
                return
            except httpx.HTTPError:
                assert self.process.poll() is None, "the Space ended before it listened"
                time.sleep(0.5)
        raise TimeoutError("the Space did not answer in five minutes")

    def kill(self) -> None:
        """Kill it and its decoding processes, without a warning."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture(scope="module")
def server(space_files: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(space_files, tmp_path_factory.mktemp("browser") / "data")
    yield server
    server.kill()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="the browser tests need playwright")
    with playwright.sync_playwright() as running:
        installed = shutil.which("chromium") or shutil.which("google-chrome") or running.chromium.executable_path
        if not Path(installed).is_file():
            pytest.skip("the browser tests need Chromium: playwright install chromium")
        started = running.chromium.launch(executable_path=installed, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(params=WIDTHS)
def page(request: pytest.FixtureRequest, browser: Any, server: Server) -> Iterator[Any]:
    """A page of a visitor whom the server does not know, at a desktop's or a phone's width."""
    width, height = WIDTHS[request.param]
    context = browser.new_context(viewport={"width": width, "height": height}, accept_downloads=True)
    context.set_default_timeout(90_000)
    page = context.new_page()
    page.faults = []
    page.on("pageerror", lambda error: page.faults.append(str(error)))
    page.goto(server.url)
    page.get_by_role("tab", name="Score").wait_for()
    yield page
    assert page.faults == []
    context.close()


def look(page: Any, name: str) -> None:
    """Check that nothing is wider than the screen, and keep a picture."""
    width = page.viewport_size["width"]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    if SCREENSHOTS:
        page.screenshot(path=Path(SCREENSHOTS, f"{name}-{width}.png"), full_page=True)


def vote(page: Any, choice: str, key: str | None = None) -> None:
    """Vote and wait until it is counted."""
    done = count_done(page)
    page.wait_for_timeout(1100)
    page.keyboard.press(key) if key else page.locator(f"#vote-{choice}").click()
    page.wait_for_function(f"document.querySelector('#vote-status').innerText.includes('{done + 1} of')")


def count_done(page: Any) -> int:
    status = page.locator("#vote-status .status")
    status.wait_for()
    return int(re.search(r"(\d+) of \d+ done", status.inner_text()).group(1))


def open_arena(page: Any) -> None:
    page.get_by_role("tab", name="Arena").click()
    page.locator("#duel video").first.wait_for()


def sources(page: Any) -> list[str]:
    return page.eval_on_selector_all("#duel video", "videos => videos.map(video => video.src)")


def test_clips_are_uploaded_and_come_back_ranked(page: Any, space_files: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.mp4").write_text("no video")
    files = [space_files / "a.mp4", space_files / "b.mp4", tmp_path / "broken.mp4"]
    page.locator("input[type=file]").first.set_input_files(files)
    page.get_by_text("broken.mp4").first.wait_for()
    page.get_by_label("Prompt", exact=True).first.fill("a dog runs")
    page.locator("#score-button").click()
    page.locator("#ranking .clip").nth(1).wait_for()
    rewards = list(map(float, page.locator("#ranking .reward").all_inner_texts()))
    assert len(rewards) == 2 and rewards == sorted(rewards, reverse=True)
    assert page.locator("#ranking img").count() == 16
    assert "this is not a video" in page.locator("#ranking .problem").inner_text()
    look(page, "score")


def test_a_file_of_another_kind_is_rejected_in_words(page: Any, tmp_path: Path) -> None:
    (tmp_path / "weights.pkl").write_bytes(b"x")
    page.locator("input[type=file]").first.set_input_files([tmp_path / "weights.pkl"])
    page.get_by_text(re.compile("Invalid file type", re.IGNORECASE)).first.wait_for()
    look(page, "rejected")


def test_base_and_tuned_are_sampled_side_by_side(page: Any) -> None:
    page.get_by_role("tab", name="Compare").click()
    page.locator("#compare-prompt textarea, #compare-prompt input").first.fill("a red dog runs")
    page.locator("#compare-button").click()
    page.locator("#compare-summary table").wait_for()
    page.locator("#compare-tuned video").wait_for()
    left, right = (page.locator(f"#compare-{name}").bounding_box() for name in ("base", "tuned"))
    assert left["y"] == right["y"] and left["x"] < right["x"]
    look(page, "compare")


def test_voting_by_button_and_by_key_reload_and_export(page: Any, tmp_path: Path) -> None:
    open_arena(page)
    before = sources(page)
    assert not re.search("base|tuned", " ".join(before))
    assert page.evaluate(
        "[...document.querySelectorAll('#duel video')].every(video => video.readyState > 0 || !video.error)"
    )
    look(page, "arena")
    page.reload()  # in mid-vote
    open_arena(page)
    assert sources(page) == before
    vote(page, "left")
    assert sources(page) != before
    vote(page, "tie", key="ArrowDown")
    vote(page, "right", key="ArrowRight")
    assert count_done(page) == 3
    page.reload()
    open_arena(page)
    assert count_done(page) == 3
    vote(page, "left", key="ArrowLeft")
    page.get_by_text("Thank you").wait_for()
    page.get_by_text("Results and export").click()
    page.locator("#results-button").click()
    page.locator("#results .chart").wait_for()
    look(page, "results")
    page.locator("#export-button").click()
    page.locator("#archive a").first.wait_for()
    with page.expect_download() as download:
        page.locator("#archive a").first.click()
    download.value.save_as(tmp_path / "votes.zip")
    with zipfile.ZipFile(tmp_path / "votes.zip") as archive:
        assert {"README.md", "votes.jsonl", "preference/train-00000.parquet"} <= set(archive.namelist())


def test_keys_do_not_vote_while_a_name_is_typed_or_another_tab_is_open(page: Any) -> None:
    open_arena(page)
    page.wait_for_timeout(1100)
    page.get_by_text("Who votes").click()
    page.locator("#rater-name input, #rater-name textarea").first.fill(f"typist {page.viewport_size['width']}")
    page.keyboard.press("ArrowLeft")
    page.locator("#rater-button").click()
    page.wait_for_function("document.querySelector('#vote-status').innerText.includes('typist')")
    page.get_by_role("tab", name="Score").click()
    page.locator("#title").click()
    page.keyboard.press("ArrowRight")
    page.wait_for_timeout(1000)
    page.get_by_role("tab", name="Arena").click()
    assert count_done(page) == 0


def test_a_double_click_votes_once(page: Any) -> None:
    open_arena(page)
    page.wait_for_timeout(1100)
    page.locator("#vote-left").dblclick()
    page.wait_for_timeout(1500)
    assert count_done(page) == 1


def test_a_killed_server_loses_no_vote_and_shows_the_same_pair(page: Any, server: Server) -> None:
    open_arena(page)
    vote(page, "left")
    before = sources(page)
    server.kill()
    server.start()
    page.goto(server.url)
    open_arena(page)
    assert count_done(page) == 1
    assert sources(page) == before
    vote(page, "right")


def test_two_voters_at_once_have_pairs_of_their_own(browser: Any, server: Server) -> None:
    contexts = [browser.new_context() for _ in range(2)]
    pages = [context.new_page() for context in contexts]
    for page in pages:
        page.set_default_timeout(90_000)
        page.goto(server.url)
        open_arena(page)
    for _ in range(2):
        for page in pages:
            page.wait_for_timeout(1100)
        for page in pages:  # both are sent before either is answered
            page.evaluate("document.getElementById('vote-tie').click()")
        for page in pages:
            page.wait_for_timeout(1500)
    assert [count_done(page) for page in pages] == [2, 2]
    names = {page.locator("#vote-status b").inner_text() for page in pages}
    assert len(names) == 2
    for context in contexts:
        context.close()
