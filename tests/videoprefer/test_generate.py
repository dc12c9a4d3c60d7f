"""Generating candidates with real tiny pipelines of three families: interrupted, resumed, with failures on record."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from tests.draftv.pipeline_factories import PIPELINES, tiny_pipeline
from tests.video_factory import numbered_frames, write_video
from tests.videoprefer.factories import write_jsonl
from videorm_hf.cli.videoprefer import app
from videorm_hf.models.videorm.video_decoding_videorm import read_frames
from videorm_hf.videoprefer import generate
from videorm_hf.videoprefer.generate import generate_candidates, load_pipeline
from videorm_hf.videoprefer.model_pool import ModelPool, PoolModel, read_pool
from videorm_hf.videoprefer.working_folder import WorkingFolder, read_items

FAMILIES = ("modelscope", "wan", "latte")
STEPS = 2


@pytest.fixture(scope="module")
def pool_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pool of three saved pipelines: a U-Net over frames, a flow transformer, and one with names of its own."""
    folder = tmp_path_factory.mktemp("pipelines")
    models = []
    for name in FAMILIES:
        tiny = PIPELINES[name]
        tiny_pipeline(name).save_pretrained(folder / name)
        call = {key: value for key, value in tiny.call.items() if key != "guidance_scale"}
        models.append(
            {
                "name": name,
                "pipeline": str(folder / name),
                "guidance_scale": [2.0, 8.0],
                "sizes": [[tiny.size, tiny.size]],
                "num_inference_steps": [STEPS],
                "num_frames": tiny.num_frames,
                "frames_argument": tiny.frames_argument,
                "call": call,
            }
        )
    path = folder / "pool.yaml"
    path.write_text(yaml.safe_dump({"num_candidates": 3, "models": models}))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two prompts, and one caption with its real clip."""
    write_jsonl(
        tmp_path / "prompts.jsonl",
        [
            {"item_id": "p0", "prompt": "a red dog runs", "prompt_source": "vidprom"},
            {"item_id": "p1", "prompt": "a blue cat", "prompt_source": "vidprom"},
            {"item_id": "m0", "prompt": "a bird", "prompt_source": "msrvtt", "real_video": "videos/real/m0.mp4"},
        ],
    )
    (tmp_path / "videos" / "real").mkdir(parents=True)
    write_video(tmp_path / "videos" / "real" / "m0.mp4", numbered_frames(6))
    return tmp_path


def run(folder: Path, pool: ModelPool, **settings: Any) -> Any:
    return generate_candidates(folder, pool, seed=0, device="cpu", progress=False, **settings)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "videos" / "generated").rglob("*") if path.is_file()}


def test_three_families_fill_the_items(folder: Path, pool_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = []

    def counting(model: PoolModel, device: Any) -> Any:
        loaded.append(model.name)
        return load_pipeline(model, device)

    monkeypatch.setattr(generate, "load_pipeline", counting)
    counts = run(folder, read_pool(pool_file))
    assert (counts.num_generated, counts.num_failed, counts.num_items) == (8, 0, 3)
    assert sorted(loaded) == sorted(FAMILIES)  # each once
    folder_read = WorkingFolder(folder, num_candidates=3)
    items = {item.item_id: item for item in folder_read.items()}
    assert not folder_read.check().problems
    assert {candidate.model for candidate in items["p0"].candidates} == set(FAMILIES)
    assert all(2 <= candidate.guidance_scale <= 8 for candidate in items["p0"].candidates)
    real = [candidate for candidate in items["m0"].candidates if candidate.is_real]
    assert [(candidate.video, candidate.model) for candidate in real] == [("videos/real/m0.mp4", "msrvtt")]
    assert len(contents(folder)) == 8

    before = {path: path.stat().st_mtime_ns for path in (folder / "videos").rglob("*.mp4")}
    loaded.clear()
    assert run(folder, read_pool(pool_file)) == counts
    assert not loaded  # nothing is done again, nothing is even loaded
    assert before == {path: path.stat().st_mtime_ns for path in (folder / "videos").rglob("*.mp4")}


def test_an_interrupted_run_continues_to_the_same_videos(
    folder: Path, pool_file: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = read_pool(pool_file)
    whole = tmp_path_factory.mktemp("whole")
    (whole / "prompts.jsonl").write_bytes((folder / "prompts.jsonl").read_bytes())
    (whole / "videos" / "real").mkdir(parents=True)
    (whole / "videos" / "real" / "m0.mp4").write_bytes((folder / "videos" / "real" / "m0.mp4").read_bytes())
    run(whole, pool)

    generate_one = generate._generate
    calls = []

    def interrupted(*arguments: Any) -> None:
        generate_one(*arguments)
        calls.append(arguments)
        if len(calls) == 4:  # after its video, before its line in the journal
            raise KeyboardInterrupt

    monkeypatch.setattr(generate, "_generate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(folder, pool)
    monkeypatch.setattr(generate, "_generate", generate_one)
    journal = folder / "generation" / "00000.jsonl"
    assert len(journal.read_text().splitlines()) == 3 and len(contents(folder)) == 4
    with journal.open("a") as file:
        file.write('{"item_id": "p1", "candi')  # torn
    early = {name: os.stat(next(folder.rglob(name))).st_mtime_ns for name in contents(folder)}
    assert run(folder, pool).num_items == 3
    assert contents(folder) == contents(whole)
    assert all(os.stat(next(folder.rglob(name))).st_mtime_ns == time for name, time in early.items())
    assert (folder / "items.jsonl").read_text() == (whole / "items.jsonl").read_text()


def test_a_failure_is_recorded_and_can_be_retried(
    folder: Path, pool_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = read_pool(pool_file)
    generate_one = generate._generate

    def failing(pipe: Any, plan: Any, prompt: str, path: Path) -> None:
        if plan.model.name == "wan" and "cat" in prompt:
            raise RuntimeError("out of memory")
        generate_one(pipe, plan, prompt, path)

    monkeypatch.setattr(generate, "_generate", failing)
    counts = run(folder, pool)
    assert (counts.num_generated, counts.num_failed, counts.num_items) == (7, 1, 3)
    [failed] = [
        record
        for record in map(json.loads, (folder / "generation" / "00000.jsonl").read_text().splitlines())
        if record["failure"]
    ]
    assert (failed["item_id"], failed["model"], failed["failure"]) == ("p1", "wan", "RuntimeError: out of memory")
    assert WorkingFolder(folder, num_candidates=3).check().counts() == {"wrong_number_of_candidates": 1}
    assert [len(item.candidates) for item in read_items(folder, num_candidates=None)] == [3, 2, 3]

    monkeypatch.setattr(generate, "_generate", generate_one)
    assert run(folder, pool).num_failed == 1  # left alone
    assert run(folder, pool, retry_failed=True).num_failed == 0
    assert not WorkingFolder(folder, num_candidates=3).check().problems


def test_a_lost_video_is_generated_again(folder: Path, pool_file: Path) -> None:
    pool = read_pool(pool_file)
    run(folder, pool)
    before = contents(folder)
    next((folder / "videos" / "generated").rglob("*.mp4")).unlink()
    run(folder, pool)
    assert contents(folder) == before


def test_a_pipeline_is_asked_before_its_first_video(pool_file: Path, folder: Path) -> None:
    content = yaml.safe_load(pool_file.read_text())
    for model in content["models"]:
        model["frames_argument"] = "num_frames"  # Latte calls it video_length
    wrong = folder / "pool.yaml"
    wrong.write_text(yaml.safe_dump(content))
    with pytest.raises(ValueError, match="latte: LattePipeline takes no num_frames; its call takes prompt") as error:
        run(folder, read_pool(wrong))
    assert str(error.value).endswith("Name its own with frames_argument: video_length.")
    model = dataclasses.replace(read_pool(wrong).models[FAMILIES.index("latte")], guidance_argument="strength")
    with pytest.raises(ValueError, match="takes no strength, num_frames.*with guidance_argument, frames_argument or"):
        load_pipeline(model, "cpu")


def test_what_does_not_fit_is_refused(folder: Path, pool_file: Path, tmp_path: Path) -> None:
    pool = read_pool(pool_file)
    (folder / "items.jsonl").write_text("")
    with pytest.raises(FileExistsError, match="not from here"):
        run(folder, pool)
    (folder / "items.jsonl").unlink()
    (folder / "generation").mkdir()
    (folder / "generation" / "settings.json").write_text('{"seed": 1}')
    (folder / "generation" / "00000.jsonl").write_text('{"item_id": "p0", "candidate_id": "0", "failure": null}')
    with pytest.raises(ValueError, match=r"another pool or seed \(seed was 1, is 0; pool was None"):
        run(folder, pool)
    with pytest.raises(FileNotFoundError, match="videoprefer collect"):
        run(tmp_path / "absent", pool)
    write_jsonl(folder / "prompts.jsonl", [{"item_id": "p0", "prompt": "", "prompt_source": "vidprom"}])
    with pytest.raises(ValueError, match="prompts.jsonl:1: item_id, prompt and prompt_source must be text"):
        run(folder, pool)
    (folder / "prompts.jsonl").write_text("\n")
    with pytest.raises(ValueError, match="prompts.jsonl is empty: it must have a line for each prompt"):
        run(folder, pool)
    result = CliRunner().invoke(app, ["generate", str(folder), "--pool", str(pool_file)])
    assert result.exit_code == 2 and "prompts.jsonl is empty" in result.output
    result = CliRunner().invoke(app, ["generate", str(folder), "--pool", str(tmp_path / "absent.yaml")])
    assert result.exit_code == 2 and "absent.yaml" in result.output


def test_a_pool_that_made_nothing_does_not_bind(folder: Path, pool_file: Path) -> None:
    pool = read_pool(pool_file)
    latte = FAMILIES.index("latte")

    def with_latte(**changes: Any) -> ModelPool:
        models = [dataclasses.replace(pool.models[latte], **changes)]
        return dataclasses.replace(pool, models=tuple(models), repeat_models=True)

    with pytest.raises(ValueError, match="takes no num_frames"):
        run(folder, with_latte(frames_argument="num_frames"))
    with pytest.raises(FileNotFoundError, match="nowhere"):
        run(folder, with_latte(pipeline="nowhere"))
    failed = run(folder, with_latte(call={**pool.models[latte].call, "height": "tall"}))  # each call fails
    assert (failed.num_generated, failed.num_failed) == (0, 8)
    counts = run(folder, with_latte())
    assert (counts.num_generated, counts.num_failed) == (8, 0)

    before = contents(folder)
    with pytest.raises(ValueError, match=r"\(pool.models\[0\].fps was 8, is 4\): go on with those in .*settings.json"):
        run(folder, with_latte(fps=4))
    for journal in (folder / "generation").glob("*.jsonl"):  # as an interruption leaves it before the first line
        journal.unlink()
    with pytest.raises(ValueError, match=r"\(pool.models\[0\].fps was 8, is 4\)"):
        run(folder, with_latte(fps=4))
    assert contents(folder) == before


@pytest.mark.slow
def test_two_processes_make_what_one_makes(folder: Path, pool_file: Path, tmp_path_factory: Any) -> None:
    alone = tmp_path_factory.mktemp("alone")
    (alone / "prompts.jsonl").write_bytes((folder / "prompts.jsonl").read_bytes())
    (alone / "videos" / "real").mkdir(parents=True)
    (alone / "videos" / "real" / "m0.mp4").write_bytes((folder / "videos" / "real" / "m0.mp4").read_bytes())
    run(alone, read_pool(pool_file))
    # torchrun: `accelerate launch --cpu` starts one process, whatever number it is given.
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command = ["-m", "videorm_hf.cli.videoprefer", "generate", folder, "--pool", pool_file, "--device", "cpu"]
    result = subprocess.run([*launch, *map(str, command)], capture_output=True, text=True, check=False, timeout=600)
    assert result.returncode == 0, result.stderr
    assert "8 videos, 0 failed; 3 items" in result.stdout
    assert {path.name for path in (folder / "generation").glob("*.jsonl")} == {"00000.jsonl", "00001.jsonl"}
    together, apart = contents(folder), contents(alone)
    assert together.keys() == apart.keys()
    for name, content in together.items():  # another process may round a sum otherwise in its last bit
        frames, expected = (read_frames(data, 8).frames.astype(int) for data in (content, apart[name]))
        assert np.abs(frames - expected).mean() < 0.5
    assert (folder / "items.jsonl").read_text() == (alone / "items.jsonl").read_text()
