"""The annotator against a server of our own: what is asked, what is written down, what goes wrong."""

import asyncio
import base64
import io
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.annotation.judge_server import Answer, JudgeServer, Plan, judge_server
from tests.annotation.working_folders import write_working_folder
from tests.video_factory import read_numbers
from videorm_hf.annotation import AnnotationOptions, AnnotationSummary, VideoAnnotator, load_rubric
from videorm_hf.annotation import run as run_module
from videorm_hf.annotation.journal import JournalError, read_records
from videorm_hf.models.videorm.video_decoding_videorm import read_frames
from videorm_hf.videoprefer.items import Item
from videorm_hf.videoprefer.working_folder import read_items

KEY = "sk-secret-0123456789abcdef"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def items(tmp_path: Path) -> list[Item]:
    return write_working_folder(tmp_path)


def options(server: JudgeServer, **settings: Any) -> AnnotationOptions:
    fields: dict[str, Any] = {"model": "judge", "base_url": server.base_url, "num_workers": 0, "concurrency": 4}
    return AnnotationOptions(**{**fields, **settings})


def run(
    server: JudgeServer, items: list[Item], folder: Path, again: bool = False, **settings: Any
) -> AnnotationSummary:
    annotator = VideoAnnotator(options(server, **settings))
    return annotator.run(items, folder, folder / "ratings.jsonl", retry_failures=again, progress=False)


def records(folder: Path) -> list[dict[str, Any]]:
    return list(read_records(folder / "ratings.jsonl"))


# --- What is asked -------------------------------------------------------------------------------------------------


def test_one_call_for_each_video_and_dimension(items: list[Item], tmp_path: Path) -> None:
    with judge_server() as server:
        summary = run(server, items, tmp_path)
    assert (summary.num_calls, summary.num_answered, summary.num_left, summary.stopped) == (8, 8, 0, None)
    keys = Counter((row["item_id"], row["candidate_id"], row["dimension"]) for row in records(tmp_path))
    wanted = {(item.item_id, c.candidate_id) for item in items for c in item.candidates}
    assert keys == {(*video, dimension): 1 for video in wanted for dimension in ("prompt_following", "video_quality")}
    assert len(server.requests) == 8


def test_the_judge_sees_the_frames_that_videorm_sees(items: list[Item], tmp_path: Path) -> None:
    with judge_server() as server:
        run(server, items[:1], tmp_path, num_frames=5, frame_size=32, dimensions=("prompt_following",))
    for request in server.requests:
        frames = [Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))) for url in request.images]
        assert {(frame.format, frame.size) for frame in frames} == {("JPEG", (32, 24))}
        seen = read_numbers(np.stack([np.asarray(frame.resize((64, 48))) for frame in frames]))
        shown = [read_numbers(read_frames(tmp_path / f"videos/{name}.mp4", 5).frames) for name in "ab"]
        assert seen in shown
        assert request.body["temperature"] == 0.3 and request.body["model"] == "judge"


def test_the_prompt_is_asked_about_only_where_it_counts(items: list[Item], tmp_path: Path) -> None:
    with judge_server() as server:
        run(server, items[:1], tmp_path)
    asked = Counter(items[0].prompt in request.text for request in server.requests)
    assert asked == {True: 2, False: 2}
    assert all("quality" in r.text or items[0].prompt in r.text or "looks" in r.text for r in server.requests)


def test_every_record_says_who_was_asked_what(items: list[Item], tmp_path: Path) -> None:
    with judge_server() as server:
        run(server, items, tmp_path)
    for row in records(tmp_path):
        rubric = load_rubric(row["dimension"])
        assert row["judge"] == {"model": "judge", "rubric_version": "v1", "num_frames": 8, "temperature": 0.3}
        assert row["rubric_hash"] == rubric.hash
        assert row["reply"] == "Rating: 4\nRationale: Sharp and steady."
        assert (row["rating"], row["rationale"], row["failure"]) == (4, "Sharp and steady.", None)
        assert row["served_model"] == "judge-served" and row["usage"] == {"input_tokens": 1000, "output_tokens": 50}
    rated = list(read_items(tmp_path, num_candidates=None))
    assert [c.ratings for item in rated for c in item.candidates] == [{"prompt_following": 4, "video_quality": 4}] * 4
    assert rated[0].candidates[0].judge is not None and rated[0].candidates[0].judge.num_frames == 8


