"""Every script in docs/examples runs from its command line, at a tiny size, and does what it says."""

import csv
import json
import re
import runpy
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from datasets import load_dataset

from tests.annotation.judge_server import Answer, judge_server
from tests.docs.snippets import find_clip
from tests.draftv.factories import tiny_wan
from tests.rewards.factories import clip_folder, tiny_clip_model
from tests.trainer.factories import small_folder

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
# The demo has tests of its own.
SCRIPTS = sorted(EXAMPLES.glob("*.py"))
PROMPT = "people ride bikes"
IN_THIS_PROCESS = ["--num-workers", 0]  # starting others takes longer than all else
TINY_WAN = ["--size", "16", "16", "--num-frames", "5", "--num-inference-steps", "3"]
Run = Callable[..., str]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A VIDEORM, a CLIP and a pipeline, in the forms that the scripts' real ids have."""
    folder = tmp_path_factory.mktemp("models")
    small_folder(folder / "videorm")
    clip_folder(folder / "clip", tiny_clip_model())
    tiny_wan().save_pretrained(folder / "wan")
    return folder


@pytest.fixture
def clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with two real clips."""
    for name, source in {"a.mp4": "bikes.mp4", "b.mp4": "carphone_pristine.mp4"}.items():
        (tmp_path / name).write_bytes(find_clip(source).read_bytes())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "datasets")
    return tmp_path


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a script as `python NAME ARGUMENTS` does, and return what it printed."""

    def run_script(name: str, *arguments: object) -> str:
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        monkeypatch.setenv("COLUMNS", "200")
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return capsys.readouterr().out

    return run_script


def write_table(path: Path, rows: list[dict[str, object]]) -> Path:
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def rated_videos(path: Path, prompts: tuple[str, ...] = (PROMPT, "a man talks")) -> Path:
    rows: list[dict[str, object]] = []
    for number, prompt in enumerate(prompts):
        ratings = {"a.mp4": (5, 4), "b.mp4": (2, 4)} if number == 0 else {"a.mp4": (1, ""), "b.mp4": (4, "")}
        rows += [
            {"prompt": prompt, "video": video, "model": video[0], "prompt_following": following, "sharpness": sharp}
            for video, (following, sharp) in ratings.items()
        ]
    return write_table(path, rows)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_is_short_tested_and_says_how_it_is_run(script: Path) -> None:
    text = script.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 120
    assert f"python docs/examples/{script.name}" in text.split('"""')[1]
    assert re.search(rf'run\(\s*"{script.name}"', Path(__file__).read_text(encoding="utf-8"))


def test_score_videos_orders_and_names_what_cannot_be_read(run: Run, models: Path, clips: Path) -> None:
    (clips / "broken.mp4").write_bytes(b"no video")
    videos = ["a.mp4", "b.mp4", "broken.mp4"]
    printed = run("score_videos.py", *videos, "--prompt", PROMPT, "--reward", models / "videorm", *IN_THIS_PROCESS)
    values = [float(value) for value in re.findall(r"(-?\d\.\d+)\s*│\s*[ab]\.mp4", printed)]
    assert len(values) == 2 and values[0] > values[1]
    assert "not scored: broken.mp4 (not_a_video" in printed


def test_score_videos_keeps_scores(run: Run, models: Path, clips: Path) -> None:
    arguments = ["a.mp4", "--prompt", PROMPT, "--reward", f"clip_score:{models / 'clip'}", "--scores", "kept.jsonl"]
    arguments += IN_THIS_PROCESS
    first = run("score_videos.py", *arguments)
    lines = (clips / "kept.jsonl").read_text().splitlines()
    assert run("score_videos.py", *arguments) == first
    assert (clips / "kept.jsonl").read_text().splitlines() == lines and len(lines) == 2


def test_build_dataset_writes_what_plain_datasets_reads(run: Run, clips: Path) -> None:
    printed = run("build_dataset.py", rated_videos(clips / "videos.csv"), "mine", "--train-share", "1.0")
    pairs = load_dataset("my-dataset", "preference", split="train").select_columns(["prompt", "margin"])
    # By the mean: of the first prompt 4.5 and 3, of the second 1 and 4 in the one dimension it is rated in.
    assert {row["prompt"]: row["margin"] for row in pairs} == {PROMPT: 1.5, "a man talks": 3.0}
    assert "train: 2 pairs" in printed
    assert (clips / "mine" / "videos").is_dir()

    people = (clips / "mine" / "people.jsonl").read_bytes()
    with judge_server() as server:  # a judge rates the same folder, and both files stand
        printed = run("annotate_folder.py", "mine", "--model", "judge", "--base-url", server.base_url)
    assert "8 ratings" in printed and "failed: none" in printed
    assert (clips / "mine" / "people.jsonl").read_bytes() == people
    again = run("build_dataset.py", "videos.csv", "mine", "--train-share", "1.0", "--output", "again")
    assert "train: 2 pairs" in again


