"""A judge on one's own machine: `transformers serve` on loopback, with a model whose replies are noise."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.annotation.tiny_judge import save_tiny_judge
from videorm_hf.annotation import AnnotationOptions, Rating, VideoAnnotator, parse_rating
from videorm_hf.annotation.journal import read_records
from videorm_hf.videoprefer.working_folder import read_items

pytestmark = pytest.mark.slow


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """The folder of a tiny judge and the address of a server that runs it."""
    pytest.importorskip("fastapi", reason="needs transformers' serving extra")
    pytest.importorskip("uvicorn", reason="needs transformers' serving extra")
    model = save_tiny_judge(tmp_path / "tiny-judge")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", str(model), "--host", "127.0.0.1"]
    log = tmp_path / "server.log"
    with log.open("w") as output:
        server = subprocess.Popen(
            [*command, "--port", str(port), "--device", "cpu"],
            stdout=output,
            stderr=subprocess.STDOUT,
            env=os.environ | {"HF_HUB_OFFLINE": "1"},
        )
        try:
            end = time.monotonic() + 180
            while not is_healthy(port):
                assert server.poll() is None and time.monotonic() < end, log.read_text()[-3000:]
                time.sleep(0.5)
            yield model, f"http://127.0.0.1:{port}/v1"
        finally:
            server.terminate()
            server.wait(30)


def is_healthy(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2) as response:
            return response.status == 200
    except (urllib.error.URLError, OSError):
        return False


def test_real_clips_through_a_real_server(served: tuple[Path, str], real_clips: list[Path], tmp_path: Path) -> None:
    model, base_url = served
    folder = tmp_path / "videoprefer"
    (folder / "videos").mkdir(parents=True)
    for clip in real_clips:
        shutil.copy(clip, folder / "videos" / clip.name)
    candidates = [{"candidate_id": c.stem, "video": f"videos/{c.name}", "model": "camera"} for c in real_clips]
    item = {"item_id": "0", "prompt": "people ride bikes", "prompt_source": "test", "candidates": candidates}
    (folder / "items.jsonl").write_text(json.dumps(item) + "\n")
    options = AnnotationOptions(
        model=str(model), base_url=base_url, concurrency=2, num_frames=2, max_tokens=24, num_workers=0, frame_size=128
    )
    items = list(read_items(folder, ()))
    summary = VideoAnnotator(options).run(items, folder, folder / "ratings.jsonl", progress=False)
    records = list(read_records(folder / "ratings.jsonl"))
    assert summary.stopped is None and summary.num_left == 0 and len(records) == 2 * len(real_clips) == 8
    for record in records:
        # Noise: a literal rating or a failure of the reply, but an answer that came over the wire.
        assert record["failure"] != "transport" and isinstance(record["reply"], str)
        assert record["usage"]["output_tokens"] >= 1
        result = parse_rating(record["reply"], record["finish_reason"])
        assert (result.value if isinstance(result, Rating) else None) == record["rating"]
        assert (None if isinstance(result, Rating) else result) == record["failure"]
    again = VideoAnnotator(options).run(items, folder, folder / "ratings.jsonl", progress=False)
    assert again.num_before == 8 and again.num_answered == 0