def test_json_is_asked_for_where_the_server_takes_it(items: list[Item], tmp_path: Path) -> None:
    with judge_server(lambda number, body: Answer('{"rationale": "Dull.", "rating": 2}')) as server:
        run(server, items, tmp_path)
    assert {row["response_format"] for row in records(tmp_path)} == {"json_schema"}
    assert {row["rating"] for row in records(tmp_path)} == {2}
    schema = server.requests[0].body["response_format"]["json_schema"]["schema"]
    assert schema["properties"]["rating"]["enum"] == [1, 2, 3, 4, 5]
    assert "JSON" in server.requests[0].text


@pytest.mark.parametrize("status", [400, 422])
def test_text_is_asked_for_where_it_does_not(items: list[Item], tmp_path: Path, status: int) -> None:
    def plan(number: int, body: dict[str, Any]) -> Answer:
        return Answer("unknown field", status=status) if "response_format" in body else Answer()

    with judge_server(plan) as server:
        summary = run(server, items, tmp_path, concurrency=1)
    assert summary.num_answered == 8
    assert ["response_format" in request.body for request in server.requests] == [True] + [False] * 8
    assert {row["response_format"] for row in records(tmp_path)} == {"text"}
    assert "Rating:" in server.requests[1].text


# --- What comes back -----------------------------------------------------------------------------------------------

NO_ANSWER = {
    "refusal": Answer("I'm sorry, I can't rate this video."),
    "no_rating": Answer("What a nice video."),
    "out_of_range": Answer("Rating: 9"),
    "ambiguous": Answer("Rating: 2 or 3"),
    "truncated": Answer("Rating: 4\nRationale: The fra", finish_reason="length"),
    "empty": Answer(""),
}


@pytest.mark.parametrize("reason", NO_ANSWER)
def test_a_reply_without_a_rating_is_a_failure_and_nothing_else(
    items: list[Item], tmp_path: Path, reason: str
) -> None:
    with judge_server(lambda number, body: NO_ANSWER[reason]) as server:
        summary = run(server, items, tmp_path)
        assert summary.failures == {reason: 8} and summary.num_answered == 0
        assert {row["failure"] for row in records(tmp_path)} == {reason}
        assert all(row["rating"] is None and row["rationale"] is None for row in records(tmp_path))
        assert all(row["reply"] == NO_ANSWER[reason].text for row in records(tmp_path))
        assert all(not c.ratings for item in read_items(tmp_path, num_candidates=None) for c in item.candidates)
        again = run(server, items, tmp_path)  # a failure is a record: it is not asked again unasked, nor forgotten
        assert (again.num_before, again.num_failed_before, again.num_answered) == (8, 8, 0)
        assert len(server.requests) == 8


def test_a_refusal_in_the_protocols_own_field(items: list[Item], tmp_path: Path) -> None:
    with judge_server(lambda number, body: Answer(None, refusal="I can't do that.")) as server:
        assert run(server, items, tmp_path).failures == {"refusal": 8}
    assert records(tmp_path)[0]["reply"] == "I can't do that."


def test_failures_are_asked_again_on_request_and_only_they(items: list[Item], tmp_path: Path) -> None:
    with judge_server(lambda number, body: Answer() if number % 2 else Answer("Hm.")) as server:
        summary = run(server, items, tmp_path)
        failed = {(r["item_id"], r["candidate_id"], r["dimension"]) for r in records(tmp_path) if r["failure"]}
        assert len(failed) == summary.failures["no_rating"] == 4
    with judge_server() as server:
        again = run(server, items, tmp_path, again=True)
    assert (again.num_before, again.num_failed_before, again.num_answered, len(server.requests)) == (4, 0, 4, 4)
    assert {(r["item_id"], r["candidate_id"], r["dimension"]) for r in records(tmp_path)[8:]} == failed
    ratings = [c.ratings for item in read_items(tmp_path, num_candidates=None) for c in item.candidates]
    assert all(len(rating) == 2 for rating in ratings)


