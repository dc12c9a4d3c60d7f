"""Agreement of judges with people and with each other: facts that can be worked out by hand, and published tables."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import cohen_kappa_score

from tests.real_data import real_data
from videorm_hf.annotation.agreement import Agreement, measure_agreement
from videorm_hf.annotation.opinions import Opinions, opinions_of_ratings, read_opinions

PEOPLE = {("a", "1"): 1.0, ("a", "2"): 3.0, ("a", "3"): 3.0, ("b", "1"): 2.0, ("b", "2"): 5.0, ("b", "3"): 4.0}
MODELS = {video: f"model{video[1]}" for video in PEOPLE}


def people() -> Opinions:
    return opinions_of_ratings(PEOPLE, "people", "video_quality")


def compare(ratings: dict[tuple[str, str], float], **settings: object) -> Agreement:
    judge = opinions_of_ratings(ratings, "judge", "video_quality")
    return measure_agreement(judge, people(), MODELS, num_resamples=50, **settings)  # type: ignore[arg-type]


def write(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def rating(item: str, candidate: str, value: float | None, dimension: str = "video_quality", **more: object) -> dict:
    return {
        "item_id": item,
        "candidate_id": candidate,
        "dimension": dimension,
        "rating": value,
        "failure": None,
        **more,
    }


def verdict(item: str, first: str, second: str, choice: str | None) -> dict:
    ids = {"kind": "pairwise", "item_id": item, "first_id": first, "second_id": second, "dimension": "video_quality"}
    return {**ids, "verdict": choice, "failure": None if choice else "refusal"}


def test_a_judge_that_says_what_people_say_agrees_fully() -> None:
    found = compare(PEOPLE)
    assert (found.accuracy.value, found.num_pairs, found.num_reference_ties, found.num_items) == (1.0, 5, 1, 2)
    assert found.accuracy.interval == (1.0, 1.0)
    for estimate in (found.kendall_tau, found.spearman, found.kappa, found.weighted_kappa):
        assert estimate.value == pytest.approx(1.0)
    assert found.confusion == [[int(r == c) * (2 if r == 2 else 1) for c in range(5)] for r in range(5)]


def test_a_judge_that_says_the_opposite_never_agrees() -> None:
    found = compare({video: 6 - value for video, value in PEOPLE.items()})
    assert found.accuracy.value == 0.0 and found.kendall_tau.value == pytest.approx(-1.0)


def test_a_judge_that_says_always_the_same_is_as_good_as_its_tie_rule() -> None:
    same = dict.fromkeys(PEOPLE, 3.0)
    found = compare(same)
    assert (found.accuracy.value, found.num_judge_ties) == (0.5, 5) and "counts one half" in found.tie_rule
    assert found.kendall_tau.value is None and found.spearman.value is None and found.kappa.value == 0.0
    wrong = compare(same, score_ties="wrong")
    assert wrong.accuracy.value == 0.0 and "counts as wrong" in wrong.tie_rule
    with pytest.raises(ValueError, match="None of 6 pairs can be counted"):
        compare(same, score_ties="drop")


def test_figures_by_source_model() -> None:
    found = compare({**PEOPLE, ("b", "1"): 5.0})  # model1's video of item b is overrated: b1 > b3 and b1 = b2
    rows = {row.model: row for row in found.by_model}
    assert rows["model1"].judge_mean == 3.0 and rows["model1"].reference_mean == 1.5
    assert rows["model1"].num_pairs == 4 and rows["model1"].accuracy.value == (1 + 1 + 0.5 + 0) / 4
    assert rows["model2"].num_pairs == 3 and rows["model2"].accuracy.value == (1 + 0.5 + 1) / 3
    assert found.accuracy.value == (1 + 1 + 0.5 + 0 + 1) / 5


def test_kappa_is_of_whole_steps_and_only_on_our_scale() -> None:
    ratings = {**PEOPLE, ("a", "1"): 1.4, ("b", "2"): 2.5}
    found = compare(ratings)
    rounded = [1, 3, 3, 2, 3, 4]
    assert found.kappa.value == pytest.approx(cohen_kappa_score([1, 3, 3, 2, 5, 4], rounded))
    assert found.weighted_kappa.value == pytest.approx(
        cohen_kappa_score([1, 3, 3, 2, 5, 4], rounded, weights="quadratic")
    )
    assert found.confusion is not None and found.confusion[4] == [0, 0, 1, 0, 0]
    metric = compare({video: 20 * value for video, value in PEOPLE.items()})
    assert metric.kappa.value is None and metric.confusion is None and metric.accuracy.value == 1.0


def test_intervals_hold_the_figure_and_follow_the_seed() -> None:
    generator = np.random.default_rng(0)
    reference = {(f"{i}", f"{c}"): float(generator.integers(1, 6)) for i in range(40) for c in range(4)}
    noisy = {video: float(np.clip(value + generator.integers(-1, 2), 1, 5)) for video, value in reference.items()}
    judge, other = opinions_of_ratings(noisy, "judge", "x"), opinions_of_ratings(reference, "people", "x")
    found = measure_agreement(judge, other, num_resamples=100)
    for estimate in (found.accuracy, found.kendall_tau, found.spearman, found.kappa, found.weighted_kappa):
        assert estimate.value is not None and estimate.interval is not None
        low, high = estimate.interval
        assert low < estimate.value < high and high - low < 0.3
    assert measure_agreement(judge, other, num_resamples=100) == found
    assert measure_agreement(judge, other, num_resamples=100, seed=1).kendall_tau != found.kendall_tau


def test_failed_records_are_counted_and_not_used(tmp_path: Path) -> None:
    rows = [rating(item, candidate, value) for (item, candidate), value in PEOPLE.items()]
    rows[0] |= {"rating": None, "failure": "refusal"}
    rows.append(rating("b", "2", None) | {"failure": "ambiguous"})  # asked again, and worse: the last record counts
    judge = read_opinions(write(tmp_path / "judge.jsonl", rows), "video_quality")
    assert judge.failures == {"refusal": 1, "ambiguous": 1} and len(judge.ratings) == 4
    found = measure_agreement(judge, people(), num_resamples=20)
    assert found.judge_failures == {"refusal": 1, "ambiguous": 1} and found.num_videos == 4 and found.num_pairs == 1


def test_a_mean_is_of_videos_rated_in_all_dimensions(tmp_path: Path) -> None:
    rows = [rating("a", "1", 2), rating("a", "1", 5, "prompt_following"), rating("a", "2", 4)]
    assert read_opinions(write(tmp_path / "judge.jsonl", rows), "mean").ratings == {("a", "1"): 3.5}
    with pytest.raises(ValueError, match="no 'humour'; it has prompt_following, video_quality"):
        read_opinions(tmp_path / "judge.jsonl", "humour")


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_other_tables_are_read_alike(tmp_path: Path, suffix: str) -> None:
    frame = pd.DataFrame([rating(item, candidate, value) for (item, candidate), value in PEOPLE.items()])
    path = tmp_path / f"people{suffix}"
    frame.to_csv(path, index=False) if suffix == ".csv" else frame.to_parquet(path, index=False)
    assert read_opinions(path, "video_quality").ratings == PEOPLE


def test_verdicts_that_the_order_changes_are_ties(tmp_path: Path) -> None:
    rows = [verdict("a", "1", "2", "second"), verdict("a", "2", "1", "first")]  # 2 in both orders, as people say
    rows += [verdict("b", "1", "2", "first"), verdict("b", "2", "1", "first")]  # whichever is first
    rows += [verdict("b", "1", "3", "second"), verdict("b", "3", "1", None)]  # one order only
    judge = read_opinions(write(tmp_path / "judge.jsonl", rows), "video_quality")
    position = judge.position
    assert position is not None
    assert (position.num_pairs, position.num_swapped, position.num_one_order, position.swap_rate) == (2, 1, 1, 0.5)
    assert position.first_share == 3 / 5
    found = measure_agreement(judge, people(), MODELS)
    assert (found.accuracy.value, found.num_pairs, found.num_judge_ties, found.num_videos) == (0.75, 2, 1, 0)
    assert found.kendall_tau.value is None and found.position == position


def test_a_judge_that_always_prefers_the_first(tmp_path: Path) -> None:
    videos = [("a", "1", "2"), ("b", "1", "2"), ("b", "2", "3")]
    rows = [verdict(i, *order, "first") for i, x, y in videos for order in ((x, y), (y, x))]
    judge = read_opinions(write(tmp_path / "judge.jsonl", rows), "video_quality")
    assert judge.position is not None and judge.position.swap_rate == judge.position.first_share == 1.0
    assert measure_agreement(judge, people()).accuracy.value == 0.5


def test_files_that_hold_no_opinions_are_errors(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="row 1 must have item_id"):
        read_opinions(write(tmp_path / "x.jsonl", [{"item_id": "a"}]), "video_quality")
    with pytest.raises(ValueError, match="mixes ratings and verdicts"):
        mixed = [rating("a", "1", 2), verdict("a", "1", "2", "first")]
        read_opinions(write(tmp_path / "x.jsonl", mixed), "video_quality")
    with pytest.raises(ValueError, match="item a: a verdict is one of first, second, tie, got 'A'"):
        read_opinions(write(tmp_path / "x.jsonl", [verdict("a", "1", "2", "A")]), "video_quality")
    with pytest.raises(ValueError, match="which is no number"):
        read_opinions(write(tmp_path / "x.jsonl", [rating("a", "1", "good")]), "video_quality")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="none is the same"):
        measure_agreement(opinions_of_ratings({("z", "1"): 1, ("z", "2"): 2}, "judge", "x"), people())


def test_two_of_fetvs_raters(tmp_path: Path) -> None:
    """Judge against judge on real ratings, each figure worked out a second time."""
    table = pd.read_csv(real_data("tables/fetv_human_ratings.csv"), dtype={"prompt_index": str})
    raters = []
    for number in (0, 1):
        mine = table[table["rater"] == number]
        rows = [rating(r.prompt_index, r.model, float(r.alignment), "alignment") for r in mine.itertuples()]
        raters.append(read_opinions(write(tmp_path / f"rater{number}.jsonl", rows), "alignment"))
    found = measure_agreement(*raters, num_resamples=50)
    one, other = (np.array([opinions.ratings[v] for v in sorted(raters[0].ratings)]) for opinions in raters)
    assert found.num_videos == len(one) == 992
    assert found.kendall_tau.value == pytest.approx(stats.kendalltau(one, other).statistic)
    assert found.spearman.value == pytest.approx(stats.spearmanr(one, other).statistic)
    assert found.kappa.value == pytest.approx(cohen_kappa_score(one, other))
    assert (
        found.confusion is not None
        and np.sum(found.confusion) == 992
        and np.trace(found.confusion) == (one == other).sum()
    )
    credit = [
        0.5 if a == b else float((a > b) == (x > y))
        for (_, i, j), (a, b) in raters[0].pairs.items()
        for x, y in [raters[1].pairs[_, i, j]]
        if x != y
    ]
    assert found.accuracy.value == pytest.approx(np.mean(credit)) and found.num_pairs == len(credit)
