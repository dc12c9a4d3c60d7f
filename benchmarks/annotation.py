"""How the annotator holds up: rate against a server with fixed latency, memory over the number of calls, kills.

(a) `rate`: calls a second at concurrency 32 over the ideal rate, concurrency / latency, from start to end of a run.
(b) `memory`: peak of a process above what it held, the items among it, when the run began, noted after 100, 250, ...
    calls of one run. It rises until every concurrent call has had its frames and its request in memory and the
    allocator keeps pages for them, and is called flat if it hardly rises after that: `later_growth_bytes_per_call` is
    its growth a call from the 1,000th call on. What is really kept is `heap_kept_bytes_per_call` and
    `python_blocks_kept`, the C heap and the Python objects in use after the run above what they were before it.
(c) `kills`: a run killed (SIGKILL) at random moments and started again. `paid_twice` counts requests for calls whose
    record was in the journal when the run that sent them began; `records_lost` counts records that were in the journal
    at a kill and are not at the end. A reply that the server has sent when the process is killed and that is not yet a
    record is lost with any client: it is asked again, and counted as `sent_but_not_recorded_at_kills`.

The server is a process of its own on the loopback device; every video is one small clip.

    python benchmarks/annotation.py
"""

import argparse
import asyncio
import ctypes
import gc
import json
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from machine import describe_machine

from videorm_hf.annotation import AnnotationOptions, VideoAnnotator
from videorm_hf.annotation.journal import read_records
from videorm_hf.videoprefer.items import Candidate, Item

CONCURRENCY = 32
CLIP = "clip.mp4"
fork: Any = multiprocessing.get_context("fork")


def main() -> None:
    """Take all figures, print them, and write them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="few calls, to see that it runs; no figures to quote")
    parser.add_argument("--seed", type=int, default=0, help="of the moments of the kills")
    parser.add_argument("--memory-calls", type=int, default=10_000, help="calls of the run whose memory is followed")
    parser.add_argument("--only", choices=("rate", "memory", "kills"), help="take one, keep the others of the output")
    parser.add_argument("--output", type=Path, help="by default results/annotation.json, and nothing with --smoke")
    arguments = parser.parse_args()
    smoke = arguments.smoke
    output = arguments.output or Path(__file__).parent / "results" / "annotation.json"
    with tempfile.TemporaryDirectory() as folder:
        write_clip(Path(folder) / CLIP)
        takers = {
            "rate": lambda: rate(Path(folder), num_calls=64 if smoke else 1280, latency=3.0),
            "memory": lambda: memory(Path(folder), 100 if smoke else arguments.memory_calls),
            "kills": lambda: kills(Path(folder), 2 if smoke else 20, 200 if smoke else 3000, arguments.seed),
        }
        results = json.loads(output.read_text(encoding="utf-8")) if arguments.only else {}
        results["machine"] = machine()
        results["settings"] = {"concurrency": CONCURRENCY, "num_frames": 8, "frame": "128x128", "smoke": smoke}
        results |= {name: take() for name, take in takers.items() if arguments.only in (None, name)}
    print(json.dumps(results, indent=2))
    if arguments.output or not smoke:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


def rate(folder: Path, num_calls: int, latency: float) -> dict[str, float]:
    """Compare the time of a run with num_calls / concurrency * latency."""
    items = make_items(num_calls)
    with judge(latency) as url:
        start, cpu_start = time.perf_counter(), time.process_time()
        annotate(url, folder, "rate.jsonl", items)
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu_start
    ideal = num_calls / CONCURRENCY * latency
    return {
        "num_calls": num_calls,
        "latency_s": latency,
        "seconds": round(seconds, 2),
        "calls_per_s": round(num_calls / seconds, 2),
        "ideal_calls_per_s": round(CONCURRENCY / latency, 2),
        "share_of_ideal": round(ideal / seconds, 4),
        "cpu_ms_per_call": round(1000 * cpu / num_calls, 2),
        "other_load": round(os.getloadavg()[0], 1),  # processes that wanted the machine's cores meanwhile
    }


def memory(folder: Path, num_calls: int) -> dict[str, Any]:
    """Follow a run in a fresh process, after one that pays for what is loaded once."""
    with judge(latency=0.02) as url:
        results = fork.SimpleQueue()
        process = fork.Process(target=measure_memory, args=(url, folder, num_calls, results))
        process.start()
        measured = results.get()
        process.join()
    return measured


def measure_memory(url: str, folder: Path, num_calls: int, results: Any) -> None:
    """Measure how the peak of this process grows during a run."""
    annotate(url, folder, "warm-up.jsonl", make_items(64))
    items = make_items(num_calls)
    marks = [mark for mark in (100, 250, 500, 1000, 2500, 5000) if mark < num_calls] + [num_calls]
    journal = folder / "memory.jsonl"
    journal.touch()
    heap, blocks = in_use()
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak starts anew
    before = memory_of("VmRSS")
    peaks: dict[int, float] = {}
    follower = threading.Thread(target=follow, args=(journal, marks, peaks), daemon=True)
    follower.start()
    annotate(url, folder, journal.name, items)
    follower.join()
    heap_after, blocks_after = in_use()
    early = max((mark for mark in marks if mark <= 1000), default=marks[0])
    later = (peaks[num_calls] - peaks[early]) * 2**20 / max(1, num_calls - early)
    results.put(
        {
            "num_calls": num_calls,
            "before_mb": before,
            "peak_above_start_mb": {str(mark): round(peak - before, 1) for mark, peak in peaks.items()},
            "later_growth_bytes_per_call": round(later),
            "heap_kept_bytes_per_call": round((heap_after - heap) / num_calls),
            "python_blocks_kept": blocks_after - blocks,
        }
    )


def follow(journal: Path, marks: list[int], peaks: dict[int, float]) -> None:
    """Note the peak of this process each time that so many records are in the journal."""
    num_records = 0
    with journal.open("rb") as file:
        for mark in marks:
            while num_records < mark:
                time.sleep(0.02)
                num_records += file.read().count(b"\n")
            peaks[mark] = memory_of("VmHWM")


class HeapFacts(ctypes.Structure):
    """`struct mallinfo2` of glibc."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    ]


