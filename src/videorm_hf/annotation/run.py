"""A run of the annotator: the calls of a plan, sent side by side, each answer written down the moment it arrives."""

import asyncio
import itertools
import logging
import shutil
import signal
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from videorm_hf.annotation.calls import Call, Plan, failure_record, reply_record
from videorm_hf.annotation.client import ChatClient, NoReplyError, Reply, StoppedError
from videorm_hf.annotation.frames import jpeg_frames_of_all
from videorm_hf.annotation.journal import Journal, Record
from videorm_hf.annotation.messages import build_messages, response_schema, text_length
from videorm_hf.annotation.options import AnnotationOptions
from videorm_hf.annotation.rubrics import Form
from videorm_hf.annotation.spending import Spending
from videorm_hf.models.videorm.video_decoding_videorm import VideoDecodingError
from videorm_hf.scoring.decode_pool import decode_ahead
from videorm_hf.videoprefer.items import Candidate

logger = logging.getLogger(__name__)

_LEAST_FREE_BYTES = 16 * 2**20
_DECODE_SECONDS = 120.0  # videos shown together that take longer are unreadable


@dataclass
class AnnotationSummary:
    """What became of a run.

    Args:
        num_calls (`int`): Calls that the data set needs.
        num_before (`int`): Calls that had a record when the run began and were not asked.
        num_failed_before (`int`): Those among them whose record has no rating or verdict.
        num_answered (`int`): Calls of this run with a rating or verdict.
        failures (`Counter`): Calls of this run without, by reason.
        first_failure (`str`, *optional*): The first of them: its reason, and what was replied or went wrong.
        num_retries (`int`): Times that a call was sent again.
        input_tokens (`int`): Of requests, in the whole journal.
        output_tokens (`int`): Of replies, in the whole journal.
        cost (`float`): Of the whole journal, by the prices given.
        seconds (`float`): The run took.
        stopped (`str`, *optional*): Why the run ended before every call was asked.
    """

    num_calls: int
    num_before: int
    num_answered: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    num_retries: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float = 0.0
    seconds: float = 0.0
    stopped: str | None = None
    first_failure: str | None = None
    num_failed_before: int = 0

    @property
    def num_left(self) -> int:
        """Calls that still have no record."""
        return self.num_calls - self.num_before - self.num_answered - self.failures.total()