def test_build_dataset_reads_what_it_wrote_and_not_another_set_of_that_name(run: Run, clips: Path) -> None:
    table = rated_videos(clips / "videos.csv")
    assert "train: 2 pairs" in run("build_dataset.py", table, "mine", "--train-share", "1.0")
    with pytest.raises(SystemExit, match="my-dataset exists: remove it, or name another folder with --output"):
        run("build_dataset.py", table, "mine")
    shutil.rmtree(clips / "my-dataset")
    assert "train: 1 pairs" in run(
        "build_dataset.py", rated_videos(table, prompts=(PROMPT,)), "less", "--train-share", "1.0"
    )


FAULTY_ROWS = [
    ({"video": "./a.mp4"}, "rows 2 and 4 rate a.mp4 for one prompt: give one row, the mean of its ratings"),
    ({"video": "gone.mp4"}, "row 4: there is no file gone.mp4"),
    ({"model": ""}, "row 4: no model"),
    ({"prompt_following": "good"}, "row 4: prompt_following must be a rating from 1 to 5 or empty, got 'good'"),
    ({"sharpness": 7}, "row 4: sharpness must be a rating from 1 to 5 or empty, got 7"),
]


@pytest.mark.parametrize(("cells", "said"), FAULTY_ROWS, ids=lambda value: str(value)[:24])
def test_a_faulty_row_is_named_before_anything_is_written(
    run: Run, clips: Path, cells: dict[str, object], said: str
) -> None:
    rows: list[dict[str, object]] = [
        {"prompt": PROMPT, "video": video, "model": "wan", "prompt_following": 5, "sharpness": 2}
        for video in ("a.mp4", "b.mp4", "c.mp4")
    ]
    shutil.copy("a.mp4", "c.mp4")
    table = write_table(Path("table.csv"), [*rows[:2], rows[2] | cells])
    with pytest.raises(SystemExit, match="Mend table.csv") as refused:
        run("build_dataset.py", table, "mine")
    assert said in str(refused.value) and not (clips / "mine").exists()
    with pytest.raises(SystemExit, match="Mend table.csv") as refused:
        run("own_benchmark.py", table, "--reward", "videorm-mini")
    assert said in str(refused.value) and not (clips / "judged").exists()


def test_a_table_with_another_column_is_refused_by_name(run: Run, clips: Path) -> None:
    table = write_table(clips / "table.csv", [{"prompt": PROMPT, "clip": "a.mp4", "model": "wan", "overall": 3}])
    for words in (["build_dataset.py", table, "mine"], ["own_benchmark.py", table, "--reward", "videorm-mini"]):
        with pytest.raises(SystemExit, match=r"lacks the columns \['video'\]"):
            run(*words)


def test_build_dataset_without_ratings_leaves_a_folder_that_annotate_folder_rates(run: Run, clips: Path) -> None:
    rows: list[dict[str, object]] = [
        {"prompt": PROMPT, "video": video, "model": video[0]} for video in ("a.mp4", "b.mp4")
    ]
    printed = run("build_dataset.py", write_table(clips / "videos.csv", rows), "mine")
    assert "ready to be rated" in printed and not (clips / "my-dataset").exists()

    # The judge prefers the video that it is asked about first.
    with judge_server(lambda number, body: Answer(f"Rating: {5 if number < 2 else 2}\nRationale: So.")) as server:
        arguments = ["mine", "--model", "judge", "--base-url", server.base_url, "--concurrency", 1]
        assert "4 calls to make" in run("annotate_folder.py", *arguments, "--dry-run")
        assert not server.requests
        printed = run("annotate_folder.py", *arguments)
        assert "4 ratings" in printed and "failed: none" in printed
        again = run("annotate_folder.py", *arguments)
        assert "0 calls to make, 4 were made before" in again and len(server.requests) == 4
    assert re.search(r"│\s*1 │", printed)  # one pair