def test_an_unreadable_video_is_a_failure_and_costs_nothing(items: list[Item], tmp_path: Path) -> None:
    (tmp_path / "videos" / "b.mp4").write_bytes(b"no video")
    with judge_server() as server:
        summary = run(server, items, tmp_path)
    assert summary.failures == {"unreadable_video": 4} and summary.num_answered == len(server.requests) == 4
    assert all("b.mp4" in row["message"] for row in records(tmp_path) if row["failure"])


def test_a_video_that_takes_too_long_is_unreadable(
    items: list[Item], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "_DECODE_SECONDS", 0.0)
    with judge_server() as server:
        summary = run(server, items[:1], tmp_path, num_workers=1, num_frames=2000)
    assert summary.failures == {"unreadable_video": 4} and not server.requests
    assert all("took longer than 0 s" in row["message"] for row in records(tmp_path))


def test_odd_text_can_be_written_and_read_back(items: list[Item], tmp_path: Path) -> None:
    body = json.dumps({"choices": [{"message": {"content": "Rating: 3\n\ud800\u2028é\0"}, "finish_reason": "stop"}]})
    with judge_server(lambda number, content: Answer(body=body.encode())) as server:
        summary = run(server, items, tmp_path)
    assert summary.num_answered == 8  # no usage, no model, a lone surrogate
    assert all(len(c.ratings) == 2 for item in read_items(tmp_path, num_candidates=None) for c in item.candidates)


# --- What goes wrong on the way ------------------------------------------------------------------------------------

FAULTS = {
    "500": Answer("oops", status=500),
    "429": Answer("slow down", status=429),
    "dropped": Answer(is_dropped=True),
    "cut": Answer(is_cut=True),
    "malformed": Answer(body=b'{"choices": [{"mess'),
    "page": Answer(body=b"<html>busy</html>", headers={"Content-Type": "text/html"}),
    "other": Answer(body=b'{"detail": "busy"}'),
    "no choices": Answer(body=b'{"choices": []}'),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_that_passes_is_retried_and_counted(items: list[Item], tmp_path: Path, fault: str) -> None:
    with judge_server(lambda number, body: Answer() if number else FAULTS[fault]) as server:
        summary = run(server, items[:1], tmp_path, concurrency=1)
    assert (summary.num_answered, summary.num_retries, len(server.requests)) == (4, 1, 5)
    assert sorted(row["attempts"] for row in records(tmp_path)) == [1, 1, 1, 2]
    assert server.requests[1].time - server.requests[0].time > 0.3  # it backs off
    assert server.requests[0].body == server.requests[1].body


@pytest.mark.parametrize("fault", ["500", "dropped", "malformed"])
def test_a_fault_that_stays_is_a_transport_failure(items: list[Item], tmp_path: Path, fault: str) -> None:
    with judge_server(lambda number, body: FAULTS[fault] if "count 0" in str(body) else Answer()) as server:
        summary = run(server, items, tmp_path, max_attempts=2, dimensions=("prompt_following",))
    assert summary.failures == {"transport": 2} and summary.num_answered == 2
    failed = [row for row in records(tmp_path) if row["failure"]]
    assert all(row["message"] and row["rating"] is None and "reply" not in row for row in failed)


@pytest.mark.parametrize("header", ["Retry-After", "retry-after-ms", "date"])
def test_retry_after_is_honoured_by_all_calls(items: list[Item], tmp_path: Path, header: str) -> None:
    def plan(number: int, body: dict[str, Any]) -> Answer:
        if number > 0:
            return Answer(delay=1.0 if number == 1 else 0.0)  # under way while the server asks to wait
        date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 3))  # cut to whole seconds
        value = {"Retry-After": "2", "retry-after-ms": "2000", "date": date}[header]
        return Answer("wait", 429, headers={"Retry-After" if header == "date" else header: value})

    with judge_server(plan) as server:
        run(server, items[:1], tmp_path, concurrency=2)
    times = [request.time - server.requests[0].time for request in server.requests]
    assert len(times) == 5
    assert len([moment for moment in times[1:] if moment < 1.9]) <= 1