class Run:
    """One run: workers that take the next videos, ask about them, and write down what comes.

    Args:
        options ([`AnnotationOptions`]): Which judge, how it is asked, and the limits.
        plan ([`Plan`]): What to ask.
        folder (`Path`): Where relative video paths start.
        journal ([`Journal`]): Open for appending.
        spending ([`Spending`]): Of the journal so far.
    """

    def __init__(
        self, options: AnnotationOptions, plan: Plan, folder: Path, journal: Journal, spending: Spending
    ) -> None:
        self.options, self.plan, self.folder, self.journal, self.spending = options, plan, folder, journal, spending
        num_before = len(plan.done)
        self.summary = AnnotationSummary(plan.num_open + num_before, num_before, num_failed_before=plan.num_failed)
        self.form: Form = "text" if options.response_format == "text" else "json_schema"
        self.failures_in_a_row = 0
        self.decoded: deque[asyncio.Future[Any]] = deque()

    async def execute(self, progress: bool) -> AnnotationSummary:
        """Ask all open calls.

        Args:
            progress (`bool`): Show a progress bar.

        Returns:
            [`AnnotationSummary`]
        """
        start = time.monotonic()
        self.stopping = asyncio.Event()
        self.client = ChatClient(self.options, self.stopping)
        source = self._decoded_groups()
        # One thread draws decoded videos, so that waiting for them blocks no call.
        decoding = ThreadPoolExecutor(1, thread_name_prefix="annotate")
        try:
            with (
                _interrupts_call(self._interrupt),
                tqdm(total=self.plan.num_open, desc="rating", unit="call", disable=not progress) as self.bar,
            ):
                await self._work_together(source, decoding)
        finally:
            decoding.shutdown(cancel_futures=True)
            source.close()
            await self.client.close()
        self.summary.seconds = time.monotonic() - start
        self._count_spending()
        return self.summary

    def stop(self, reason: str) -> None:
        """Send no further call; those under way are still answered.

        Args:
            reason (`str`): For the summary and the log.
        """
        if self.summary.stopped is None:
            self.summary.stopped = reason
            logger.warning("%s; waiting for the calls that are under way", reason)
        self.stopping.set()

    def _interrupt(self) -> None:
        self.stop("interrupted")

    def _decoded_groups(self) -> Generator[tuple[list[Call], list[list[bytes]] | VideoDecodingError], None, None]:
        # Any: the pool is written for arrays and takes whatever can be pickled; it returns a generator, to be closed.
        decode: Any = partial(
            jpeg_frames_of_all, num_frames=self.options.num_frames, frame_size=self.options.frame_size
        )
        groups, same = itertools.tee(self.plan.groups())  # apart by the videos that are decoded ahead
        videos = ([str(self.folder / candidate.video) for candidate in _shown(group).values()] for group in same)
        decoded: Any = decode_ahead(decode, videos, self.options.num_workers, _DECODE_SECONDS)
        with closing(decoded):
            yield from zip(groups, decoded, strict=True)

    def _decode_next(self, source: Iterator[Any], decoding: ThreadPoolExecutor) -> None:
        self.decoded.append(asyncio.get_running_loop().run_in_executor(decoding, next, source, None))

    async def _work_together(self, source: Iterator[Any], decoding: ThreadPoolExecutor) -> None:
        """Run all workers; the first that fails ends the others."""
        workers = []
        for _ in range(min(self.options.concurrency, self.plan.num_open)):
            self._decode_next(source, decoding)
            workers.append(asyncio.create_task(self._work(source, decoding)))
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)

    async def _work(self, source: Iterator[Any], decoding: ThreadPoolExecutor) -> None:
        """Take groups of calls until there are none, or the run is to end."""
        while not self.stopping.is_set():
            self._decode_next(source, decoding)  # while judges think, as many videos are decoded as are asked about
            taken = await self.decoded.popleft()
            if taken is None:
                return
            calls, decoded = taken
            for call in calls:
                if self.stopping.is_set():
                    return
                if isinstance(decoded, VideoDecodingError):
                    self._write(failure_record(call, self.options, "unreadable_video", str(decoded), attempts=0))
                else:
                    frames = dict(zip(_shown(calls), decoded, strict=True))
                    await self._ask(call, [frames[candidate.candidate_id] for candidate in call.candidates])

    async def _ask(self, call: Call, frames: list[list[bytes]]) -> None:
        """Ask once, unless money or disk are short, and write down what comes of it."""
        num_characters = text_length(build_messages(call.rubric, call.item.prompt, [[] for _ in frames], self.form))
        num_images = sum(map(len, frames))
        while not self.spending.allows(self.spending.expected_input(num_characters, num_images)):
            if self.spending.num_in_flight == 0:
                self.stop(f"one more call could exceed the maximum cost of {self.options.max_cost:g}")
            if self.stopping.is_set():
                return
            await asyncio.sleep(0.05)  # the calls under way may cost less than they could
        if shutil.disk_usage(self.journal.path.parent).free < _LEAST_FREE_BYTES:
            self.stop(f"the disk of {self.journal.path} is nearly full: make room and run again")
            return
        expected = self.spending.expected_input(num_characters, num_images)
        self.spending.num_in_flight += 1
        try:
            reply, form = await self._reply(call, frames, expected)
        except StoppedError:
            return
        except NoReplyError as error:
            self._without_reply(call, error)
            return
        finally:
            self.spending.num_in_flight -= 1
        record = reply_record(call, self.options, reply, form)
        self._write(record)
        self.spending.count(record, expected)
        self.failures_in_a_row = 0
        self._show()

    async def _reply(self, call: Call, frames: list[list[bytes]], expected: float) -> tuple[Reply, Form]:
        """Get a reply, in text where the server knows no JSON schemas."""
        form = self.form
        tokens = expected + self.options.max_tokens / 2
        messages = build_messages(call.rubric, call.item.prompt, frames, form)
        if form == "text":
            return await self.client.ask(messages, None, tokens), form
        try:
            return await self.client.ask(messages, response_schema(self.options.mode), tokens), form
        except NoReplyError as error:
            if self.options.response_format != "auto" or error.status not in (400, 422):
                raise
            messages = build_messages(call.rubric, call.item.prompt, frames, "text")
            reply = await self.client.ask(messages, None, tokens)
            if self.form != "text":
                logger.info("the server takes no JSON schema (%s); replies are asked for as text", error)
                self.form = "text"
            return reply, "text"

    def _without_reply(self, call: Call, error: NoReplyError) -> None:
        if error.is_fatal:
            self.stop(str(error))
            return
        self.failures_in_a_row += 1
        if self.failures_in_a_row > self.options.max_failures_in_a_row:
            # Not written down: what a server that is gone leaves unanswered has not failed, it has not been asked.
            self.stop(f"{self.failures_in_a_row} calls in a row were not answered, the last one: {error}")
            return
        self._write(failure_record(call, self.options, "transport", str(error), error.attempts))

    def _write(self, record: Record) -> None:
        """Put a record into the journal, and only then count it."""
        self.journal.append(record)
        if record["failure"] is None:
            self.summary.num_answered += 1
        else:
            self.summary.failures[record["failure"]] += 1
            found = record.get("message") or record.get("reply") or "nothing"
            self.summary.first_failure = self.summary.first_failure or f"{record['failure']}: {found}"
        self.summary.num_retries += max(0, record["attempts"] - 1)
        self.bar.update()

    def _show(self) -> None:
        facts = {"failed": self.summary.failures.total()}
        self.bar.set_postfix({**facts, "cost": f"{self.spending.cost:.4g}"} if self.options.has_prices else facts)

    def _count_spending(self) -> None:
        self.summary.input_tokens = self.spending.input_tokens
        self.summary.output_tokens = self.spending.output_tokens
        self.summary.cost = self.spending.cost


def _shown(calls: list[Call]) -> dict[str, Candidate]:
    """Return the candidates that a group of calls shows, by their ids."""
    return {candidate.candidate_id: candidate for call in calls for candidate in call.candidates}


@contextmanager
def _interrupts_call(handler: Callable[[], None]) -> Iterator[None]:
    """Let the first Ctrl-C or termination call `handler`; the second one interrupts as usual."""
    loop = asyncio.get_running_loop()
    signals = (signal.SIGINT, signal.SIGTERM)

    def handle() -> None:
        for number in signals:
            loop.remove_signal_handler(number)
        handler()

    try:
        for number in signals:
            loop.add_signal_handler(number, handle)
    except (NotImplementedError, RuntimeError, ValueError):  # Windows, or not the main thread: as usual at once
        yield
        return
    try:
        yield
    finally:
        for number in signals:
            loop.remove_signal_handler(number)
