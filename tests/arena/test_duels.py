"""Duels from the folders in which comparisons are written."""

import json
from pathlib import Path

import pytest
import torch

from videorm_hf.arena.duels import Duel, read_duels
from videorm_hf.videoprefer.items import Candidate
from videorm_hf.videoprefer.json_lines import write_lines
from videorm_hf.videoprefer.video_io import write_video


def write_clip(path: Path, seed: int = 0) -> Path:
    return write_video(torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(seed)), path)


def working_folder(folder: Path, models: tuple[str, ...] = ("base", "tuned"), num_items: int = 2) -> Path:
    items = []
    for number in range(num_items):
        rows = [
            {"candidate_id": str(k), "video": f"videos/{number}-{k}.mp4", "model": m} for k, m in enumerate(models)
        ]
        for k, row in enumerate(rows):
            write_clip(folder / row["video"], 10 * number + k)
        items.append({"item_id": f"i{number}", "prompt": f"prompt {number}", "prompt_source": "t", "candidates": rows})
    write_lines(iter(items), folder / "items.jsonl")
    return folder


def comparison_folder(folder: Path, num_prompts: int = 2) -> Path:
    rows = []
    for variant in ("base", "wan-lora"):
        for number in range(num_prompts):
            name = f"{variant}/{number:02d}-a-dog.mp4"
            write_clip(folder / name, number)
            rows.append({"file_name": name, "prompt": "a dog", "seed": 7 + number, "variant": variant, "rewards": {}})
    facts = {"a": "base", "b": "wan-lora", "rewards": {}, "facts": {}, "videos": rows}
    (folder / "comparison.json").write_text(json.dumps(facts), encoding="utf-8")
    return folder


def test_a_comparison_gives_a_duel_of_both_variants_for_each_prompt(tmp_path: Path) -> None:
    duels = read_duels(comparison_folder(tmp_path))
    assert [(duel.a.model, duel.b.model) for duel in duels] == [("base", "wan-lora")] * 2
    assert [duel.a.seed for duel in duels] == [duel.b.seed for duel in duels] == [7, 8]
    assert duels[1].b.video == tmp_path.resolve() / "wan-lora" / "01-a-dog.mp4"
    assert len({duel.duel_id for duel in duels}) == 2  # although the prompt is the same


def test_a_working_folder_gives_every_two_candidates_of_an_item(tmp_path: Path) -> None:
    duels = read_duels(working_folder(tmp_path, ("x", "y", "z", "z")))
    assert [(duel.item_id, duel.a.candidate_id, duel.b.candidate_id) for duel in duels[:6]] == [
        ("i0", a, b) for a, b in ("01", "02", "03", "12", "13", "23")
    ]
    assert len(duels) == 12
    assert all(duel.a.video.is_file() and duel.b.video.is_file() for duel in duels)


def test_faulty_items_are_left_out_and_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (working_folder(tmp_path) / "videos" / "0-1.mp4").unlink()
    assert [duel.item_id for duel in read_duels(tmp_path)] == ["i1"]
    assert "missing_video" in caplog.text


def test_a_comparison_cannot_show_files_outside_its_folder(tmp_path: Path) -> None:
    folder = comparison_folder(tmp_path / "comparison")
    secret = write_clip(tmp_path / "secret.mp4")
    path = folder / "comparison.json"
    path.write_text(path.read_text().replace("base/00-a-dog.mp4", "../secret.mp4"))
    with pytest.raises(ValueError, match="no file in it"):
        read_duels(folder)
    path.write_text(path.read_text().replace("../secret.mp4", str(secret)))
    with pytest.raises(ValueError, match="no file in it"):
        read_duels(folder)


def test_videos_made_anew_are_other_duels(tmp_path: Path) -> None:
    """Else a second study in the same data folder would begin with the votes of the first."""
    first, second = read_duels(working_folder(tmp_path))
    write_clip(tmp_path / "videos" / "0-1.mp4", seed=99)
    anew, same = read_duels(tmp_path)
    assert anew.duel_id != first.duel_id and same.duel_id == second.duel_id


def test_other_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"comparison\.json.*items\.jsonl"):
        read_duels(tmp_path)
    (working_folder(tmp_path / "gone", num_items=1) / "videos" / "0-0.mp4").unlink()
    with pytest.raises(ValueError, match="no prompt with two usable videos"):
        read_duels(tmp_path / "gone")


def test_the_name_of_a_duel_tells_nothing_and_depends_on_everything() -> None:
    names = {
        Duel(item, prompt, Candidate(a, "v", "base"), Candidate(b, "v", "tuned"), content).duel_id
        for item, prompt, a, b, content in (
            ("i", "p", "base", "tuned", "x"),
            ("i", "p", "tuned", "base", "x"),
            ("i", "p", "base", "other", "x"),
            ("j", "p", "base", "tuned", "x"),
            ("i", "q", "base", "tuned", "x"),
            ("i", "p", "base", "tuned", "y"),
        )
    }
    assert len(names) == 6
    assert not any("base" in name or "tuned" in name for name in names)