def test_rate_limits_hold_after_a_wait(items: list[Item], tmp_path: Path) -> None:
    def plan(number: int, body: dict[str, Any]) -> Answer:
        return Answer("wait", 429, headers={"Retry-After": "2"}) if number == 0 else Answer()

    with judge_server(plan) as server:
        run(server, items, tmp_path, concurrency=8, requests_per_minute=200)
    times = [request.time - server.requests[0].time for request in server.requests]
    after = [moment for moment in times if moment > 1.9]
    assert len(times) == 9 and len(after) >= 7
    assert after[-1] - after[0] > 0.7 * 0.3 * (len(after) - 1)  # not all at the end of the wait


def test_a_call_that_takes_too_long_is_given_up(items: list[Item], tmp_path: Path) -> None:
    with judge_server(lambda number, body: Answer(delay=0.0 if number else 30.0)) as server:
        summary = run(server, items[:1], tmp_path, concurrency=1, timeout=2.0)
    assert summary.num_answered == 4 and summary.num_retries == 1


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_run_that_cannot_succeed_ends_with_its_first_call(items: list[Item], tmp_path: Path, status: int) -> None:
    with judge_server(lambda number, body: Answer("no", status=status)) as server:
        summary = run(server, items, tmp_path, concurrency=1)
    assert len(server.requests) == 1 and records(tmp_path) == []
    assert summary.stopped is not None and str(status) in summary.stopped and summary.num_left == 8


def test_a_server_that_is_gone_ends_the_run(tmp_path: Path) -> None:
    items = write_working_folder(tmp_path, num_items=8)
    with judge_server() as server:
        settings = options(server, max_attempts=1, max_failures_in_a_row=3)
    summary = VideoAnnotator(settings).run(items, tmp_path, tmp_path / "ratings.jsonl", progress=False)
    assert summary.stopped is not None and "in a row were not answered" in summary.stopped
    assert summary.failures == {"transport": 3} == Counter(row["failure"] for row in records(tmp_path))
    with judge_server() as server:  # it is back
        again = run(server, items, tmp_path, again=True)
    assert again.num_left == 0 and again.num_answered == 32


# --- Limits --------------------------------------------------------------------------------------------------------


def test_concurrency_is_used_and_bounded(tmp_path: Path) -> None:
    items = write_working_folder(tmp_path, num_items=4)
    with judge_server(lambda number, body: Answer(delay=0.2)) as server:
        run(server, items, tmp_path, concurrency=3)
    assert server.max_open == 3


@pytest.mark.parametrize(
    ("limits", "seconds_each"),
    [({"requests_per_minute": 300}, 0.2), ({"tokens_per_minute": 1050 * 300}, 0.2)],
)
def test_rate_limits_hold_for_every_attempt(
    items: list[Item], tmp_path: Path, limits: dict[str, float], seconds_each: float
) -> None:
    def plan(number: int, body: dict[str, Any]) -> Answer:
        return Answer("busy", status=500, headers={"Retry-After": "0"}) if number in (2, 3) else Answer()

    with judge_server(plan) as server:
        summary = run(server, items, tmp_path, concurrency=8, tokens_per_image=62, max_tokens=100, **limits)
    times = [request.time for request in server.requests]
    assert summary.num_answered == 8 and len(times) == 10
    least = {"requests_per_minute": 0.95, "tokens_per_minute": 0.5}[next(iter(limits))]
    assert times[-1] - times[0] > least * seconds_each * 9


