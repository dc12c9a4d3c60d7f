"""What all labelled sets share: names, dimensions, both views, errors that name what is absent."""

from pathlib import Path

import pytest

from videorm_hf.benchmarks import BENCHMARKS, Benchmark, get_benchmark
from videorm_hf.evaluation.labels import LabelledPair
from videorm_hf.videoprefer.items import Candidate, Item

FILES = {
    "tvge": "t2vscore_alignment_score.json",
    "t2vqa_db": ".txt",
    "vbench": "subject_consistency.json",
    "fetv": "fetv_human_ratings.csv",
    "genai_bench": "test_v1-00000-of-00001.parquet",
}
INFO = BENCHMARKS["vbench"][0]


def test_the_five_sets() -> None:
    assert list(BENCHMARKS) == list(FILES)
    assert {name: info.paper_test_size for name, (info, _) in BENCHMARKS.items() if info.paper_test_size} == {
        "tvge": "15K pairs (mean of two aspects)",
        "t2vqa_db": "2.3K pairs",
        "vbench": "10K pairs (16 aspects pooled)",
    }


@pytest.mark.parametrize("name", FILES)
def test_an_absent_set_is_named_with_where_to_get_it(tmp_path: Path, name: str) -> None:
    source = BENCHMARKS[name][0].source
    with pytest.raises(FileNotFoundError) as absent:
        get_benchmark(name, tmp_path / "nowhere")
    assert "nowhere does not exist" in str(absent.value) and source in str(absent.value)
    with pytest.raises(FileNotFoundError) as empty:
        get_benchmark(name, tmp_path)
    assert FILES[name] in str(empty.value) and source in str(empty.value)


def test_an_unknown_set_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no labelled set 'vbench2'; there are tvge, t2vqa_db"):
        get_benchmark("vbench2", tmp_path)


@pytest.fixture
def rated() -> Benchmark:
    candidates = tuple(
        Candidate(name, f"{name}.mp4", name, ratings={"x": x, "y": y})
        for name, x, y in (("a", 1, 5), ("b", 3, 3), ("c", 3, 1))
    )
    return Benchmark(INFO, (Item("0", "p", "test", candidates),))


def test_ratings_give_pairs_of_each_dimension_and_of_the_mean(rated: Benchmark) -> None:
    assert rated.dimensions == ("x", "y", "mean")
    assert [(pair.a_id, pair.b_id, pair.human_a, pair.human_b) for pair in rated.pairs("mean")] == [
        ("a", "b", 3, 3),
        ("a", "c", 3, 2),
        ("b", "c", 3, 2),
    ]
    preferred = [(pair.chosen, pair.rejected, pair.margin) for pair in rated.preference_pairs("x")]
    assert preferred == [("b.mp4", "a.mp4", 2), ("c.mp4", "a.mp4", 2)]
    assert len(rated.preference_pairs("x", ties="keep")) == 3
    for view in (rated.pairs, rated.preference_pairs):
        with pytest.raises(ValueError, match="no dimension 'z', only x, y, mean"):
            view("z")


def test_votes_give_pairs_of_each_dimension_and_of_all(rated: Benchmark) -> None:
    votes = (
        LabelledPair("0", "p", "motion", "a", "b", 0, 1),
        LabelledPair("0", "p", "motion", "a", "c", 0.5, 0.5),
        LabelledPair("0", "p", "colour", "b", "c", 1, 0),
    )
    voted = Benchmark(INFO, rated.items, votes)
    assert voted.dimensions == ("motion", "colour", "all")
    assert (len(voted.pairs("motion")), len(voted.pairs("all"))) == (2, 3)
    pairs = voted.preference_pairs("all")
    assert [(pair.chosen_id, pair.rejected, pair.margin, pair.dimension) for pair in pairs] == [
        ("b", "a.mp4", 1, "motion"),
        ("b", "c.mp4", 1, "colour"),
    ]
    assert [pair.margin for pair in voted.preference_pairs("motion", ties="keep")] == [1, 0]
    with pytest.raises(ValueError, match="no dimension 'mean'"):
        voted.preference_pairs("mean")
    one = Benchmark(INFO, rated.items, votes[:2])
    assert one.dimensions == ("motion",)


def test_means_that_differ_in_the_last_bit_are_tied() -> None:
    a = Candidate("a", "a.mp4", "a", ratings={"x": 1.0, "y": 1.4})
    b = Candidate("b", "b.mp4", "b", ratings={"x": 1.1, "y": 1.3})
    benchmark = Benchmark(INFO, (Item("0", "p", "test", (a, b)),))
    (pair,) = benchmark.pairs("mean")
    assert pair.human_a != pair.human_b
    assert benchmark.preference_pairs("mean") == []
    (kept,) = benchmark.preference_pairs("mean", ties="keep")
    assert (kept.chosen_id, kept.margin) == ("a", 0)


def test_the_guide_says_what_the_readers_say() -> None:
    guide = (Path(__file__).parents[2] / "docs" / "guides" / "labelled_sets.md").read_text(encoding="utf-8")
    for name, (info, _) in BENCHMARKS.items():
        for part in (f"`{name}`", info.title, info.licence, info.tie_policy, info.source, info.content):
            assert part in guide, (name, part)
        assert f"| {info.paper_test_size or 'not used'} |" in guide
