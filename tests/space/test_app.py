"""The running Space over HTTP: limits, what it serves and what it refuses, two voters at once."""

import html
import os
import re
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import quote

import app
import httpx
import pytest

from tests.space import server
from tests.space.conftest import SPACE, make_options
from tests.space.server import as_upload


@dataclass(frozen=True)
class Running:
    """A Space that listens: where, its data folder, and its page."""

    url: str
    data: Path
    page: Any

    def call(self, name: str, *inputs: Any) -> Any:
        """Call an endpoint as the page does; return its outputs, or the error."""
        return server.call(self.url, name, *inputs)

    def upload(self, name: str, content: bytes) -> httpx.Response:
        """Upload a file."""
        return server.upload(self.url, name, content)

    def file(self, path: str | Path) -> httpx.Response:
        """Ask for a file by its path, or by a string that stands in the address as it is."""
        place = quote(str(path)) if isinstance(path, Path) else path
        return httpx.get(f"{self.url}/gradio_api/file={place}", timeout=server.PATIENCE_S)


@pytest.fixture(scope="module")
def space(space_files: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    data = tmp_path_factory.mktemp("running") / "data #1"
    with pytest.MonkeyPatch.context() as patch:
        for name in ("GRADIO_TEMP_DIR", "GRADIO_EXAMPLES_CACHE", "GRADIO_ANALYTICS_ENABLED"):
            patch.setenv(name, "")  # so that what is set next is undone at the end
        app.set_environment(data)
        patch.setattr(app, "MAX_UPLOAD", "1mb")
        from page import build_page

        page = build_page(make_options(space_files, data))
        port = server.free_port()
        app.launch(page, "127.0.0.1", port, prevent_thread_lock=True, quiet=True)
        yield Running(f"http://127.0.0.1:{port}", data, page)
        page.close()


def test_an_uploaded_clip_is_scored(space: Running, space_files: Path) -> None:
    (path,) = space.upload("a.mp4", (space_files / "a.mp4").read_bytes()).raise_for_status().json()
    assert Path(path).is_relative_to(space.data / "served")
    (ranking,) = space.call("score", [as_upload(path)], "a dog runs")
    assert 'class="name">a.mp4<' in ranking and 'class="reward">' in ranking


def test_an_upload_over_the_limit_is_refused(space: Running) -> None:
    assert space.upload("large.mp4", bytes(2**20 + 1)).status_code == 413
    assert space.upload("small.mp4", bytes(2**19)).status_code == 200


@pytest.mark.parametrize("name", ["clip.pkl", "clip.py", "clip.html", "clip"])
def test_other_kinds_of_files_are_rejected(space: Running, space_files: Path, name: str) -> None:
    (path,) = space.upload(name, (space_files / "a.mp4").read_bytes()).raise_for_status().json()
    with pytest.raises(RuntimeError, match="Invalid file type"):
        space.call("score", [as_upload(path)], "a dog runs")


@pytest.mark.parametrize("name", ["page.html", "picture.svg", "page.xhtml"])
def test_an_uploaded_page_is_downloaded_and_never_opened_as_one(space: Running, name: str) -> None:
    content = b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"
    (path,) = space.upload(name, content).raise_for_status().json()
    assert space.file(Path(path)).headers["content-disposition"].startswith("attachment")


@pytest.mark.parametrize(
    "name", ["../../escaped.mp4", "..%2f..%2fescaped.mp4", "/tmp/escaped.mp4", "a\\..\\escaped.mp4"]
)
def test_an_upload_stays_in_its_folder_whatever_its_name(space: Running, name: str) -> None:
    (path,) = space.upload(name, b"x").raise_for_status().json()
    assert Path(path).resolve().is_relative_to(space.data / "served")


def test_no_address_is_fetched_for_a_visitor(space: Running) -> None:
    """Else the page would reach what only this machine can."""
    asked = []

    class Inside(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        do_HEAD = do_GET

    with HTTPServer(("127.0.0.1", 0), Inside) as inside:
        Thread(target=inside.serve_forever, daemon=True).start()
        with pytest.raises(RuntimeError):
            space.call("score", [as_upload(f"http://127.0.0.1:{inside.server_port}/a.mp4")], "a dog runs")
        inside.shutdown()
    assert asked == []


def test_a_file_that_was_not_uploaded_cannot_be_scored(space: Running, space_files: Path) -> None:
    """Else the page would show the frames of any video on the machine."""
    with pytest.raises(RuntimeError):
        space.call("score", [as_upload(str(space_files / "a.mp4"))], "a dog runs")


def test_no_file_outside_the_served_folder_is_served(space: Running, space_files: Path) -> None:
    space.call("enter", "anna")
    votes = space.data / "votes" / "votes.sqlite"
    assert votes.is_file()
    inside = next((space.data / "served" / "arena").glob("*.mp4"))
    assert space.file(inside).status_code == 200
    traversal = inside.parent / ".." / ".." / "votes" / "votes.sqlite"
    link = space.data / "served" / "link.mp4"
    link.symlink_to(votes)
    paths = [votes, traversal, link, SPACE / "app.py", "app.py", "/etc/passwd", space_files / "a.mp4", os.getcwd()]
    paths += [space.data / "served" / "arena", f"{quote(str(inside.parent))}/%2e%2e/%2e%2e/votes/votes.sqlite"]
    paths += [f"file://{quote(str(votes))}"]
    assert {str(path): space.file(path).status_code for path in paths} == {str(path): 403 for path in paths}


def test_the_page_names_the_videos_by_addresses_that_are_served(space: Running) -> None:
    sources = re.findall(r'<video src="([^"]+)"', space.call("enter", "carl")[3])
    assert len(sources) == 2
    for source in sources:
        assert httpx.get(f"{space.url}/{html.unescape(source)}", timeout=server.PATIENCE_S).status_code == 200


def test_it_listens_on_loopback_only(space: Running) -> None:
    port = int(space.url.rpartition(":")[2])
    socket.create_connection(("127.0.0.1", port), timeout=server.PATIENCE_S).close()
    with pytest.raises(OSError):  # another address of this machine, which 0.0.0.0 would answer
        socket.create_connection(("127.0.0.2", port), timeout=server.PATIENCE_S)
    assert not space.page.share


def test_an_export_leaves_the_results_on_the_page(space: Running) -> None:
    written = {each.api_name: {output._id for output in each.outputs} for each in space.page.fns.values()}
    assert written["results"] and written["export"] and not written["results"] & written["export"]


def test_two_voters_at_once_lose_no_vote(space: Running) -> None:
    def vote_on_everything(rater: str) -> int:
        duel_id = space.call("rename", rater)[2]
        count = 0
        while duel_id:
            time.sleep(1.05)  # as long as anybody looks at least
            duel_id = space.call("vote_left", rater, duel_id)[2]
            count += 1
        return count

    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(vote_on_everything, ("first", "second"))) == [4, 4]
    (results,) = space.call("results")
    assert "second against all others" in results
    archive, said = space.call("export")
    path = archive["value"]["path"] if "value" in archive else archive["path"]
    assert space.file(Path(path)).content[:2] == b"PK"
    assert "votes" in said
