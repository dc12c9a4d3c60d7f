"""ChatClient: calls to a server that speaks the OpenAI chat-completions protocol, within limits, retried, and counted.

The `openai` package's own retries are off: they would pass by the rate limits, give up where a server asks to wait for
more than two minutes, and bound the pauses between bytes rather than the call.
"""

import asyncio
import email.utils
import itertools
import json
import logging
import os
import random
import time
from dataclasses import dataclass
from typing import Any

import openai

from videorm_hf.annotation.options import AnnotationOptions
from videorm_hf.annotation.rate_limits import RateLimit

logger = logging.getLogger(__name__)

_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0
_NO_KEY = "none"
_NEWER_LENGTH_NAME = "max_completion_tokens"
_SHORTEST_SECRET = 8  # characters; a shorter key is a placeholder, and replies may hold the same letters by chance
# The whole run is misconfigured: no other call would fare better.
_FATAL = {401: "refused the key", 403: "refused access", 404: "does not know the model or the address"}


@dataclass(frozen=True)
class Reply:
    """What a judge answered.

    Args:
        text (`str`, *optional*): The reply; `None` where the server sent none.
        finish_reason (`str`, *optional*): Why the judge stopped.
        model (`str`, *optional*): The model as the server names it.
        input_tokens (`int`, *optional*): Tokens of the request, if the server counts them.
        output_tokens (`int`, *optional*): Tokens of the reply, if the server counts them.
        attempts (`int`): How often the call was sent.
        seconds (`float`): From sending it last to the reply.
    """

    text: str | None
    finish_reason: str | None
    model: str | None
    input_tokens: int | None
    output_tokens: int | None
    attempts: int
    seconds: float


class NoReplyError(Exception):
    """A call that was not answered.

    Args:
        message (`str`): Why, for a person; holds no key.
        attempts (`int`): How often it was sent.
        status (`int`, *optional*): The server's HTTP status, if it gave one.
        is_fatal (`bool`): Whether every other call would end the same way.
    """

    def __init__(self, message: str, attempts: int, status: int | None = None, is_fatal: bool = False) -> None:
        super().__init__(message)
        self.attempts = attempts
        self.status = status
        self.is_fatal = is_fatal


class StoppedError(Exception):
    """A call that was not sent, because the run is to end."""