def test_train_reward_learns_on_pairs_and_keeps_prompts_aside(run: Run, models: Path, clips: Path) -> None:
    pairs = [{"prompt": f"{PROMPT} {number}", "chosen": "a.mp4", "rejected": "b.mp4"} for number in range(10)]
    (clips / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    printed = run(
        "train_reward.py", "pairs.jsonl", "--start", models / "clip", "--epochs", 30, "--learning-rate", 1e-2
    )
    assert "8 pairs learned, 2 kept aside" in printed
    before, after = map(float, re.search(r"loss on those kept aside: (\S+) before, (\S+) after", printed).groups())
    assert after < before
    scored = run("score_videos.py", "a.mp4", "b.mp4", "--prompt", PROMPT, "--reward", "my-reward", *IN_THIS_PROCESS)
    assert scored.index("a.mp4") < scored.index("b.mp4")


def test_the_models_that_come_with_the_package_are_known_by_name(run: Run, clips: Path) -> None:
    pairs = [{"prompt": f"{PROMPT} {number}", "chosen": "a.mp4", "rejected": "b.mp4"} for number in range(2)]
    (clips / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    assert "1 pairs learned" in run("train_reward.py", "pairs.jsonl", "--start", "videorm-mini", "--epochs", 1)
    assert not (clips / "my-reward" / "start").exists()
    mini = ["--size", 32, 32, "--num-frames", 8, "--num-inference-steps", 2]
    run("best_of_n.py", "a red circle", "--n", 1, "--pipeline", "t2v-mini", "--reward", "videorm-mini", *mini)
    assert (clips / "best" / "0-best.mp4").is_file()


def test_align_pipeline_saves_a_lora_that_changed_the_reward(run: Run, models: Path, clips: Path) -> None:
    printed = run(
        "align_pipeline.py", "a red dog", "a blue cat", "--pipeline", models / "wan", "--reward", models / "videorm",
        "--monitor", f"clip_score:{models / 'clip'}", "--steps", 1, "--batch", 1, "--learning-rate", 1e-2,
        "--num-backprop-steps", 2, *TINY_WAN,
    )  # fmt: skip
    before, after = map(float, re.search(r"same noise: (\S+), now (\S+)", printed).groups())
    assert before != after
    assert (clips / "wan-lora" / "pytorch_lora_weights.safetensors").is_file()
    assert list((clips / "wan-lora" / "samples").rglob("*.mp4"))


def test_best_of_n_writes_the_best_first(run: Run, models: Path, clips: Path) -> None:
    printed = run(
        "best_of_n.py", "a red dog", "--n", 3, "--pipeline", models / "wan", "--reward", models / "videorm", *TINY_WAN
    )
    values = [float(value) for value in re.findall(r"\.mp4\s*│\s*\d+\s*│\s*(-?\d\.\d+)", printed)]
    assert len(values) == 3 and values == sorted(values, reverse=True) and values[0] > values[2]
    assert sorted(path.name for path in (clips / "best").iterdir()) == ["0-best.mp4", "1.mp4", "2.mp4"]


def test_custom_reward_scores_and_has_a_gradient(run: Run, clips: Path) -> None:
    printed = run("custom_reward.py", "a.mp4", "b.mp4")
    assert len(re.findall(r"^-\d+\.\d+  [ab]\.mp4$", printed, re.MULTILINE)) == 2
    assert float(re.search(r"gradient at a pixel: (\S+)", printed)[1]) > 0


def test_a_perfect_loop_has_the_highest_custom_reward() -> None:
    looping = runpy.run_path(str(EXAMPLES / "custom_reward.py"))["looping"]
    there = torch.linspace(0, 1, 5)[:, None, None, None].expand(5, 3, 8, 8)
    back_again = torch.cat([there, there.flip(0)[1:]])
    rewards = looping(
        torch.stack([back_again, torch.linspace(0, 1, 9)[:, None, None, None].expand(9, 3, 8, 8)]), ["", ""]
    )
    assert rewards[0] == 0 and rewards[1] < -1


def test_own_benchmark_judges_two_rewards(run: Run, models: Path, clips: Path) -> None:
    rewards = ["--reward", f"videorm:{models / 'videorm'}", "--reward", f"clip_score:{models / 'clip'}"]
    printed = run("own_benchmark.py", rated_videos(clips / "labels.csv"), *rewards, *IN_THIS_PROCESS)
    report = json.loads((clips / "judged" / "report.json").read_text())
    assert [reward["num_scored"] for reward in report["rewards"]] == [4, 4]
    found = {row["dimension"]: (row["num_pairs"], row["num_human_ties"]) for row in report["rewards"][0]["dimensions"]}
    assert found["prompt_following"] == (2, 0) and found["sharpness"] == (0, 1)
    assert "prompt_following" in printed


def test_own_benchmark_fits_a_terminal_and_names_what_it_left_out(
    run: Run, clips: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (clips / "c.mp4").write_bytes(b"no video")
    rows: list[dict[str, object]] = [
        {"prompt": PROMPT, "video": f"{name}.mp4", "model": "wan", "prompt_following": rating}
        for name, rating in {"a": 4.5, "b": 2, "c": 1}.items()
    ]
    with pytest.raises(SystemExit) as ended:
        run("own_benchmark.py", write_table(Path("l.csv"), rows), "--reward", "videorm-mini", *IN_THIS_PROCESS)
    printed = capsys.readouterr().out
    assert ended.value.code == 1
    assert "videorm-mini: not scored: {'not_a_video': 1}; the first: 'c.mp4' is not a video" in printed
    assert max(len(line) for line in printed.splitlines() if "┃" in line) <= 80
