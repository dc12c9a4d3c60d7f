"""One video that crashes, hangs or fails costs one video: real processes, really killed."""

import os
import signal
import time

import numpy as np
import pytest

from videorm_hf.models.videorm.video_decoding_videorm import VideoDecodingError
from videorm_hf.scoring.decode_pool import decode_ahead


def decode(video: str) -> np.ndarray:
    """Do what the name of the video says."""
    if video == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if video == "aborted":
        os._exit(3)
    if video == "slow":
        time.sleep(60)
    if video == "empty":
        raise VideoDecodingError("empty", "no data")
    if video == "odd":
        raise ValueError("a clip must have 4 dimensions")
    if video == "mistake":
        raise AttributeError("'Processor' object has no attribute 'sise'")
    return np.full(100_000, int(video))


def outcomes(results: object) -> list[int | str]:
    return [r.reason if isinstance(r, VideoDecodingError) else int(r[0]) for r in results]  # type: ignore[attr-defined]


def test_crashes_and_timeouts_cost_one_video_each() -> None:
    videos = ["0", "killed", "2", "aborted", "killed", "5", "slow", "7", "empty", "odd", "10", "killed"]
    results = list(decode_ahead(decode, videos, num_workers=2, timeout=6, ahead=4))
    assert outcomes(results) == [
        *(0, "decoder_crashed", 2, "decoder_crashed", "decoder_crashed", 5, "timeout", 7),
        *("empty", "decode_error", 10, "decoder_crashed"),
    ]
    assert "exit code -9" in str(results[1]) and "exit code 3" in str(results[3])


def test_leaving_early_ends_the_processes() -> None:
    results = decode_ahead(decode, map(str, range(1000)), num_workers=1, ahead=2)
    assert next(results)[0] == 0  # type: ignore[index]
    start = time.monotonic()
    results.close()  # type: ignore[attr-defined]
    assert time.monotonic() - start < 30


def test_decoding_in_this_process() -> None:
    assert outcomes(decode_ahead(decode, ["1", "empty", "odd"], num_workers=0)) == [1, "empty", "decode_error"]


@pytest.mark.parametrize(("num_workers", "error"), [(0, AttributeError), (1, RuntimeError)])
def test_a_mistake_of_the_program_is_raised(num_workers: int, error: type[Exception]) -> None:
    with pytest.raises(error, match="no attribute 'sise'"):
        list(decode_ahead(decode, ["1", "mistake", "2"], num_workers))


class FailsToArrive:
    """Cannot be rebuilt in another process, as a class of an unguarded script cannot."""

    def __reduce__(self) -> tuple[type, tuple[str]]:
        return int, ("not a number",)

    def __call__(self, video: str) -> np.ndarray:
        return np.zeros(1)


def test_a_process_that_cannot_start_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="__main__"):
        list(decode_ahead(FailsToArrive(), ["1"], num_workers=1))