def test_the_maximum_cost_is_not_exceeded_and_counts_earlier_runs(tmp_path: Path) -> None:
    items = write_working_folder(tmp_path, num_items=4)
    prices = {"price_per_million_input": 1000.0, "price_per_million_output": 1000.0}  # a reply costs 1.05
    with judge_server(lambda number, body: Answer(delay=0.1)) as server:
        # Foreseen at far less than it costs: one call teaches what the others will cost.
        first = run(server, items, tmp_path, max_cost=6.0, max_tokens=60, tokens_per_image=1, **prices)
        assert first.stopped is not None and "maximum cost of 6" in first.stopped
        assert first.cost == pytest.approx(1.05 * len(server.requests)) and 4 < first.cost <= 6
        assert first.num_left == 16 - len(server.requests) and len(records(tmp_path)) == len(server.requests)
        second = run(server, items, tmp_path, max_cost=6.0, max_tokens=60, **prices)
        assert second.cost == first.cost and second.num_answered == 0
        assert run(server, items, tmp_path, max_cost=99.0, **prices).num_left == 0


def test_a_forecast_asks_and_writes_nothing(items: list[Item], tmp_path: Path) -> None:
    with judge_server() as server:
        annotator = VideoAnnotator(options(server, price_per_million_input=2.0, price_per_million_output=10.0))
        forecast = annotator.forecast(items, tmp_path / "ratings.jsonl")
        assert not server.requests and not (tmp_path / "ratings.jsonl").exists()
        assert (forecast.num_calls, forecast.num_before, forecast.max_output_tokens) == (8, 0, 8 * 512)
        assert 8 * 8 * 500 < forecast.input_tokens < 8 * (8 * 500 + 600) and not forecast.is_measured
        assert forecast.max_cost == pytest.approx((2 * forecast.input_tokens + 10 * 8 * 512) / 1e6)
        run(server, items[:1], tmp_path)
        forecast = annotator.forecast(items, tmp_path / "ratings.jsonl")
        assert (forecast.num_calls, forecast.num_before) == (4, 4)
        assert forecast.is_measured and forecast.input_tokens == 4 * 1000


# --- Interruptions -------------------------------------------------------------------------------------------------


ANNOTATE = """
import sys
from pathlib import Path
from videorm_hf.annotation import AnnotationOptions, VideoAnnotator
from videorm_hf.videoprefer.working_folder import read_items

base_url, folder = sys.argv[1], Path(sys.argv[2])
options = AnnotationOptions(model="judge", base_url=base_url, num_workers=0, concurrency=4)
items = list(read_items(folder, (), num_candidates=None))
VideoAnnotator(options).run(items, folder, folder / "ratings.jsonl", progress=False)
"""


def kill_when_asked(server: JudgeServer, folder: Path, num_requests: int) -> None:
    """Start a run in a process of its own and kill it once the server was asked so often."""
    process = subprocess.Popen([sys.executable, "-c", ANNOTATE, server.base_url, str(folder)])
    try:
        end = time.monotonic() + 120
        while len(server.requests) < num_requests:
            assert process.poll() is None and time.monotonic() < end
            time.sleep(0.005)
    finally:
        process.kill()
        process.wait()


def keys_of(folder: Path) -> Counter[tuple[str, str, str]]:
    return Counter((row["item_id"], row["candidate_id"], row["dimension"]) for row in records(folder))


@pytest.mark.parametrize("kills", [(6,), pytest.param((6, 14, 15, 30), marks=pytest.mark.slow)])
def test_a_killed_run_goes_on_and_no_answer_is_asked_for_twice(tmp_path: Path, kills: tuple[int, ...]) -> None:
    items = write_working_folder(tmp_path, num_items=10)
    with judge_server(lambda number, body: Answer(delay=0.05)) as server:
        for num_requests in kills:
            before = keys_of(tmp_path)
            kill_when_asked(server, tmp_path, num_requests)
            assert before <= keys_of(tmp_path)
        assert len(keys_of(tmp_path)) >= kills[-1] - 4 * len(kills)
        summary = run(server, items, tmp_path)
    keys = keys_of(tmp_path)
    assert summary.num_left == 0 and len(keys) == 40 and set(keys.values()) == {1}
    # Asked more than once only what was under way at a kill, at most 4 calls each time.
    assert 40 <= len(server.requests) <= 40 + 4 * len(kills)


