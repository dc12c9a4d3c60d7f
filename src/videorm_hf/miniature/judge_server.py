"""The measuring judge behind the chat-completions protocol, so that annotation runs end to end without a large model.

It reads a request as a person would: the images are the frames, a request quoted between triple quotes is what prompt
following is about, a question without one is about video quality, and two groups of images are to be compared. What
it says is the measuring judge's own rating, made worse on purpose where that is asked for: by the request's
`temperature` and by the server's error rate. Both draw from the request's content, so that a repeat gets the same.

    python -m videorm_hf.miniature.judge_server --port 8000 --error-rate 0.1
"""

import argparse
import base64
import hashlib
import io
import itertools
import json
import logging
import re
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from videorm_hf.miniature.clips import SIDE
from videorm_hf.miniature.judge import judge, measure, video_quality

logger = logging.getLogger(__name__)

MODEL = "measuring-judge"
# Two videos whose ratings differ by less are a tie: less than one claim of a long prompt.
TIE_MARGIN = 0.25
_QUOTED = re.compile(r'"""\s*(.*?)\s*"""', re.DOTALL)
_RATINGS, _VERDICTS = (1, 2, 3, 4, 5), ("A", "B", "tie")


class BadRequestError(ValueError):
    """A request that is no question about one or two videos."""


class DeclinedError(Exception):
    """A question that the judge cannot answer."""


@dataclass(frozen=True)
class Opinion:
    """What the judge thinks of one video.

    Args:
        rating (`float`): From 1 to 5, not rounded.
        reasons (`str`): What was measured.
    """

    rating: float
    reasons: str


def reply_to(body: Mapping[str, Any], error_rate: float = 0.0, seed: int = 0) -> str:
    """Answer a chat-completions request.

    Of one video the reply is its rating: measured, plus normal noise whose standard deviation, in steps of the scale,
    is the request's `temperature` (by default 0), rounded with halves up. Of two videos it is the better one, by the
    same noisy ratings. With probability `error_rate` another answer is given, each with the same chance.

    Args:
        body (`Mapping`): The request: `messages`, perhaps `temperature` and `response_format`.
        error_rate (`float`, defaults to 0.0): Probability of a wrong answer, in [0, 1].
        seed (`int`, defaults to 0): Of noise and errors, together with the request's content.

    Returns:
        `str`: `Rating:` or `Verdict:` and `Rationale:`, on two lines, or JSON where `response_format` asks for it.
        What is no question about videos is a [`BadRequestError`]; what the judge cannot tell a [`DeclinedError`].
    """
    content = json.dumps({name: body.get(name) for name in ("model", "messages", "temperature")}, sort_keys=True)
    rng = np.random.default_rng([seed, *hashlib.sha256(content.encode()).digest()])
    texts, videos = _read_message(body)
    quoted = _QUOTED.search("\n".join(texts))
    opinions = [_look(frames_THWC, quoted[1] if quoted else None) for frames_THWC in videos]
    ratings = [opinion.rating + _temperature(body) * rng.standard_normal() for opinion in opinions]
    answer: int | str
    if len(videos) == 1:
        answer, others = int(np.clip(np.floor(ratings[0] + 0.5), 1, 5)), list[int | str](_RATINGS)
    else:
        answer, others = _verdict(*ratings), list[int | str](_VERDICTS)
    if rng.random() < error_rate:
        others.remove(answer)
        answer = others[rng.integers(len(others))]
    label = "rating" if len(videos) == 1 else "verdict"
    reasons = " ".join(opinion.reasons for opinion in opinions)
    kind = (body.get("response_format") or {}).get("type")
    if kind in ("json_schema", "json_object"):
        return json.dumps({"rationale": reasons, label: answer})
    return f"{label.capitalize()}: {answer}\nRationale: {reasons}"


def _verdict(rating_a: float, rating_b: float) -> str:
    if abs(rating_a - rating_b) < TIE_MARGIN:
        return "tie"
    return "A" if rating_a > rating_b else "B"


def _look(frames_THWC: np.ndarray, prompt: str | None) -> Opinion:
    """Rate a video: for a prompt, or without one for how it looks."""
    if len(frames_THWC) < 2:
        raise DeclinedError("I cannot judge motion from a single frame.")
    if prompt is None:
        measured = measure(frames_THWC)
        seen = ", ".join(
            f"{item.thing.color} {item.thing.shape} (unsteady by {item.unsteady:.3f}, flicker {item.flicker:.1f})"
            for item in measured.things
        )
        background = f"{measured.background} background (noise {measured.noise:.1f})"
        return Opinion(video_quality(measured), f"Measured: {seen or 'nothing'}; {background}.")
    try:
        verdict = judge(frames_THWC, prompt)
    except ValueError as error:
        raise DeclinedError(str(error)) from error
    held = ", ".join(claim for claim, holds in verdict.claims.items() if holds)
    broken = ", ".join(claim for claim, holds in verdict.claims.items() if not holds)
    return Opinion(verdict.prompt_following, f"Holds: {held or 'nothing'}. Does not hold: {broken or 'nothing'}.")


def _temperature(body: Mapping[str, Any]) -> float:
    temperature = body.get("temperature")
    if temperature is None:
        return 0.0
    if isinstance(temperature, bool) or not isinstance(temperature, int | float) or not temperature >= 0:
        raise BadRequestError(f"temperature must be a number of at least 0, got {temperature!r}.")
    return float(temperature)


