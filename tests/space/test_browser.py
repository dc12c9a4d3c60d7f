"""The Space in a real browser: upload, score, compare, vote, reload, export, a killed server, two widths."""

import json
import os
import re
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from miniature_data import NOTE
from templates import fill

from tests.space.server import PATIENCE_S, Server

pytestmark = pytest.mark.slow
# Pictures for a person to look at, where a folder is named.
SCREENSHOTS = os.environ.get("SPACE_SCREENSHOTS")
WIDTHS = {"desktop": (1280, 800), "phone": (390, 844)}
LOOK_MS = 1000  # the arena's own rule: a vote within a second of the pair being shown does not count
# Headless Chromium that speaks to nobody but the page.
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-sync"]
FLAGS += ["--disable-background-networking", "--disable-component-update"]


@pytest.fixture(scope="module")
def server(space_files: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    words = [f"--{name}={space_files / name}" for name in ("reward", "base", "tuned", "pairs")]
    server = Server(words, tmp_path_factory.mktemp("browser"))
    yield server
    server.kill()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="the browser tests need playwright")
    with playwright.sync_playwright() as running:
        installed = shutil.which("chromium") or shutil.which("google-chrome") or running.chromium.executable_path
        if not Path(installed).is_file():
            pytest.skip("the browser tests need Chromium: playwright install chromium")
        started = running.chromium.launch(executable_path=installed, args=FLAGS)
        yield started
        started.close()


def visit(browser: Any, server: Server, width: str = "desktop") -> Any:
    """Open the page as somebody whom the server does not know."""
    size = dict(zip(("width", "height"), WIDTHS[width], strict=True))
    context = browser.new_context(viewport=size, accept_downloads=True)
    context.set_default_timeout(1000 * PATIENCE_S)
    page = context.new_page()
    page.faults = []
    page.on("pageerror", lambda error: page.faults.append(str(error)))
    page.goto(server.url)
    page.get_by_role("tab", name="Score").wait_for()
    return page


@pytest.fixture(params=WIDTHS)
def page(request: pytest.FixtureRequest, browser: Any, server: Server) -> Iterator[Any]:
    """A page at a desktop's or a phone's width."""
    page = visit(browser, server, request.param)
    yield page
    assert page.faults == []
    page.context.close()


def look(page: Any, name: str) -> None:
    """Check that nothing is wider than the screen, and keep a picture."""
    width = page.viewport_size["width"]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    if SCREENSHOTS:
        page.screenshot(path=Path(SCREENSHOTS, f"{name}-{width}.png"), full_page=True)


def open_arena(page: Any) -> None:
    page.get_by_role("tab", name="Arena").click()
    page.wait_for_function(
        "[...document.querySelectorAll('#duel video')].filter(video => video.readyState >= 2).length == 2"
    )


def rater(page: Any) -> str:
    return page.locator("#vote-status b").inner_text()


def count_done(page: Any) -> int:
    return int(re.search(r"(\d+) of \d+ done", page.locator("#vote-status").inner_text()).group(1))


def wait_until_done(page: Any, number: int) -> None:
    page.wait_for_function(f"document.querySelector('#vote-status').innerText.includes(': {number} of')")


def vote(page: Any, choice: str, key: str | None = None) -> None:
    """Vote on a pair that was looked at, and wait until it is counted."""
    done = count_done(page)
    page.wait_for_timeout(LOOK_MS)
    page.keyboard.press(key) if key else page.locator(f"#vote-{choice}").click()
    wait_until_done(page, done + 1)


def sources(page: Any) -> list[str]:
    return page.eval_on_selector_all("#duel video", "videos => videos.map(video => video.src)")


def upload(page: Any, *files: Path) -> None:
    """Choose files, and wait until the server has them."""
    page.locator("input[type=file]").first.set_input_files(files)
    for file in files:
        page.locator(".file-preview").get_by_label(file.name, exact=True).wait_for()