@contextmanager
def signals_after(server: JudgeServer, num_requests: int, *numbers: signal.Signals) -> Iterator[None]:
    """Send this process signals, 0.3 s apart, once the server was asked so often."""

    def send() -> None:
        while len(server.requests) < num_requests:
            time.sleep(0.005)
        for number in numbers:
            time.sleep(0.3)
            os.kill(os.getpid(), number)

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    yield
    thread.join(10)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows interrupts at once")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_writes_down_what_is_under_way(tmp_path: Path, number: signal.Signals) -> None:
    items = write_working_folder(tmp_path, num_items=10)
    plan = lambda number, body: Answer(delay=0.0 if number < 4 else 3.0)  # noqa: E731
    with judge_server(plan) as server, signals_after(server, 6, number):
        summary = run(server, items, tmp_path)
    assert summary.stopped == "interrupted" and 6 <= len(server.requests) <= 8
    assert len(server.requests) == summary.num_answered == len(records(tmp_path))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows interrupts at once")
def test_the_second_interrupt_ends_at_once(tmp_path: Path) -> None:
    items = write_working_folder(tmp_path, num_items=10)
    twice = (signal.SIGINT, signal.SIGINT)
    with judge_server(lambda number, body: Answer(delay=60.0)) as server, signals_after(server, 4, *twice):
        begin = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            run(server, items, tmp_path)
        assert time.monotonic() - begin < 30
    assert records(tmp_path) == []


def test_a_run_in_another_thread_works_too(items: list[Item], tmp_path: Path) -> None:
    with judge_server() as server:
        thread = threading.Thread(target=run, args=(server, items, tmp_path))
        thread.start()
        thread.join(30)
    assert len(records(tmp_path)) == 8


async def run_in_a_loop(server: JudgeServer, items: list[Item], folder: Path) -> AnnotationSummary:
    return run(server, items, folder)


@contextmanager
def loop_of_a_notebook() -> Iterator[asyncio.AbstractEventLoop]:
    """One that leaves interrupts to the code in the cell, unlike that of `asyncio.run`."""
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


def test_a_run_where_a_loop_runs_already(items: list[Item], tmp_path: Path) -> None:
    with judge_server() as server, loop_of_a_notebook() as loop:
        summary = loop.run_until_complete(run_in_a_loop(server, items, tmp_path))
    assert summary.num_answered == len(records(tmp_path)) == 8


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no such signal")
def test_interrupts_where_a_loop_runs_already(tmp_path: Path) -> None:
    items = write_working_folder(tmp_path, num_items=10)
    plan = lambda number, body: Answer(delay=0.0 if number < 4 else 3.0)  # noqa: E731
    with judge_server(plan) as server, loop_of_a_notebook() as loop, signals_after(server, 6, signal.SIGINT):
        summary = loop.run_until_complete(run_in_a_loop(server, items, tmp_path))
    assert summary.stopped == "interrupted" and 6 <= len(server.requests) <= 8
    assert len(server.requests) == summary.num_answered == len(records(tmp_path))

    twice, before = (signal.SIGINT, signal.SIGINT), records(tmp_path)
    slow = lambda number, body: Answer(delay=60.0)  # noqa: E731
    with judge_server(slow) as server, loop_of_a_notebook() as loop, signals_after(server, 4, *twice):
        begin = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(run_in_a_loop(server, items, tmp_path))
        assert time.monotonic() - begin < 30
    assert records(tmp_path) == before


# --- One journal, one judge ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change", [{"model": "other"}, {"num_frames": 4}, {"temperature": 0.7}, {"frame_size": 64}], ids=str
)
def test_another_judge_cannot_continue_a_journal(items: list[Item], tmp_path: Path, change: dict[str, Any]) -> None:
    with judge_server() as server:
        run(server, items[:1], tmp_path)
        before = (tmp_path / "ratings.jsonl").read_bytes()
        with pytest.raises(JournalError, match="was begun otherwise"):
            run(server, items, tmp_path, **change)
        assert len(server.requests) == 4 and (tmp_path / "ratings.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    ("judge", "message"), [(None, "without a judge"), ({"model": "human"}, "was begun otherwise")]
)
def test_no_judge_continues_what_people_began(
    items: list[Item], tmp_path: Path, judge: dict[str, str] | None, message: str
) -> None:
    key = {"item_id": items[0].item_id, "candidate_id": "c0", "dimension": "video_quality"}
    record = {**key, "rating": 4} | ({} if judge is None else {"judge": judge})
    (tmp_path / "ratings.jsonl").write_text(json.dumps(record) + "\n")
    with judge_server() as server, pytest.raises(JournalError, match=f"{message}.*[Nn]ame another output"):
        run(server, items, tmp_path)
    assert records(tmp_path) == [record] and not server.requests