def _read_message(body: Mapping[str, Any]) -> tuple[list[str], list[np.ndarray]]:
    """Return the texts of the last user message, and its videos: the images that stand together."""
    messages = body.get("messages")
    try:
        parts = [message["content"] for message in messages or [] if message["role"] == "user"][-1]
        parts = [{"type": "text", "text": parts}] if isinstance(parts, str) else parts
        texts = [str(part["text"]) for part in parts if part["type"] == "text"]
        groups = itertools.groupby(parts, key=lambda part: part["type"])
        urls = [[part["image_url"]["url"] for part in group] for kind, group in groups if kind == "image_url"]
    except (LookupError, TypeError) as error:
        raise BadRequestError("messages must hold a user's message with a list of texts and image_urls.") from error
    if len(urls) not in (1, 2):
        raise BadRequestError(
            f"The frames of one video, or of two with a text between them, are needed: got {len(urls)}."
        )
    return texts, [np.stack([_read_image(url) for url in video]) for video in urls]


def _read_image(url: str) -> np.ndarray:
    """Decode a data URL as a frame of the small world's size."""
    head, comma, data = url.partition(",")
    if not comma or not head.startswith("data:image/") or not head.endswith(";base64"):
        raise BadRequestError(f"Images must be base64 data URLs, got {url[:40]!r}.")
    try:
        image = Image.open(io.BytesIO(base64.b64decode(data, validate=True))).convert("RGB")
    except (ValueError, UnidentifiedImageError, OSError) as error:
        raise BadRequestError(f"An image cannot be read: {error}") from error
    if image.width != image.height:
        raise BadRequestError(f"Clips of the small world are square, got an image of {image.width}x{image.height}.")
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BOX))


class JudgeServer(ThreadingHTTPServer):
    """The judge at an address; see [`reply_to`] for what it says.

    Args:
        host (`str`, defaults to `"127.0.0.1"`): Where to listen; loopback only by default.
        port (`int`, defaults to 0): At which port; 0 takes a free one.
        error_rate (`float`, defaults to 0.0): Probability of a wrong answer.
        seed (`int`, defaults to 0): Of noise and errors.

    Raises:
        ValueError: If the error rate is not between 0 and 1.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, host: str = "127.0.0.1", port: int = 0, *, error_rate: float = 0.0, seed: int = 0) -> None:
        if not 0.0 <= error_rate <= 1.0:
            raise ValueError(f"error_rate must be between 0 and 1, got {error_rate}.")
        self.error_rate, self.seed = error_rate, seed
        super().__init__((host, port), _Handler)

    @property
    def base_url(self) -> str:
        """Where the API starts, as clients want it."""
        return f"http://{self.server_address[0]!s}:{self.server_address[1]}/v1"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log what went wrong with one connection, such as a client that has left."""
        logger.debug("A connection from %s ended with an error.", client_address, exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: JudgeServer

    def do_GET(self) -> None:
        """List the one model."""
        if self.path.rstrip("/") == "/v1/models":
            self._send(200, {"object": "list", "data": [{"id": MODEL, "object": "model", "owned_by": "videorm-hf"}]})
        else:
            self._fail(404, f"There is no {self.path}.")

    def do_POST(self) -> None:
        """Answer one question."""
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path.rstrip("/") != "/v1/chat/completions":
            self._fail(404, f"There is no {self.path}: ask /v1/chat/completions.")
            return
        try:
            body = json.loads(content)
            if not isinstance(body, dict):
                raise BadRequestError("The request must be a JSON object.")
            message: dict[str, str | None] = {
                "role": "assistant",
                "content": reply_to(body, self.server.error_rate, self.server.seed),
            }
        except DeclinedError as error:
            message = {"role": "assistant", "content": None, "refusal": str(error)}
        except ValueError as error:
            self._fail(400, str(error))
            return
        self._send(200, _completion(content, message))

    def _fail(self, status: int, message: str) -> None:
        self._send(status, {"error": {"message": message, "type": "invalid_request_error", "code": None}})

    def _send(self, status: int, body: dict[str, Any]) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Log requests as the package logs, not on the terminal."""
        logger.debug(format, *arguments)


def _completion(request: bytes, message: dict[str, Any]) -> dict[str, Any]:
    """Return a message in the form of a chat completion; tokens are not counted, for there are none."""
    return {
        "id": f"chatcmpl-{hashlib.sha256(request).hexdigest()[:16]}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": MODEL,
        "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
    }


@contextmanager
def serve_judge(error_rate: float = 0.0, seed: int = 0, port: int = 0) -> Iterator[JudgeServer]:
    """Run the server in threads of this process.

    Args:
        error_rate (`float`, defaults to 0.0): Probability of a wrong answer.
        seed (`int`, defaults to 0): Of noise and errors.
        port (`int`, defaults to 0): At which port of the loopback device; 0 takes a free one.

    Yields:
        [`JudgeServer`]: `base_url` is where it listens.

    Example:

    ```python
    >>> from videorm_hf.miniature.judge_server import serve_judge

    >>> with serve_judge() as server:
    ...     print(server.base_url.startswith("http://127.0.0.1:"))
    True
    ```
    """
    with JudgeServer(port=port, error_rate=error_rate, seed=seed) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(prog="python -m videorm_hf.miniature.judge_server", description=main.__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="where to listen; this machine only by default")
    parser.add_argument("--port", type=int, default=8000, help="0 takes a free one")
    parser.add_argument("--error-rate", type=float, default=0.0, help="probability of a wrong answer")
    parser.add_argument("--seed", type=int, default=0, help="of noise and errors")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        server = JudgeServer(arguments.host, arguments.port, error_rate=arguments.error_rate, seed=arguments.seed)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    with server:
        logger.info("%s answers at %s", MODEL, server.base_url)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            logger.info("Stopped.")


if __name__ == "__main__":
    main()