def in_use() -> tuple[int, int]:
    """Return the bytes in use in the C heap (glibc 2.33 or later) and the blocks that Python objects take."""
    gc.collect()
    library = ctypes.CDLL("libc.so.6")
    library.mallinfo2.restype = HeapFacts
    facts = library.mallinfo2()
    return facts.uordblks + facts.hblkhd, sys.getallocatedblocks()


def memory_of(name: str) -> float:
    """Read a line of this process's status, in megabytes."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return round(int(next(line for line in lines if line.startswith(name)).split()[1]) / 1024, 1)


def kills(folder: Path, num_kills: int, num_calls: int, seed: int) -> dict[str, Any]:
    """Kill a run at random moments, start it again each time, and compare the server's log with the journal."""
    moments = random.Random(seed)
    journal = folder / "kills.jsonl"
    items = make_items(num_calls)
    seen: Counter[str] = Counter()
    records_at_kills = []
    paid_twice = in_flight = sent = 0
    with judge(latency=0.2) as url:
        for number in range(num_kills + 1):
            before = keys(journal)
            offset = len(log(url))
            process = fork.Process(target=annotate, args=(url, folder, journal.name, items))
            process.start()
            if number < num_kills:
                time.sleep(moments.uniform(0.0, 5.0))
                os.kill(process.pid, signal.SIGKILL)
                killed_at = time.time()
            process.join()
            time.sleep(0.5)  # what was under way at the server ends
            entries = log(url)[offset:]
            paid_twice += sum(entry["key"] in before for entry in entries)
            after = keys(journal)
            seen |= after
            if number < num_kills:
                records_at_kills.append(len(after))
                in_flight += len(entries) - sum(entry["key"] in after for entry in entries)
                sent += sum(
                    entry["answered"] is not None and entry["answered"] < killed_at and entry["key"] not in after
                    for entry in entries
                )
        final, num_requests = keys(journal), len(log(url))
    return {
        "kills": num_kills,
        "records_at_kills": records_at_kills,
        "calls": num_calls,
        "requests": num_requests,
        "records": final.total(),
        "paid_twice": paid_twice,
        "records_lost": len(seen.keys() - final.keys()),
        "records_double": sum(count - 1 for count in final.values()),
        "calls_without_record": num_calls - len(final),
        "under_way_at_kills": in_flight,
        "sent_but_not_recorded_at_kills": sent,
    }


