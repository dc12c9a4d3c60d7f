"""The judge over chat completions: annotation runs against it end to end and gets the judge's own ratings."""

import base64
import io
import json
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from videorm_hf.annotation import AnnotationOptions, VideoAnnotator
from videorm_hf.annotation.messages import build_messages, response_schema
from videorm_hf.annotation.rubrics import load_rubric
from videorm_hf.cli.videoprefer import app
from videorm_hf.miniature.clips import render
from videorm_hf.miniature.faults import render_with_fault
from videorm_hf.miniature.judge import judge
from videorm_hf.miniature.judge_server import BadRequestError, DeclinedError, JudgeServer, reply_to, serve_judge
from videorm_hf.miniature.scenes import random_scene, write_prompt
from videorm_hf.models.videorm.video_decoding_videorm import read_frames
from videorm_hf.videoprefer.items import DIMENSIONS, Candidate, Item
from videorm_hf.videoprefer.video_io import write_video

FAULTS = (None, "wrong_color", "noise", "flicker")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder of three prompts with a clean clip and three faulty ones each."""
    folder = tmp_path_factory.mktemp("world")
    rng = np.random.default_rng(0)
    rows = []
    for number in range(3):
        scene = random_scene(rng)
        prompt = write_prompt(scene, rng)
        candidates = []
        for fault in FAULTS:
            frames = render(scene, rng) if fault is None else render_with_fault(scene, fault, 1.0, rng)
            name = f"videos/{number}-{fault}.mp4"
            write_video(torch.from_numpy(frames).permute(0, 3, 1, 2), folder / name, scale=4)
            candidates.append({"candidate_id": str(fault), "video": name, "model": "renderer"})
        rows.append({"item_id": str(number), "prompt": prompt, "prompt_source": "world", "candidates": candidates})
    (folder / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder


def items_of(folder: Path) -> list[Item]:
    rows = [json.loads(line) for line in (folder / "items.jsonl").read_text(encoding="utf-8").splitlines()]
    return [
        Item(row["item_id"], row["prompt"], "world", tuple(Candidate(**candidate) for candidate in row["candidates"]))
        for row in rows
    ]


def annotate(folder: Path, output: Path, server: JudgeServer, **options: Any) -> list[dict[str, Any]]:
    settings = {"model": "measuring-judge", "base_url": server.base_url, "num_workers": 0, "temperature": 0.0}
    annotator = VideoAnnotator(AnnotationOptions(**(settings | options)))
    summary = annotator.run(items_of(folder), folder, output, progress=False)
    assert summary.num_left == 0
    return [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]


def own_ratings(folder: Path, item: Item, candidate: Candidate, num_frames: int) -> dict[str, int]:
    """What the judge gives the file itself, rounded with halves up."""
    verdict = judge(read_frames(folder / candidate.video, num_frames).frames, item.prompt)
    return {name: int(np.floor(getattr(verdict, name) + 0.5)) for name in DIMENSIONS}


@pytest.mark.parametrize("response_format", ["json_schema", "text"])
@pytest.mark.parametrize("num_frames", [2, 4, 8])
def test_annotated_ratings_are_the_judges_own(
    folder: Path, tmp_path: Path, num_frames: int, response_format: str
) -> None:
    with serve_judge() as server:
        rows = annotate(
            *(folder, tmp_path / "ratings.jsonl", server), num_frames=num_frames, response_format=response_format
        )
    found = {(row["item_id"], row["candidate_id"], row["dimension"]): row for row in rows}
    assert len(found) == 3 * len(FAULTS) * len(DIMENSIONS)
    differences = []
    for item in items_of(folder):
        for candidate in item.candidates:
            for dimension, rating in own_ratings(folder, item, candidate, num_frames).items():
                row = found[item.item_id, candidate.candidate_id, dimension]
                assert row["failure"] is None and row["rationale"]
                if candidate.candidate_id != "noise":  # which JPEG takes away in part
                    differences.append(row["rating"] - rating)
    # JPEG moves a measured quality by a hundredth, which can cross the middle between two steps.
    assert np.count_nonzero(differences) <= 1 and np.abs(differences).max() <= 1


def test_the_command_rates_a_folder(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "ratings.jsonl"
    with serve_judge() as server:
        words = ["annotate", folder, "--model", "measuring-judge", "--base-url", server.base_url, "--output", output]
        words += ["--temperature", 0, "--num-workers", 0]
        result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    rows = [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
    clean = [row["rating"] for row in rows if row["candidate_id"] == "None"]
    assert clean == [5] * 6
    noisy = [r["rating"] for r in rows if r["candidate_id"] == "noise" and r["dimension"] == "video_quality"]
    assert max(noisy) <= 3


def test_pairs_are_compared_and_the_order_does_not_matter(folder: Path, tmp_path: Path) -> None:
    with serve_judge() as server:
        rows = annotate(folder, tmp_path / "pairs.jsonl", server, mode="pairwise")
    assert all(row["failure"] is None for row in rows)
    verdicts = {(r["item_id"], r["first_id"], r["second_id"], r["dimension"]): r["verdict"] for r in rows}
    swapped = {"first": "second", "second": "first", "tie": "tie"}
    for (item_id, first, second, dimension), verdict in verdicts.items():
        assert verdicts[item_id, second, first, dimension] == swapped[verdict]
        if (first, second) == ("None", "wrong_color"):
            assert verdict == ("first" if dimension == "prompt_following" else "tie")
        if (first, second) == ("None", "noise") and dimension == "video_quality":
            assert verdict == "first"


def question(frames_THWC: np.ndarray, prompt: str, dimension: str = "prompt_following", **body: Any) -> dict[str, Any]:
    frames = []
    for frame in frames_THWC:
        buffer = io.BytesIO()
        Image.fromarray(frame).resize((128, 128), Image.Resampling.NEAREST).save(buffer, "PNG")
        frames.append(buffer.getvalue())
    messages = build_messages(load_rubric(dimension), prompt, [frames], "text")
    return {"model": "m", "messages": messages, "temperature": 0.0, **body}


def clip(seed: int = 0, num_frames: int = 8) -> tuple[np.ndarray, str]:
    rng = np.random.default_rng(seed)
    scene = random_scene(rng)
    return render(scene, rng, num_frames), write_prompt(scene, rng)


def rating_of(reply: str) -> int:
    return int(reply.splitlines()[0].removeprefix("Rating: "))


def test_the_error_rate_is_the_share_of_wrong_answers_and_a_repeat_says_the_same() -> None:
    frames, prompt = clip()
    bodies = [question(frames, prompt, model=f"m{number}") for number in range(60)]
    replies = [reply_to(body, error_rate=0.4) for body in bodies]
    assert replies[:10] == [reply_to(body, error_rate=0.4) for body in bodies[:10]]
    assert replies[:10] != [reply_to(body, error_rate=0.4, seed=1) for body in bodies[:10]]
    wrong = [rating_of(reply) for reply in replies if rating_of(reply) != 5]
    assert 0.25 < len(wrong) / len(replies) < 0.55 and set(wrong) == {1, 2, 3, 4}
    assert all(rating_of(reply_to(body)) == 5 for body in bodies[:5])
    assert all(rating_of(reply_to(body, error_rate=1.0)) != 5 for body in bodies[:5])


def test_temperature_is_noise_in_steps_of_the_scale() -> None:
    frames, prompt = clip()
    spoilt = np.clip(frames + 12.0 * np.random.default_rng(0).standard_normal(frames.shape), 0, 255).astype(np.uint8)
    spread = {}
    for temperature, repeats in ((0.0, 5), (0.5, 40), (1.5, 40)):
        bodies = [
            question(spoilt, prompt, "video_quality", temperature=temperature, model=f"m{number}")
            for number in range(repeats)
        ]
        spread[temperature] = np.std([rating_of(reply_to(body)) for body in bodies])
    assert spread[0.0] == 0 and 0.25 < spread[0.5] < 0.85 and spread[1.5] > spread[0.5] + 0.3


def test_a_rating_does_not_depend_on_the_size_of_the_frames() -> None:
    frames, prompt = clip(seed=3)
    ratings = []
    for side in (32, 64, 100, 256):
        body = question(frames, prompt)
        for part in body["messages"][0]["content"]:
            if part["type"] == "image_url":
                data = base64.b64decode(part["image_url"]["url"].partition(",")[2])
                buffer = io.BytesIO()
                Image.open(io.BytesIO(data)).resize((side, side), Image.Resampling.BOX).save(buffer, "PNG")
                url = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
                part["image_url"]["url"] = url
        ratings.append(rating_of(reply_to(body)))
    assert ratings == [5] * 4


def test_what_cannot_be_judged_is_declined() -> None:
    frames, prompt = clip()
    with pytest.raises(DeclinedError, match="small world"):
        reply_to(question(frames, "a corgi rides a skateboard"))
    with pytest.raises(DeclinedError, match="single frame"):
        reply_to(question(frames[:1], prompt))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"messages": []}, "user's message"),
        ({"messages": [{"role": "user", "content": "How good is it?"}]}, "frames of one video"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "user's message"),
        ({"temperature": -1}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
    ],
)
def test_what_is_no_question_is_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(BadRequestError, match=message):
        reply_to(question(*clip()) | change)


@pytest.mark.parametrize(
    "url", ["http://example.org/a.png", "data:image/png;base64,!!!", "data:image/png;base64,AAAA"]
)
def test_images_must_be_readable_data(url: str) -> None:
    body = question(*clip())
    body["messages"][0]["content"][1]["image_url"]["url"] = url
    with pytest.raises(BadRequestError, match="Images must be|cannot be read"):
        reply_to(body)


def ask(url: str, content: bytes | None) -> tuple[int, dict[str, Any]]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, content)) as response:
            return response.status, json.loads(response.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def test_errors_come_in_the_protocols_form() -> None:
    with serve_judge() as server:
        address = f"{server.base_url}/chat/completions"
        assert server.base_url.startswith("http://127.0.0.1:")
        assert ask(f"{server.base_url}/models", None)[1]["data"][0]["id"] == "measuring-judge"
        assert ask(f"{server.base_url}/embeddings", b"{}")[0] == 404
        for content in (b"no json", b"[]", b"{}"):
            status, body = ask(address, content)
            assert status == 400 and body["error"]["message"]
        frames, prompt = clip()
        status, body = ask(address, json.dumps(question(frames[:1], prompt)).encode())
        assert status == 200 and "single frame" in body["choices"][0]["message"]["refusal"]
        wanted = question(frames, prompt, response_format=response_schema("pointwise"))
        _, body = ask(address, json.dumps(wanted).encode())
        reply = json.loads(body["choices"][0]["message"]["content"])
        assert reply["rating"] == 5 and set(reply) == {"rationale", "rating"}
    with pytest.raises(urllib.error.URLError):
        ask(address, b"{}")  # it is gone with its context


def test_an_error_rate_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match="error_rate must be between 0 and 1, got 1.5"):
        JudgeServer(error_rate=1.5)


def test_it_runs_as_a_program() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "videorm_hf.miniature.judge_server", "--port", str(port), "--seed", "3"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            assert f"http://127.0.0.1:{port}/v1" in process.stderr.readline()
            assert ask(f"http://127.0.0.1:{port}/v1/models", None)[0] == 200
        finally:
            process.terminate()
