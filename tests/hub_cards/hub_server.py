"""A server that speaks as much of the Hub's protocol as publishing needs, and keeps what it is sent."""

import base64
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class HubServer(ThreadingHTTPServer):
    """Takes repositories and commits; `files` holds what was committed, by repository and path.

    Metadata are refused with `objection`, if there is one. A repository that nothing was committed to is not found.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.created: list[dict[str, Any]] = []
        self.validated: list[str] = []
        self.objection = ""
        self.files: dict[str, dict[str, bytes]] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: HubServer

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        path = self.path.partition("?")[0]
        if path == "/api/repos/create":
            asked = json.loads(body)
            self.server.created.append(asked)
            self._answer({"url": f"{self.server.url}/{asked['organization']}/{asked['name']}"})
        elif path == "/api/validate-yaml":
            self.server.validated.append(json.loads(body)["repoType"])
            objection = self.server.objection
            self._answer({"warnings": [], "errors": [objection] if objection else []}, 400 if objection else 200)
        elif "/preupload/" in path:
            files = json.loads(body)["files"]
            modes = [{"path": file["path"], "uploadMode": "regular", "shouldIgnore": False} for file in files]
            self._answer({"files": modes})
        elif "/commit/" in path:
            repository = path.removeprefix("/api/").partition("/commit/")[0]
            entries = [json.loads(line) for line in body.splitlines()]
            files = {entry["value"]["path"]: entry["value"] for entry in entries if entry["key"] == "file"}
            contents = {name: base64.b64decode(value["content"]) for name, value in files.items()}
            kept = self.server.files.setdefault(repository, {})
            for entry in entries:
                if entry["key"] == "deletedFile":
                    del kept[entry["value"]["path"]]
            kept.update(contents)
            self._answer({"commitUrl": f"{self.server.url}/x/y/commit/{'0' * 40}", "commitOid": "0" * 40})
        else:
            self.send_error(404)

    def do_GET(self) -> None:
        repository, is_tree, _ = self.path.removeprefix("/api/").partition("/tree/main")
        if is_tree and repository in self.server.files:
            files = self.server.files[repository].items()
            self._answer([{"type": "file", "path": path, "size": len(data), "oid": "0" * 40} for path, data in files])
        else:
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()

    def _answer(self, content: Any, status: int = 200) -> None:
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        """Stay silent."""
