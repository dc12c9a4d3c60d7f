"""Each labelled set, from small files in its published layout; the real tables where they are at hand."""

import csv
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.real_data import real_data
from videorm_hf.benchmarks import Benchmark, get_benchmark


def ratings_of(benchmark: Benchmark) -> dict[tuple[str, str], dict[str, float]]:
    return {
        (item.item_id, video.candidate_id): dict(video.ratings)
        for item in benchmark.items
        for video in item.candidates
    }


# --- TVGE ------------------------------------------------------------------------------------------------------------


def write_tvge(folder: Path, **changes: Any) -> Path:
    """Two prompts, two models, as t2v_metrics publishes them."""
    alignment = {
        "3": {"prompt": "a bird", "models": {"pika": [4.5], "gen2": [2.0]}},
        "12": {"prompt": "a squirrel", "models": {"pika": [3.0, 4.0], "gen2": [3.5]}},
    }
    quality = json.loads(json.dumps(alignment))
    quality["3"]["models"]["gen2"] = [5.0]
    tables = {"alignment": alignment, "quality": quality}
    for (name, key, field), value in changes.get("cells", {}).items():
        tables[name][key][field] = value
    for name, table in tables.items():
        (folder / f"t2vscore_{name}_score.json").write_text(json.dumps(table))
    rows = [("pika", 3, "a bird", 20.5), ("gen2", 3, "a bird", 21), ("pika", 12, "a squirrel", 1)]
    rows += changes.get("rows", [("gen2", 12, "a squirrel", 1)])
    with open(folder / "t2vscore_results.csv", "w", newline="") as file:
        csv.writer(file).writerows([("model_name", "video_id", "prompt", "CLIP Score"), *rows])
    return folder