def test_clips_are_uploaded_and_come_back_ranked(page: Any, space_files: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.mp4").write_text("no video")
    upload(page, space_files / "a.mp4", space_files / "b.mp4", tmp_path / "broken.mp4")
    page.get_by_label("Prompt", exact=True).first.fill("a dog runs")
    page.locator("#score-button").click()
    page.locator("#ranking .clip, #ranking .problem").nth(2).wait_for()
    rewards = list(map(float, page.locator("#ranking .reward").all_inner_texts()))
    assert len(rewards) == 2 and rewards == sorted(rewards, reverse=True)
    assert page.locator("#ranking img").count() == 16
    assert "this is not a video" in page.locator("#ranking .problem").inner_text()
    look(page, "score")


def test_what_is_missing_is_said_where_the_ranking_would_be(page: Any) -> None:
    page.locator("#score-button").click()
    page.locator("#ranking .problem").wait_for()
    assert "There is no clip yet" in page.locator("#ranking").inner_text()


def test_a_file_of_another_kind_is_rejected_in_words(page: Any, tmp_path: Path) -> None:
    (tmp_path / "weights.pkl").write_bytes(b"x")
    page.locator("input[type=file]").first.set_input_files([tmp_path / "weights.pkl"])
    page.get_by_text(re.compile("Invalid file type", re.IGNORECASE)).first.wait_for()
    assert page.locator(".file-preview").count() == 0
    look(page, "rejected")


def test_a_file_over_the_limit_is_rejected_in_words(page: Any, tmp_path: Path) -> None:
    with open(tmp_path / "large.mp4", "wb") as file:
        file.truncate(64 * 2**20 + 1)
    page.locator("input[type=file]").first.set_input_files([tmp_path / "large.mp4"])
    page.get_by_text(re.compile("exceed the maximum allowed size", re.IGNORECASE)).first.wait_for()
    assert page.locator(".file-preview").count() == 0


def test_base_and_tuned_are_sampled_side_by_side(page: Any) -> None:
    page.get_by_role("tab", name="Compare").click()
    page.locator("#compare-prompt textarea, #compare-prompt input").first.fill("a red dog runs")
    page.locator("#compare-button").click()
    page.locator("#compare-summary table").wait_for()
    for name in ("base", "tuned"):
        page.wait_for_function(f"document.querySelector('#compare-{name} video')?.readyState >= 2")
    left, right = (page.locator(f"#compare-{name}").bounding_box() for name in ("base", "tuned"))
    assert left["y"] == right["y"] and left["x"] < right["x"]
    look(page, "compare")


def test_clips_buttons_and_count_stand_on_one_screen(page: Any) -> None:
    """Also under the miniature's note, with a prompt of two lines on a phone and square clips."""
    open_arena(page)
    page.locator("#title h1").evaluate(
        "(title, html) => title.parentElement.innerHTML = html", fill("title", note=NOTE)
    )
    page.evaluate("document.querySelector('.prompt').innerText = 'a big green triangle moves right, on white'")
    page.add_style_tag(content="#duel video { aspect-ratio: 1 !important; }")
    for place in ("#title h1", ".prompt", ".sides", "#vote-left", "#vote-tie", "#vote-right", "#vote-status .status"):
        box = page.locator(place).bounding_box()
        assert 0 <= box["y"] and box["y"] + box["height"] <= page.viewport_size["height"], place
    assert page.evaluate("scrollY") == 0
    assert page.locator(".keys").is_visible() == (page.viewport_size["width"] > 480)  # a phone has no arrow keys


def test_voting_by_button_and_by_key_reload_and_export(page: Any, tmp_path: Path) -> None:
    open_arena(page)
    name, before = rater(page), sources(page)
    assert not re.search("base|tuned", " ".join(before))
    look(page, "arena")
    page.reload()  # in mid-vote
    open_arena(page)
    assert (rater(page), sources(page)) == (name, before)
    vote(page, "left")
    assert sources(page) != before
    vote(page, "tie", key="ArrowDown")
    vote(page, "right", key="ArrowRight")
    page.reload()
    open_arena(page)
    assert (rater(page), count_done(page)) == (name, 3)
    vote(page, "left", key="ArrowLeft")
    page.get_by_text("Thank you").wait_for()
    page.get_by_text("Results and export").click()
    page.locator("#results-button").click()
    page.locator("#results .chart").wait_for()
    look(page, "results")
    page.locator("#export-button").click()
    page.locator("#exported .hint").wait_for()
    assert page.locator("#results .chart").is_visible()  # an export leaves the results where they are
    look(page, "exported")
    with page.expect_download() as download:
        page.locator("#archive a").first.click()
    download.value.save_as(tmp_path / "votes.zip")
    with zipfile.ZipFile(tmp_path / "votes.zip") as archive:
        assert {"README.md", "votes.jsonl", "preference/train-00000.parquet"} <= set(archive.namelist())
        votes = [json.loads(line) for line in archive.read("votes.jsonl").splitlines()]
    assert [each["choice"] for each in votes if each["rater"] == name] == ["left", "tie", "right", "left"]


def test_a_click_stops_a_video_and_another_lets_it_go_on(page: Any) -> None:
    open_arena(page)
    for is_paused in ("true", "false"):
        page.locator("#duel video").first.click()
        page.wait_for_function(f"document.querySelector('#duel video').paused == {is_paused}")
    assert count_done(page) == 0


def test_keys_do_not_vote_while_a_name_is_typed_or_another_tab_is_open(page: Any) -> None:
    open_arena(page)
    page.wait_for_timeout(LOOK_MS)
    page.get_by_text("Who votes").click()
    page.locator("#rater-name input, #rater-name textarea").first.fill(f"typist {page.viewport_size['width']}")
    page.keyboard.press("ArrowLeft")
    page.get_by_role("tab", name="Score").click()
    page.keyboard.press("ArrowRight")
    open_arena(page)
    vote(page, "tie")  # after anything that the keys could have sent
    page.reload()
    open_arena(page)
    assert count_done(page) == 1


def test_several_raters_vote_in_one_browser_and_one_comes_back(page: Any) -> None:
    def call_oneself(name: str) -> None:
        page.locator("#rater-name input, #rater-name textarea").first.fill(name)
        page.locator("#rater-button").click()
        page.wait_for_function(f"document.querySelector('#vote-status').innerText.includes('{name}')")

    names = [f"{name} {page.viewport_size['width']}" for name in ("anna", "bert")]
    open_arena(page)
    page.get_by_text("Who votes").click()
    call_oneself(names[0])
    vote(page, "left")
    call_oneself(names[1])
    assert count_done(page) == 0
    call_oneself(names[0])
    assert count_done(page) == 1


def test_a_double_click_votes_once(page: Any) -> None:
    open_arena(page)
    page.wait_for_timeout(LOOK_MS)
    page.locator("#vote-left").dblclick()
    wait_until_done(page, 1)
    vote(page, "right")  # after anything that the second click could have sent
    page.reload()
    open_arena(page)
    assert count_done(page) == 2


def test_a_killed_server_loses_no_vote_and_shows_the_same_pair(page: Any, server: Server) -> None:
    open_arena(page)
    vote(page, "left")
    name, before = rater(page), sources(page)
    server.kill()
    server.start()
    page.goto(server.url)
    open_arena(page)
    assert (rater(page), count_done(page), sources(page)) == (name, 1, before)
    vote(page, "right")


def test_two_voters_at_once_have_pairs_of_their_own(browser: Any, server: Server) -> None:
    pages = [visit(browser, server) for _ in range(2)]
    for page in pages:
        open_arena(page)
    for number in (1, 2):
        pages[0].wait_for_timeout(LOOK_MS)
        for page in pages:  # both are sent before either is answered
            page.evaluate("document.getElementById('vote-tie').click()")
        for page in pages:
            wait_until_done(page, number)
    assert rater(pages[0]) != rater(pages[1])
    for page in pages:
        page.reload()
        open_arena(page)
        assert count_done(page) == 2
        page.context.close()
