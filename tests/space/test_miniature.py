"""`make space` as it is: the shipped weights, one command without options, no network, started twice."""

import os
import re
import socket
from pathlib import Path

import pytest

from tests.space.server import Server, as_upload, call, upload

pytestmark = pytest.mark.slow
# Python reads this module first: whoever is asked for outside this machine is written down and not reached.
NO_NETWORK = """
import os, socket
connect, find = socket.socket.connect, socket.getaddrinfo
HERE = ("127.0.0.1", "::1", "localhost", "0.0.0.0", None, "")
def refuse(host):
    if host not in HERE:
        with open(os.environ["ASKED"], "a") as file:
            file.write(f"{host}\\n")
        raise OSError(f"there is no network to reach {host}")
def connect_here(self, address):
    if self.family in (socket.AF_INET, socket.AF_INET6):
        refuse(address[0])
    return connect(self, address)
def find_here(host, *further, **named):
    refuse(host)
    return find(host, *further, **named)
socket.socket.connect, socket.getaddrinfo = connect_here, find_here
"""


def test_one_command_starts_everything_offline_and_the_second_time_from_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(NO_NETWORK, encoding="utf-8")
    asked, data = tmp_path / "asked.txt", tmp_path / "arena_data"
    python_path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    server = Server([], tmp_path, {"PYTHONPATH": python_path, "ASKED": str(asked)})
    try:
        with pytest.raises(OSError):  # another address of this machine, which 0.0.0.0 would answer
            socket.create_connection(("127.0.0.2", server.port))
        _, _, first, clips, status, *_ = call(server.url, "enter", "anna")
        assert first and clips.count("<video") == 2 and "0 of 12 done" in " ".join(status.split())
        examples = sorted((data / "examples").glob("*.mp4"))
        paths = [upload(server.url, file.name, file.read_bytes()).json()[0] for file in examples]
        (ranking,) = call(server.url, "score", list(map(as_upload, paths)), "a red circle moves to the left")
        assert sorted(re.findall(r'class="name">([^<]+)<', ranking)) == [file.name for file in examples]
        base, tuned, summary = call(server.url, "compare", "a red circle moves to the left", 0, 1.0)
        assert base and tuned and len(re.findall(r"<td>[+-][0-9.]+</td>", summary)) == 3
        made = sorted([*data.glob("tuned/*/*"), *data.glob("pairs/*/videos/*")])
        assert len(made) > 24  # a LoRA, and 12 pairs
        times = [path.stat().st_mtime_ns for path in made]
        (mine,) = upload(server.url, "mine.mp4", b"mine").json()
        assert Path(mine).is_file()
        server.kill()
        server.start()
        assert call(server.url, "enter", "anna")[2] == first
        assert not Path(mine).exists()  # what a visitor uploads does not outlive a killed server
        assert [path.stat().st_mtime_ns for path in made] == times
    finally:
        server.kill()
    assert not asked.exists(), asked.read_text(encoding="utf-8")