def keys(journal: Path) -> Counter[str]:
    """Count the records of each call."""
    return Counter(record["prompt"] for record in read_records(journal))


def make_items(num_calls: int) -> list[Item]:
    """Return prompts with one video each."""
    return [Item(f"{n}", f"call {n}.", "benchmark", (Candidate("0", CLIP, "none"),)) for n in range(num_calls)]


def annotate(url: str, folder: Path, journal: str, items: list[Item]) -> None:
    """Ask about each video in one dimension."""
    options = AnnotationOptions(
        model="judge",
        base_url=url,
        dimensions=("prompt_following",),
        concurrency=CONCURRENCY,
        num_workers=0,
        response_format="text",
    )
    summary = VideoAnnotator(options).run(items, folder, folder / journal, progress=False)
    if summary.num_left or summary.failures:
        raise SystemExit(f"not every call was answered: {summary}")


# --- The server ----------------------------------------------------------------------------------------------------


@contextmanager
def judge(latency: float) -> Iterator[str]:
    """Run a server that answers every request after `latency` seconds; its log is at `/log`."""
    port = fork.SimpleQueue()
    process = fork.Process(target=lambda: asyncio.run(serve(latency, port)))
    process.start()
    try:
        yield f"http://127.0.0.1:{port.get()}/v1"
    finally:
        process.terminate()
        process.join()


async def serve(latency: float, port: Any) -> None:
    """Serve until the process ends."""
    entries: list[dict[str, Any]] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = next(
                    (int(line[15:]) for line in head.splitlines() if line[:15].lower() == b"content-length:"), 0
                )
                body = await reader.readexactly(length)
                if head.startswith(b"GET"):
                    await send(writer, json.dumps(entries).encode())
                    continue
                place = body.index(b"call ")
                entry = {"key": body[place : body.index(b".", place) + 1].decode(), "answered": None}
                entries.append(entry)
                await asyncio.sleep(latency)
                await send(writer, COMPLETION)
                entry["answered"] = time.time()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client is gone
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, limit=2**22, backlog=256)
    port.put(server.sockets[0].getsockname()[1])
    await server.serve_forever()


async def send(writer: asyncio.StreamWriter, content: bytes) -> None:
    """Send one JSON response and wait until the system has taken it."""
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    writer.write(head.encode() + content)
    await writer.drain()


COMPLETION = json.dumps(
    {
        "id": "1",
        "object": "chat.completion",
        "model": "judge",
        "choices": [
            {
                "index": 0,
                "finish_reason": "stop",
                "message": {
                    "role": "assistant",
                    "content": "Rating: 4\nRationale: " + "It is sharp and steady. " * 10,
                },
            }
        ],
        "usage": {"prompt_tokens": 1000, "completion_tokens": 60},
    }
).encode()


def log(url: str) -> list[dict[str, Any]]:
    """Read what the server was asked so far."""
    with urllib.request.urlopen(url.replace("/v1", "/log")) as response:
        return json.load(response)


def write_clip(path: Path) -> None:
    """Write a clip of 16 frames whose pixels are noise, so that its frames are no smaller than real ones."""
    pixels = np.random.default_rng(0).integers(0, 256, (16, 128, 128, 3), dtype=np.uint8)
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=Fraction(8))
        stream.width = stream.height = 128
        stream.pix_fmt = "yuv420p"
        for frame in pixels:
            output.mux(stream.encode(av.VideoFrame.from_ndarray(frame)))
        output.mux(stream.encode())


def machine() -> dict[str, Any]:
    """Return what the figures depend on."""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count()
    return describe_machine("openai", "av", cores=cores)


if __name__ == "__main__":
    main()