class ChatClient:
    """A connection to a judge's server.

    Args:
        options ([`AnnotationOptions`]): Which judge, and the limits.
        stopping (`asyncio.Event`): Once set, no call is sent any more; those that were sent are still waited for.

    Raises:
        ValueError: If the server needs a key and the environment has none.
    """

    def __init__(self, options: AnnotationOptions, stopping: asyncio.Event) -> None:
        key = os.environ.get(options.api_key_env, "").strip()
        if not key and options.base_url is None:
            raise ValueError(f"Set the environment variable {options.api_key_env} to the key of the judge's server.")
        self.options = options
        self._key = key or _NO_KEY
        self._stopping = stopping
        self._requests = RateLimit(options.requests_per_minute)
        self._tokens = RateLimit(options.tokens_per_minute)
        self._length_name = "max_tokens"  # which nearly every server knows
        self._wait_until = 0.0  # what a server said with Retry-After holds for all calls
        self._client = openai.AsyncOpenAI(
            api_key=self._key, base_url=options.base_url, timeout=options.timeout, max_retries=0
        )

    async def close(self) -> None:
        """End all connections."""
        await self._client.close()

    async def ask(
        self, messages: list[dict[str, Any]], response_format: dict[str, Any] | None, expected_tokens: float
    ) -> Reply:
        """Send one call, again if need be, until it is answered.

        Args:
            messages (`list[dict]`): The question.
            response_format (`dict`, *optional*): A JSON schema for the reply.
            expected_tokens (`float`): What the call will likely count against the tokens a minute.

        Returns:
            [`Reply`]

        Raises:
            StoppedError: If the run is to end before the call is sent (again). A call that is not answered is a
                [`NoReplyError`].
        """
        for attempt in itertools.count(1):
            await self._wait_for_turn(expected_tokens)
            try:
                reply = await self._send(messages, response_format, attempt)
            except (openai.APIError, asyncio.TimeoutError, ValueError) as error:
                pause = self._pause_after(error, attempt)
                logger.debug("attempt %d: %s; pause %.1f s", attempt, self._describe(error), pause)
                await self._pause(pause)
                continue
            used = (reply.input_tokens or 0) + (reply.output_tokens or 0)
            self._tokens.correct(used - expected_tokens if used else 0.0)
            return reply
        raise StoppedError  # never: attempts end by a reply or an error

    async def _send(
        self, messages: list[dict[str, Any]], response_format: dict[str, Any] | None, attempt: int
    ) -> Reply:
        body: dict[str, Any] = {
            "model": self.options.model,
            "messages": messages,
            "temperature": self.options.temperature,
            self._length_name: self.options.max_tokens,
        }
        if response_format is not None:
            body["response_format"] = response_format
        start = time.monotonic()
        # Below `chat.completions.create`, which walks through the images of each request and costs milliseconds.
        request = self._client.post("/chat/completions", body=body, cast_to=str)
        content = await asyncio.wait_for(request, self.options.timeout)
        return self._read(json.loads(content), attempt, time.monotonic() - start)

    def _read(self, body: Any, attempt: int, seconds: float) -> Reply:
        """Read a completion; not left to the package, which takes any JSON object for one."""
        try:
            choice, usage = body["choices"][0], body.get("usage") or {}
            text, refusal = choice["message"].get("content"), choice["message"].get("refusal")
            return Reply(
                text=self._clean(text or refusal or text),
                finish_reason="content_filter" if refusal else choice.get("finish_reason"),
                model=body.get("model"),
                input_tokens=usage.get("prompt_tokens"),
                output_tokens=usage.get("completion_tokens"),
                attempts=attempt,
                seconds=seconds,
            )
        except (LookupError, TypeError, AttributeError) as error:
            raise ValueError(f"{type(error).__name__}: {error}") from None

    async def _wait_for_turn(self, expected_tokens: float) -> None:
        while True:
            while (rest := self._wait_until - time.monotonic()) > 0:
                await self._pause(rest)
            await self._pause(max(self._requests.reserve(), self._tokens.reserve(expected_tokens)))
            if self._wait_until <= time.monotonic():
                break  # else a server asked to wait meanwhile: a moment that passes so is taken anew
        if self._stopping.is_set():
            raise StoppedError

    async def _pause(self, seconds: float) -> None:
        if seconds <= 0:
            return
        try:
            await asyncio.wait_for(self._stopping.wait(), seconds)
        except asyncio.TimeoutError:
            return
        raise StoppedError

    def _pause_after(self, error: Exception, attempt: int) -> float:
        """Return how long to wait before the call is sent again, or raise if it must not be."""
        status = error.status_code if isinstance(error, openai.APIStatusError) else None
        is_out_of_money = isinstance(error, openai.APIError) and error.code == "insufficient_quota"
        if status in _FATAL or is_out_of_money:
            why = _FATAL.get(status or 0, "says that the quota is used up")
            message = f"the server {why} ({self._describe(error)}); {self._advice(status)}"
            raise NoReplyError(message, attempt, status, is_fatal=True) from None
        if status == 400 and _NEWER_LENGTH_NAME in str(error) and attempt < self.options.max_attempts:
            self._length_name = _NEWER_LENGTH_NAME  # OpenAI's reasoning models take no other
            return 0.0
        will_not = status is not None and status < 500 and status not in (408, 409, 425, 429)
        if will_not or attempt == self.options.max_attempts:
            raise NoReplyError(self._describe(error), attempt, status) from None
        asked = retry_after(dict(error.response.headers)) if isinstance(error, openai.APIStatusError) else None
        if asked is not None:
            self._wait_until = max(self._wait_until, time.monotonic() + asked)
            return 0.0
        return min(_FIRST_PAUSE * 2 ** (attempt - 1), _LONGEST_PAUSE) * random.uniform(0.75, 1.25)

    def _advice(self, status: int | None) -> str:
        """Say where to look after an error that every call would end in."""
        if status == 404:
            return "check the model's name and the base URL, which usually ends in /v1"
        is_set = "" if self._key != _NO_KEY else ", which is not set"
        return f"the key comes from ${self.options.api_key_env}{is_set}"

    def _describe(self, error: Exception) -> str:
        if isinstance(error, openai.AuthenticationError):
            return "HTTP 401"  # servers like to repeat the key, or parts of it
        if isinstance(error, asyncio.TimeoutError | openai.APITimeoutError):
            return f"no reply within {self.options.timeout:g} s"
        if isinstance(error, openai.APIStatusError):
            return self._clean(f"HTTP {error.status_code}: {error.message}"[:500]) or ""
        if isinstance(error, openai.APIConnectionError):
            cause = error.__cause__ or error
            return self._clean(f"connection failed: {type(cause).__name__}: {cause}"[:500]) or ""
        return self._clean(f"the reply is no chat completion: {error}"[:500]) or ""

    def _clean(self, text: str | None) -> str | None:
        """Return text that can be written down: valid Unicode, and without the key."""
        if text is None:
            return None
        text = text.replace(self._key, "[key]") if len(self._key) >= _SHORTEST_SECRET else text
        return text.encode(errors="replace").decode()


def retry_after(headers: dict[str, str]) -> float | None:
    """Read for how many seconds a server asks to be left alone.

    Args:
        headers (`dict[str, str]`): Of its response, with names in lower case.

    Returns:
        `float`, *optional*: at least 0; `None` where it does not say.
    """
    for name, unit in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        try:
            return max(0.0, float(headers[name]) * unit)
        except (KeyError, ValueError):
            continue
    try:
        moment = email.utils.parsedate_to_datetime(headers["retry-after"])
    except (KeyError, ValueError):
        return None
    return max(0.0, moment.timestamp() - time.time())
