"""Decoding in worker processes ahead of the model; a decoder that dies takes one video with it and no more.

Every process has a pipe of its own and a thread that waits for it. A pool whose workers share one pipe or queue
(multiprocessing, concurrent.futures, pebble) can break, or wait for ever, when one of them is killed.
"""

import itertools
import multiprocessing
import os
import signal
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import Any, NamedTuple

import numpy as np
import torch

from videorm_hf.models.videorm.video_decoding_videorm import VideoDecodingError

Decoded = np.ndarray | VideoDecodingError
Decode = Callable[[Any], np.ndarray]

_MAX_DEFAULT_WORKERS = 8


class _Mistake(NamedTuple):
    """An error of the program in a decoding process."""

    trace: str


def default_num_workers() -> int:
    """Return the number of decoding processes that leaves the model a core."""
    return max(1, min(_MAX_DEFAULT_WORKERS, (os.cpu_count() or 2) - 1))


def decode_ahead(
    decode: Decode, videos: Iterable[Any], num_workers: int, timeout: float | None = None, ahead: int = 16
) -> Iterator[Decoded]:
    """Decode videos in their order, up to `ahead` of them before they are asked for.

    Args:
        decode (`Callable`): Turns a video into an array; must be picklable unless `num_workers` is 0.
        videos (`Iterable`): What `decode` is called with.
        num_workers (`int`): Number of processes; 0 decodes in this one, without protection against crashes.
        timeout (`float`, *optional*): Seconds that one video may take in a worker process.
        ahead (`int`, defaults to 16): Bound on the videos in work or waiting to be taken.

    Returns:
        `Iterator`: for each video its array, or the [`VideoDecodingError`] that says why there is none. What no
        video's content can cause is raised; from a process as a `RuntimeError` with the process's own traceback.
    """
    if num_workers == 0:
        yield from (_attempt(decode, video) for video in videos)
        return
    workers = [_Worker(decode, timeout) for _ in range(num_workers)]
    free: SimpleQueue[_Worker] = SimpleQueue()
    for worker in workers:
        free.put(worker)

    def run(video: Any) -> Decoded:
        worker = free.get()
        try:
            return worker.run(video)
        finally:
            free.put(worker)

    threads = ThreadPoolExecutor(num_workers, thread_name_prefix="decode")
    pending: deque[Future[Decoded]] = deque()
    source = iter(videos)
    try:
        for video in itertools.islice(source, max(ahead, num_workers)):
            pending.append(threads.submit(run, video))
        while pending:
            result = pending.popleft().result()
            pending.extend(threads.submit(run, video) for video in itertools.islice(source, 1))
            yield result
    finally:
        threads.shutdown(wait=False, cancel_futures=True)
        for worker in workers:
            worker.stop()
        threads.shutdown(wait=True)
        for worker in workers:
            worker.close()


def _attempt(decode: Decode, video: Any) -> Decoded:
    """Decode one video; what its content can cause is returned, a mistake in the program is raised."""
    try:
        return decode(video)
    except VideoDecodingError as error:
        return error
    except (ValueError, OSError, RuntimeError, MemoryError) as error:
        return VideoDecodingError("decode_error", f"{type(error).__name__}: {error}")


class _Worker:
    """One decoding process, started when first needed and again after a crash.

    Args:
        decode (`Callable`): Runs in the process.
        timeout (`float`, *optional*): Seconds one call may take before the process is killed.
    """

    def __init__(self, decode: Decode, timeout: float | None) -> None:
        # A fork server has imported torch once; where there is none (Windows) every process imports it.
        methods = multiprocessing.get_all_start_methods()
        self.context: Any = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
        if "forkserver" in methods:
            self.context.set_forkserver_preload(["__main__", "videorm_hf"])
        self.decode = decode
        self.timeout = timeout
        self.process: Any = None
        self.is_stopped = False

    def run(self, video: Any) -> Decoded:
        """Decode one video in the process and wait for the result."""
        if self.process is None:
            self._start()
        try:
            self.connection.send(video)
            if not self.connection.poll(self.timeout):
                self._kill()
                return VideoDecodingError("timeout", f"decoding took longer than {self.timeout:g} s")
            result = self.connection.recv()
        except (EOFError, OSError):
            code = self._kill()
            return VideoDecodingError("decoder_crashed", f"the decoding process died with exit code {code}")
        if isinstance(result, _Mistake):
            raise RuntimeError(f"Decoding failed, and not by the video's fault:\n{result.trace}")
        return result

    def stop(self) -> None:
        """Interrupt the process, which may be at work, for good."""
        self.is_stopped = True
        process = self.process  # its thread may drop it meanwhile
        if process is not None:
            process.terminate()

    def close(self) -> None:
        """Reap the process once its thread has ended."""
        if self.process is not None:
            self._kill()

    def _start(self) -> None:
        if self.is_stopped:
            raise RuntimeError("the decoding pool is closed")
        self.connection, other = self.context.Pipe()
        process = self.context.Process(target=_serve, args=(other, self.decode), daemon=True)
        try:
            process.start()
            self.process = process
            other.close()
            self.connection.recv()
        except (EOFError, OSError) as error:
            self.process = None
            raise RuntimeError(
                "A decoding process ended before its first video. A script that scores must do so under "
                '`if __name__ == "__main__":`; num_workers=0 decodes without processes.'
            ) from error

    def _kill(self) -> int | None:
        self.connection.close()
        self.process.join(1)
        if self.process.exitcode is None:
            self.process.kill()
            self.process.join()
        code, self.process = self.process.exitcode, None
        return code


def _serve(connection: Connection, decode: Decode) -> None:
    """Decode what comes in, until the other end closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when to stop
    torch.set_num_threads(1)
    connection.send("ready")
    while True:
        try:
            video = connection.recv()
        except EOFError:
            return
        try:
            result: Decoded | _Mistake = _attempt(decode, video)
        except Exception:  # noqa: BLE001 (the parent raises it)
            result = _Mistake(traceback.format_exc())
        connection.send(result)