def test_other_words_or_another_prompt_cannot_continue_a_journal(items: list[Item], tmp_path: Path) -> None:
    with judge_server() as server:
        run(server, items, tmp_path)
        rubrics = [replace(load_rubric(name), text="Rate it.") for name in ("prompt_following", "video_quality")]
        with pytest.raises(JournalError, match="rubric_hash"):
            VideoAnnotator(options(server), rubrics).run(items, tmp_path, tmp_path / "ratings.jsonl")
        with pytest.raises(JournalError, match="prompt was bars that count 0, is another"):
            run(server, [replace(items[0], prompt="another")], tmp_path)


def test_a_rubric_of_ones_own(items: list[Item], tmp_path: Path) -> None:
    rubric = replace(load_rubric("video_quality"), dimension="humour", version="mine", text="Is {prompt} funny?")
    with judge_server() as server:
        VideoAnnotator(options(server), [rubric]).run(items, tmp_path, tmp_path / "ratings.jsonl", progress=False)
    assert "Is bars that count" in server.requests[0].text
    assert {(row["dimension"], row["judge"]["rubric_version"]) for row in records(tmp_path)} == {("humour", "mine")}


# --- Pairwise ------------------------------------------------------------------------------------------------------


def test_two_videos_are_compared_in_both_orders(tmp_path: Path) -> None:
    items = write_working_folder(tmp_path, num_items=1, num_candidates=3)
    with judge_server(lambda number, body: Answer('{"rationale": "Sharper.", "verdict": "A"}')) as server:
        summary = run(server, items, tmp_path, mode="pairwise", dimensions=("video_quality",), num_frames=2)
    assert summary.num_answered == 6
    asked = Counter((row["first_id"], row["second_id"]) for row in records(tmp_path))
    assert asked == {(a, b): 1 for a in ("c0", "c1", "c2") for b in ("c0", "c1", "c2") if a != b}
    assert all(row["kind"] == "pairwise" and row["verdict"] == "first" for row in records(tmp_path))
    of_order = {tuple(request.images) for request in server.requests}
    assert all(len(images) == 4 for images in of_order) and all(
        images[2:] + images[:2] in of_order for images in of_order
    )


# --- Keys ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("plan", ["refused", "echoed", "answered", "failed"])
def test_the_key_is_sent_and_appears_nowhere_else(
    items: list[Item],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    plan: str,
) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    plans: dict[str, Plan] = {
        "refused": lambda number, body: Answer(f"Incorrect API key provided: {KEY}.", status=401),
        "echoed": lambda number, body: Answer(f"Rating: 4\nRationale: Authorization: Bearer {KEY}"),
        "answered": lambda number, body: Answer(),
        "failed": lambda number, body: Answer(f"cannot serve {KEY}", status=500),
    }
    with caplog.at_level(logging.DEBUG), judge_server(plans[plan]) as server:
        summary = run(server, items[:1], tmp_path, api_key_env="MY_KEY", max_attempts=2, max_failures_in_a_row=1)
    assert {request.headers["authorization"] for request in server.requests} == {f"Bearer {KEY}"}
    files = [path.read_text(errors="replace") for path in tmp_path.rglob("*.jsonl*")]
    captured = capfd.readouterr()
    for text in (*files, caplog.text, captured.out, captured.err, repr(summary), repr(vars(summary))):
        assert KEY not in text


