"""The Space as a process of its own, as `python app.py` starts it, and its endpoints as the page calls them."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx

from tests.space.conftest import SPACE

# How long a page or server that hangs is waited for: all waits are for a condition, on a machine as slow as it may be.
PATIENCE_S = 600


def free_port() -> int:
    """Return a port of this machine on which nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class Server:
    """A Space that listens, with words of its command line, in a folder, with variables of its environment."""

    def __init__(self, words: Sequence[str], folder: Path, variables: Mapping[str, str] | None = None) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.command = [sys.executable, str(SPACE / "app.py"), *words]
        self.folder = folder
        self.variables = {**os.environ, **(variables or {}), "GRADIO_SERVER_PORT": str(self.port)}
        self.start()

    def start(self) -> None:
        """Start it and wait until it answers."""
        self.process = subprocess.Popen(self.command, cwd=self.folder, env=self.variables, start_new_session=True)
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            try:
                httpx.get(self.url, timeout=PATIENCE_S).raise_for_status()
                return
            except httpx.HTTPError:
                assert self.process.poll() is None, "the Space ended before it listened"
                time.sleep(0.5)
        self.kill()
        raise TimeoutError(f"the Space did not answer in {PATIENCE_S} s")

    def kill(self) -> None:
        """Kill it and its decoding processes, without a warning."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def call(url: str, name: str, *inputs: Any) -> Any:
    """Call an endpoint as the page does; return its outputs, or raise its error."""
    place = f"{url}/gradio_api/call/{name}"
    event = httpx.post(place, json={"data": inputs}, timeout=PATIENCE_S).raise_for_status().json()["event_id"]
    lines = httpx.get(f"{place}/{event}", timeout=PATIENCE_S).text.splitlines()
    kinds = [line.removeprefix("event: ") for line in lines if line.startswith("event: ")]
    data = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
    if kinds[-1] != "complete":
        raise RuntimeError(data[-1])
    return json.loads(data[-1])


def upload(url: str, name: str, content: bytes) -> httpx.Response:
    """Upload a file; the answer holds its path."""
    return httpx.post(f"{url}/gradio_api/upload", files={"files": (name, content)}, timeout=PATIENCE_S)


def as_upload(path: str) -> dict[str, Any]:
    """Return an uploaded file as the page names it."""
    return {"path": path, "meta": {"_type": "gradio.FileData"}}