def test_tvge(tmp_path: Path) -> None:
    tvge = get_benchmark("tvge", write_tvge(tmp_path))
    assert tvge.dimensions == ("alignment", "quality", "mean")
    assert ratings_of(tvge) == {
        ("3", "pika"): {"alignment": 4.5, "quality": 4.5},
        ("3", "gen2"): {"alignment": 2, "quality": 5},
        ("12", "pika"): {"alignment": 3.5, "quality": 3.5},
        ("12", "gen2"): {"alignment": 3.5, "quality": 3.5},
    }
    assert tvge.items[0].candidates[0].video == str(tmp_path / "pika" / "0003.mp4")
    assert tvge.metrics == {
        "CLIP Score": {("3", "pika"): 20.5, ("3", "gen2"): 21, ("12", "pika"): 1, ("12", "gen2"): 1}
    }
    (tmp_path / "t2vscore_results.csv").unlink()
    assert get_benchmark("tvge", tmp_path).metrics == {}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cells": {("quality", "3", "prompt"): "a cat"}}, "do not list the same prompts and videos"),
        ({"cells": {("alignment", "3", "models"): {"pika": [4.5]}}}, "do not list the same prompts and videos"),
        ({"cells": {("alignment", "3", "models"): {"pika": [6], "gen2": [1]}}}, "entry '3', pika: a rating must be"),
        ({"cells": {("alignment", "3", "models"): {"pika": [], "gen2": [1]}}}, "pika has no rating"),
        ({"cells": {("alignment", "3", "models"): None}}, "must have a prompt and models"),
        ({"rows": []}, "each of the 4 rated videos once, it lists 3"),
        ({"rows": [("gen2", 12, "a squirel", 1)]}, "in the ratings 'a squirrel'"),
    ],
)
def test_tvge_that_contradicts_itself(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        get_benchmark("tvge", write_tvge(tmp_path, **changes))


def test_two_copies_of_a_table_are_ambiguous(tmp_path: Path) -> None:
    write_tvge(tmp_path)
    (tmp_path / "further").mkdir()
    (tmp_path / "further" / "t2vscore_quality_score.json").write_text("{}")
    assert len(get_benchmark("tvge", tmp_path).items) == 2  # the nearest copy counts
    (tmp_path / "old_t2vscore_quality_score.json").write_text("{}")
    with pytest.raises(ValueError, match="Several files"):
        get_benchmark("tvge", tmp_path)


def test_the_real_tvge() -> None:
    tvge = get_benchmark("tvge", real_data("tables"))
    assert (len(tvge.items), len(ratings_of(tvge))) == (204, 1015)
    assert list(tvge.metrics) == ["CLIP Score", "X-CLIP Score", "BLIP-BLEU", "T2VScore-A (GPT-4V)"]
    assert {name: len(tvge.preference_pairs(name)) for name in tvge.dimensions} == {
        "alignment": 1898,
        "quality": 1912,
        "mean": 1974,  # 8 of the pairs differ in the last bit of a mean only
    }


# --- T2VQA-DB --------------------------------------------------------------------------------------------------------


def test_t2vqa_db(tmp_path: Path) -> None:
    lines = ["lavie/0.mp4|a cat | a dog|0", "pika/0.mp4|a cat | a dog|100", "", "1.mp4|ein Mädchen|62.5"]
    (tmp_path / "database.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "1.mp4").touch()
    benchmark = get_benchmark("t2vqa_db", tmp_path)
    assert benchmark.dimensions == ("overall",)
    first, second = benchmark.items
    assert (first.prompt, second.prompt) == ("a cat | a dog", "ein Mädchen")
    assert [(video.model, video.ratings["overall"]) for video in first.candidates] == [("lavie", 1), ("pika", 5)]
    assert second.candidates[0].ratings == {"overall": 3.5} and second.candidates[0].model == "unknown"
    assert first.candidates[0].video == str(tmp_path / "lavie" / "0.mp4")
    assert second.candidates[0].video == str(tmp_path / "videos" / "1.mp4")
    assert get_benchmark("t2vqa_db", tmp_path / "database.txt") == benchmark
    assert [pair.chosen_id for pair in benchmark.preference_pairs("overall")] == ["pika/0.mp4"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a.mp4|a cat|50\nb.mp4|a cat\n", "line 2 must read filename"),
        ("a.mp4|a cat|high\n", "line 1 must read filename"),
        ("a.mp4|a cat|101\n", "line 1: an opinion score must lie in 0 to 100, got 101"),
        ("a.mp4|a cat|nan\n", "must lie in 0 to 100"),
        ("a.mp4|a cat|1\na.mp4|a dog|2\n", "1 videos more than once, the first is a.mp4"),
        ("\n", "holds no label"),
    ],
)
def test_bad_t2vqa_db(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "database.txt").write_text(content)
    with pytest.raises(ValueError, match=message):
        get_benchmark("t2vqa_db", tmp_path)


# --- VBench ----------------------------------------------------------------------------------------------------------


def vbench_entry(**changes: Any) -> dict[str, Any]:
    """One entry as VBench documents it; both directions of a vote may stand there."""
    url = "https://example.org/{}/appearance_style/The%20bund%20Shanghai,%20Van%20Gogh%20style-0.mp4"
    models = ("modelscope", "lavie", "videocraft")
    entry = {
        "prompt_en": "The bund Shanghai, Van Gogh style",
        "style_en": "Van Gogh style",
        "question_en": "Which is more in the style?",
        "videos": {model: url.format(model) for model in models},
        "human_anno": {"modelscope": {"lavie": 0, "videocraft": 1}, "lavie": {"modelscope": 1, "videocraft": 0.5}},
    }
    return entry | changes


def test_vbench(tmp_path: Path) -> None:
    (tmp_path / "human").mkdir()
    (tmp_path / "human" / "appearance_style.json").write_text(
        json.dumps([vbench_entry(), vbench_entry(human_anno={})])
    )
    (tmp_path / "human" / "color.json").write_text(json.dumps([vbench_entry()]))
    (tmp_path / "VBench_full_info.json").write_text("[]")
    name = "The bund Shanghai, Van Gogh style-0.mp4"
    for part in ("lavie/appearance_style", "lavie/color", "videocrafter-09/scene"):
        (tmp_path / part).mkdir(parents=True)
        (tmp_path / part / name).touch()
    benchmark = get_benchmark("vbench", tmp_path)
    assert benchmark.dimensions == ("appearance_style", "color", "all")
    votes = [(pair.item_id, pair.a_id, pair.b_id, pair.human_a, pair.human_b) for pair in benchmark.pairs("color")]
    assert votes == [
        ("color/0", "modelscope", "lavie", 0, 1),
        ("color/0", "modelscope", "videocraft", 1, 0),
        ("color/0", "lavie", "videocraft", 0.5, 0.5),
    ]
    assert (len(benchmark.pairs("all")), len(benchmark.preference_pairs("all"))) == (6, 4)
    videos = {video.model: Path(video.video) for video in benchmark.items[0].candidates}
    assert videos["lavie"] == tmp_path / "lavie" / "appearance_style" / name
    assert videos["videocraft"] == tmp_path / "videocrafter-09" / "scene" / name  # of another dimension, same prompt
    assert videos["modelscope"] == tmp_path / "human" / "modelscope" / "appearance_style" / name  # not there


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "must hold a list"),
        ([{"prompt_en": "a"}], "entry 0 must have videos"),
        ([vbench_entry(human_anno={"lavie": {"modelscope": 0.7}})], "a vote must be 0, 0.5 or 1, got 0.7"),
        ([vbench_entry(human_anno={"lavie": {"modelscope": 1}, "modelscope": {"lavie": 1}})], "lavie over modelscope"),
        ([vbench_entry(human_anno={"sora": {"lavie": 1}})], "names .'sora'., which videos does not"),
    ],
)
def test_bad_vbench(tmp_path: Path, content: Any, message: str) -> None:
    (tmp_path / "scene.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message):
        get_benchmark("vbench", tmp_path)


def test_two_videos_of_one_name_are_ambiguous(tmp_path: Path) -> None:
    (tmp_path / "appearance_style.json").write_text(json.dumps([vbench_entry()]))
    for size in ("512x320", "1024x576"):
        (tmp_path / "lavie" / "appearance_style" / size).mkdir(parents=True)
        (tmp_path / "lavie" / "appearance_style" / size / "The bund Shanghai, Van Gogh style-0.mp4").touch()
    with pytest.raises(ValueError, match="several videos of lavie"):
        get_benchmark("vbench", tmp_path)


# --- FETV ------------------------------------------------------------------------------------------------------------

RATINGS = {  # (prompt, model) to (static, temporal, alignment) of three raters
    ("0", "cogvideo"): [(4, 3, 4), (3, 3, 4), (3, 3, 4)],
    ("0", "damo-text2video"): [(2, 3, 5), (4, 2, 5), (3, 4, 5)],
    ("0", "ground-truth"): [(5, 5, 5)] * 3,
    ("1", "zeroscope"): [(1, 2, 3)] * 3,
}
TITLES = {"cogvideo": "CogVideo", "damo-text2video": "ModelScopeT2V", "zeroscope": "ZeroScope"}
TITLES["ground-truth"] = "real video"
NAMES = ("static_quality", "temporal_quality", "alignment")
PROMPTS = [{"video_id": "video9", "prompt": "a horse race"}, {"video_id": 17, "prompt": "a girl sings"}]


def write_fetv(folder: Path, video_id: str = "video9") -> Path:
    """FETV as its authors publish it."""
    (folder / "fetv_data.json").write_text("".join(json.dumps(row) + "\n" for row in PROMPTS))
    for rater in range(3):
        (folder / "manual_eval_results" / f"human{rater}").mkdir(parents=True)
        for (number, model), rows in RATINGS.items():
            rated = {"video_id": video_id if number == "0" else "17"} | dict(zip(NAMES, rows[rater], strict=True))
            file = folder / "manual_eval_results" / f"human{rater}" / f"manual_eval_results_{model}.json"
            with file.open("a") as lines:
                lines.write(json.dumps({number: rated}) + "\n")
    metrics = folder / "auto_eval_results" / "CLIPScore"
    metrics.mkdir(parents=True)
    (metrics / "auto_eval_results_modelscope-t2v.json").write_text('{"0": 0.25, "1": 0.5}')
    return folder


def test_fetv_as_published(tmp_path: Path) -> None:
    write_fetv(tmp_path)
    (tmp_path / "cogvideo" / "videos").mkdir(parents=True)
    (tmp_path / "cogvideo" / "videos" / "0.gif").touch()
    fetv = get_benchmark("fetv", tmp_path)
    assert fetv.dimensions == (*NAMES, "mean")
    first, second = fetv.items
    assert (first.prompt, second.prompt) == ("a horse race", "a girl sings")
    by_model = {video.model: video for video in first.candidates}
    assert by_model["CogVideo"].ratings == {
        "static_quality": pytest.approx(10 / 3),
        "temporal_quality": 3,
        "alignment": 4,
    }
    assert by_model["CogVideo"].video == str(tmp_path / "cogvideo" / "videos" / "0.gif")
    assert by_model["ModelScopeT2V"].video.endswith("modelscope-t2v/videos/0.mp4")
    assert by_model["real video"].is_real and by_model["real video"].video.endswith("real_videos/video9.mp4")
    assert not by_model["CogVideo"].is_real
    assert fetv.metrics["CLIPScore"]["0", "ModelScopeT2V"] == 0.25


def test_the_flat_table_says_the_same(tmp_path: Path) -> None:
    published = get_benchmark("fetv", write_fetv(tmp_path))
    rows = [
        {"prompt_index": number, "prompt": PROMPTS[int(number)]["prompt"], "model": TITLES[model], "rater": rater}
        | {"video_id": PROMPTS[int(number)]["video_id"]}
        | dict(zip(NAMES, ratings, strict=True))
        for (number, model), raters in RATINGS.items()
        for rater, ratings in enumerate(raters)
    ]
    pd.DataFrame(rows).to_csv(tmp_path / "fetv_human_ratings.csv", index=False)
    assert get_benchmark("fetv", tmp_path / "fetv_human_ratings.csv").items == published.items


def test_bad_fetv(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="line 1: video_id is video8, in fetv_data.json video9"):
        get_benchmark("fetv", write_fetv(tmp_path, video_id="video8"))
    table = tmp_path / "fetv_human_ratings.csv"
    header = "prompt_index,prompt,model,rater,static_quality,temporal_quality,alignment\n"
    for content, message in (
        ("prompt\na\n", "lacks the columns"),
        (header + "1,a,m,0,3,3,\n", "line 2, alignment: a rating must be a number from 1 to 5, got ''"),
        (header + "1,a,m,0,3,3,7\n", "got '7'"),
        (header + "1,a,m,0,3,3,3\n1,b,m,1,3,3,3\n", "prompt 1: the prompt differs"),
        (header, "holds no rating"),
    ):
        table.write_text(content)
        with pytest.raises(ValueError, match=message):
            get_benchmark("fetv", table)


def test_the_real_fetv_table() -> None:
    fetv = get_benchmark("fetv", real_data("tables"))
    assert (len(fetv.items), len(ratings_of(fetv))) == (248, 992)
    assert {len(item.candidates) for item in fetv.items} == {4}
    assert len(fetv.pairs("alignment")) == 248 * 6


def test_the_real_fetv_clips_agree_with_the_table() -> None:
    clips, table = get_benchmark("fetv", real_data("clips.jsonl")), get_benchmark("fetv", real_data("tables"))
    assert (len(clips.items), len(ratings_of(clips))) == (14, 56)
    assert all(Path(video.video).is_file() for item in clips.items for video in item.candidates)
    assert ratings_of(clips).items() <= ratings_of(table).items()
    assert {item.item_id: item.prompt for item in clips.items}.items() <= {
        item.item_id: item.prompt for item in table.items
    }.items()


# --- GenAI-Bench -----------------------------------------------------------------------------------------------------


def test_genai_bench(tmp_path: Path) -> None:
    rows = [
        {
            "prompt": f"p{number}",
            "left_video": f"https://x.org/v/left%20{number}.mp4",
            "right_video": "https://x.org/r.mp4",
        }
        | {"left_model": "lavie", "right_model": "pika", "vote_type": vote}
        for number, vote in enumerate(("leftvote", "rightvote", "tievote", "bothbad_vote"))
    ]
    pd.DataFrame(rows).to_parquet(tmp_path / "test_v1-00000-of-00001.parquet")
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "r.mp4").touch()
    benchmark = get_benchmark("genai_bench", tmp_path)
    assert benchmark.dimensions == ("overall",)
    assert [(pair.human_a, pair.human_b) for pair in benchmark.pairs("overall")] == [
        (1, 0),
        (0, 1),
        (0.5, 0.5),
        (0.5, 0.5),
    ]
    left, right = benchmark.items[1].candidates
    assert (left.model, right.model) == ("lavie", "pika")
    assert (left.video, right.video) == (str(tmp_path / "videos" / "left 1.mp4"), str(tmp_path / "videos" / "r.mp4"))
    assert [pair.chosen_id for pair in benchmark.preference_pairs("overall")] == ["left", "right"]


def test_genai_votes_without_videos(tmp_path: Path) -> None:
    (tmp_path / "genai_human_votes.csv").write_text("idx,prompt,human_vote\n7,castle,leftvote\n")
    (item,) = get_benchmark("genai_bench", tmp_path).items
    assert (item.item_id, item.prompt, [video.video for video in item.candidates]) == ("7", "castle", [None, None])
    (tmp_path / "genai_human_votes.csv").write_text("idx,prompt,human_vote\n7,castle,upvote\n")
    with pytest.raises(ValueError, match="row 7: a vote must be one of leftvote"):
        get_benchmark("genai_bench", tmp_path)
    (tmp_path / "genai_human_votes.csv").write_text("idx,prompt\n7,castle\n")
    with pytest.raises(ValueError, match="lacks the columns .'human_vote'."):
        get_benchmark("genai_bench", tmp_path)


def test_the_real_genai_votes() -> None:
    benchmark = get_benchmark("genai_bench", real_data("tables"))
    assert (len(benchmark.items), len(benchmark.pairs("overall"))) == (443, 443)
    assert len(benchmark.preference_pairs("overall")) == 167 + 134