def test_a_placeholder_for_a_key_changes_no_reply(
    items: list[Item], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", "4")
    with judge_server() as server:
        assert run(server, items[:1], tmp_path, api_key_env="MY_KEY").num_answered == 4
    assert {row["reply"] for row in records(tmp_path)} == {"Rating: 4\nRationale: Sharp and steady."}


def test_no_exception_holds_the_key(items: list[Item], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError) as refused:
        AnnotationOptions(model="judge", base_url=f"http://user:{KEY}@localhost:1/v1")
    assert KEY not in str(refused.value)
    with pytest.raises(ValueError) as refused:
        AnnotationOptions(model="judge", base_url=f"http://localhost:1/v1?key={KEY}")
    assert KEY not in str(refused.value)
    with pytest.raises(ValueError, match="environment variable OPENAI_API_KEY"):
        VideoAnnotator(AnnotationOptions(model="judge", num_workers=0)).run(items, tmp_path, tmp_path / "r.jsonl")


# --- Settings ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": " "}, "model must be"),
        ({"mode": "triple"}, "mode must be one of pointwise, pairwise"),
        ({"response_format": "xml"}, "response_format must be one of"),
        ({"num_frames": 0}, "num_frames must be at least 1, got 0"),
        ({"timeout": 0.0}, "timeout must be above 0"),
        ({"temperature": -1.0}, "temperature must be at least 0"),
        ({"max_cost": 1.0}, "needs price_per_million_input"),
        ({"dimensions": ()}, "dimensions must be one or more"),
        ({"base_url": "localhost:8000"}, "base_url must be like"),
    ],
)
def test_bad_settings_are_refused_at_once(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AnnotationOptions(**{"model": "judge", **settings})


def test_a_rubric_that_does_not_exist(items: list[Item]) -> None:
    with pytest.raises(ValueError, match="no rubric humour_v1; there are prompt_following_v1, video_quality_v1.$"):
        VideoAnnotator(AnnotationOptions(model="judge", dimensions=("humour",)))
    with pytest.raises(
        ValueError, match="pairwise_humour_v1; there are pairwise_prompt_following_v1, pairwise_video_"
    ):
        VideoAnnotator(AnnotationOptions(model="judge", dimensions=("humour",), mode="pairwise"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dimensions": ("prompt_following",), "model": "other"}, "model.*judge.*other"),
        ({"dimensions": ("prompt_following",), "temperature": 0.9}, "temperature"),
        ({"dimensions": ("video_quality",), "mode": "pairwise"}, "mode was pointwise, is pairwise"),
    ],
    ids=["another judge", "another temperature", "verdicts"],
)
def test_what_one_judge_began_no_other_continues_with_another_question(
    items: list[Item], tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    with judge_server() as server:
        run(server, items[:1], tmp_path, dimensions=("video_quality",))
        before = (tmp_path / "ratings.jsonl").read_bytes()
        with pytest.raises(JournalError, match=message):
            run(server, items, tmp_path, **change)
    assert (tmp_path / "ratings.jsonl").read_bytes() == before


def test_peoples_ratings_in_another_dimension_are_not_continued(items: list[Item], tmp_path: Path) -> None:
    record = {"item_id": 7, "candidate_id": 1, "dimension": "overall", "rating": 4}
    (tmp_path / "ratings.jsonl").write_text(json.dumps(record) + "\n")
    with judge_server() as server, pytest.raises(JournalError, match="without a judge"):
        run(server, items, tmp_path)


def test_a_model_that_knows_only_the_newer_name_of_the_length_is_asked_by_it(
    items: list[Item], tmp_path: Path
) -> None:
    def plan(number: int, body: dict[str, Any]) -> Answer:
        if "max_tokens" in body:
            message = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
            return Answer(status=400, body=json.dumps({"error": {"message": message}}).encode())
        return Answer()

    with judge_server(plan) as server:
        summary = run(server, items, tmp_path, concurrency=1)
    assert summary.num_answered == 8 and summary.stopped is None
    assert [request.body.get("max_completion_tokens") for request in server.requests] == [None] + [512] * 8
    assert {row["response_format"] for row in records(tmp_path)} == {"json_schema"}
