"""The one test double: an HTTP server on loopback that speaks the wire format of chat completions.

What it answers is a plan: a function of the request's number (from 0) and content that returns an `Answer`.
"""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Answer:
    """One HTTP response; `text` is the judge's reply in a well-formed completion unless `body` says otherwise."""

    text: str | None = "Rating: 4\nRationale: Sharp and steady."
    status: int = 200
    delay: float = 0.0
    headers: dict[str, str] = field(default_factory=dict)
    finish_reason: str = "stop"
    refusal: str | None = None
    body: bytes | None = None
    is_dropped: bool = False  # the connection is closed without a response
    is_cut: bool = False  # the connection is closed in the middle of the response
    has_usage: bool = True


Plan = Callable[[int, dict[str, Any]], Answer]


@dataclass
class Request:
    """What came in, and when."""

    body: dict[str, Any]
    headers: dict[str, str]
    time: float

    @property
    def text(self) -> str:
        return "\n".join(part["text"] for part in self.body["messages"][0]["content"] if part["type"] == "text")

    @property
    def images(self) -> list[str]:
        parts = self.body["messages"][0]["content"]
        return [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]


class JudgeServer(ThreadingHTTPServer):
    """Serves on a free port of the loopback device; keeps every request."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, plan: Plan) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.plan = plan
        self.requests: list[Request] = []
        self.num_open = self.max_open = self.num_answered = 0
        self.lock = threading.Lock()

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that are killed break connections; that is part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: JudgeServer

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server = self.server
        with server.lock:
            number = len(server.requests)
            server.requests.append(Request(body, {k.lower(): v for k, v in self.headers.items()}, time.monotonic()))
            server.num_open += 1
            server.max_open = max(server.max_open, server.num_open)
        try:
            assert self.path == "/v1/chat/completions", self.path
            self._answer(server.plan(number, body), body)
        finally:
            with server.lock:
                server.num_open -= 1

    def _answer(self, answer: Answer, body: dict[str, Any]) -> None:
        time.sleep(answer.delay)
        if answer.is_dropped:
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return
        content = answer.body if answer.body is not None else json.dumps(_content(answer, body)).encode()
        self.send_response(answer.status)
        for name, value in {"Content-Type": "application/json", **answer.headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if answer.is_cut:
            self.wfile.write(content[: len(content) // 2])
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return
        self.wfile.write(content)
        with self.server.lock:
            self.server.num_answered += 1

    def log_message(self, format: str, *arguments: Any) -> None:
        """Keep the test output clean."""


def _content(answer: Answer, body: dict[str, Any]) -> dict[str, Any]:
    if answer.status >= 400:
        return {"error": {"message": answer.text, "type": "error", "code": None}}
    message = {"role": "assistant", "content": answer.text, "refusal": answer.refusal}
    completion = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 0,
        "model": body["model"] + "-served",
        "choices": [{"index": 0, "finish_reason": answer.finish_reason, "message": message}],
    }
    usage = {"prompt_tokens": 1000, "completion_tokens": 50, "total_tokens": 1050}
    return completion | ({"usage": usage} if answer.has_usage else {})


@contextmanager
def judge_server(plan: Plan | None = None) -> Iterator[JudgeServer]:
    """Run a server for the time of a test; by default it rates everything 4."""
    server = JudgeServer(plan or (lambda number, body: Answer()))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
