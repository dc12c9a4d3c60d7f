"""From rows to groups, and what is refused."""

import copy
import math

import numpy as np
import pytest
from datasets import Dataset, Features, List, Value, Video

from tests.trainer.factories import preference_rows, rated_items
from tests.video_factory import numbered_frames, write_video
from videorm_hf.trainer.preference_groups import ConcatGroups, PairSettings, PreferenceGroups
from videorm_hf.videoprefer.items import Candidate, Item


def groups(data, **settings):
    return PreferenceGroups(data, "set", PairSettings(**settings))


def test_a_pair_is_a_group_of_two_and_an_item_one_of_all_its_candidates():
    pair = groups(preference_rows(2))[1]
    assert pair.pairs == ((0, 1),) and pair.margins == (2.0,) and pair.names == ("item-0-1/a", "item-0-1/b")
    item = groups(rated_items(1))[0]
    assert len(item.videos) == 4 and len(item.pairs) == 6
    # Candidate j is rated less than every one before it.
    assert all(chosen < rejected for chosen, rejected in item.pairs)
    assert item.margins == (0.75, 1.5, 2.25, 0.75, 1.5, 0.75)


def test_items_as_objects_and_as_rows_give_the_same_groups():
    row = rated_items(1)[0]
    candidates = tuple(
        Candidate(of["candidate_id"], of["video"], model="m", ratings=of["ratings"]) for of in row["candidates"]
    )
    item = Item(row["item_id"], row["prompt"], row["prompt_source"], candidates)
    a, b = groups([row])[0], groups([item])[0]
    assert (a.prompt, a.names, a.pairs, a.margins) == (b.prompt, b.names, b.pairs, b.margins)


def video_dataset(folder, embed):
    for name in "abc":
        write_video(folder / f"{name}.mp4", numbered_frames(5), codec="mpeg4")
    cells = [str(folder / f"{name}.mp4") for name in "abc"]
    if embed:
        cells = [{"path": None, "bytes": (folder / f"{name}.mp4").read_bytes()} for name in "abc"]
    candidate = {"candidate_id": Value("string"), "video": Video(), "ratings": {"video_quality": Value("float64")}}
    ratings = Dataset.from_dict(
        {
            "item_id": ["one"],
            "prompt": ["a number"],
            "candidates": [
                [
                    {"candidate_id": name, "video": cell, "ratings": {"video_quality": rating}}
                    for name, cell, rating in zip("abc", cells, (1.0, 5.0, None), strict=True)
                ]
            ],
        },
        features=Features({"item_id": Value("string"), "prompt": Value("string"), "candidates": List(candidate)}),
    )
    pairs = Dataset.from_dict(
        {"prompt": ["a number"], "chosen": cells[:1], "rejected": cells[1:2]},
        features=Features({"prompt": Value("string"), "chosen": Video(), "rejected": Video()}),
    )
    return ratings, pairs


@pytest.mark.parametrize("embed", [False, True])
def test_both_views_of_a_dataset_are_read_without_decoding(tmp_path, embed):
    ratings, pairs = video_dataset(tmp_path, embed)
    item = groups(ratings)[0]
    assert item.pairs == ((1, 0),) and item.margins == (4.0,) and item.names == ("one/a", "one/b", "one/c")
    pair = groups(pairs)[0]
    assert pair.pairs == ((0, 1),) and pair.names == ("set row 0/chosen", "set row 0/rejected")
    for cell in (*item.videos, *pair.videos):
        assert set(cell) == {"bytes", "path"} and (cell["bytes"] is not None) == embed


def test_dimensions_are_compared_on_their_own_or_in_the_mean():
    rows = rated_items(1, num_candidates=2)
    rows[0]["candidates"][0]["ratings"] = {"prompt_following": 5.0, "video_quality": 1.0}
    rows[0]["candidates"][1]["ratings"] = {"prompt_following": 3.0, "video_quality": 4.0}
    both = groups(rows, dimensions=("prompt_following", "video_quality"))[0]
    assert both.pairs == ((0, 1), (1, 0)) and both.margins == (2.0, 3.0)
    assert groups(rows)[0].pairs == ((1, 0),)


def test_ties_are_left_out_or_kept():
    rows = rated_items(2, num_candidates=2)
    rows[0]["candidates"][1]["ratings"] = dict(rows[0]["candidates"][0]["ratings"])
    left = groups(rows)
    assert len(left) == 1 and left.num_ties == 1
    kept = groups(rows, keep_ties=True)
    assert len(kept) == 2 and kept[0].margins == (0.0,)


def test_a_share_of_the_rows_is_part_of_a_larger_share():
    rows = preference_rows(20)

    def prompts(fraction, seed=0):
        part = PreferenceGroups(rows, "set", fraction=fraction, seed=seed)
        return {part[i].names[0] for i in range(len(part))}

    assert len(prompts(0.25)) == 5 and len(prompts(0.5)) == 10
    assert prompts(0.25) < prompts(0.5) < prompts(1.0)
    assert prompts(0.5) != prompts(0.5, seed=1)


def test_sets_laid_end_to_end_count_epochs_by_their_own_length():
    both = ConcatGroups([groups(preference_rows(2)), groups(rated_items(3))])
    assert len(both) == 5
    assert both[1].names[0] == "item-0-1/a" and both[2].names[0] == "item-0-0/c0"
    later = both[7 + 5]  # row 2 of the third epoch
    assert later.names == both[2].names and later.draw == 2 * 3


def bad_rows(kind):
    rows = rated_items(3)
    candidate = rows[1]["candidates"][2]
    if kind == "nan":
        candidate["ratings"]["video_quality"] = math.nan
    if kind == "range":
        candidate["ratings"]["video_quality"] = 0.5
    if kind == "prompt":
        rows[1]["prompt"] = "  "
    if kind == "same":
        candidate["video"] = rows[1]["candidates"][0]["video"] = "same.mp4"
    if kind == "same bytes":
        candidate["video"], rows[1]["candidates"][0]["video"] = b"abc", {"bytes": b"abc", "path": "other.mp4"}
    return rows


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("nan", r"1 ratings are not numbers from 1 to 5 \(first: item-0-1/c2 video_quality: nan\)"),
        ("range", r"1 ratings are not numbers from 1 to 5 \(first: item-0-1/c2 video_quality: 0.5\)"),
        ("prompt", "1 prompts hold no text .*row 1"),
        ("same", "1 pairs compare a video with itself .*item-0-1/c0 and item-0-1/c2"),
        ("same bytes", "1 pairs compare a video with itself"),
    ],
)
def test_impossible_rows_are_named_and_counted(kind, message):
    with pytest.raises(ValueError, match=message):
        groups(bad_rows(kind))


def test_all_problems_are_counted_at_once():
    rows = [copy.deepcopy(row) for row in bad_rows("nan")] + bad_rows("range") + bad_rows("prompt")
    with pytest.raises(ValueError, match="2 ratings are not .*; 1 prompts hold no text"):
        groups(rows)


@pytest.mark.parametrize("margin", [math.nan, -1.0, math.inf])
def test_impossible_margins_are_errors(margin):
    rows = preference_rows(2)
    rows[1]["margin"] = margin
    with pytest.raises(ValueError, match=r"1 margins are not numbers of at least 0 \(first: row 1"):
        groups(rows)


def test_a_margin_is_needed_where_it_is_used():
    rows = [{name: row[name] for name in ("prompt", "chosen", "rejected")} for row in preference_rows(2)]
    assert groups(rows)[0].margins == (1.0,)
    with pytest.raises(ValueError, match="2 pairs have no margin"):
        groups(rows, need_margin=True)


def test_a_row_that_lacks_a_column_is_named():
    rows = preference_rows(3)
    del rows[1]["rejected"]
    rows[2]["chosen"] = None
    with pytest.raises(
        ValueError, match=r"1 rows have no rejected \(first: row 1: \[.*1 rows have no chosen \(first: row 2"
    ):
        groups(rows)


def test_other_columns_are_named_with_those_expected():
    with pytest.raises(
        ValueError, match=r"\['chosen', 'prompt', 'rejected'\].*\['candidates', 'prompt'\].*\['text', 'video'\]"
    ):
        groups([{"video": "a.mp4", "text": "a"}])


def test_an_empty_split_is_an_error():
    with pytest.raises(ValueError, match="at least one row: got an empty"):
        groups([])
    with pytest.raises(ValueError, match="empty split"):
        groups(Dataset.from_dict({"prompt": [], "chosen": [], "rejected": []}))


def test_a_set_without_any_pair_is_an_error():
    rows = rated_items(2, num_candidates=1)
    with pytest.raises(ValueError, match="gives no pair: 2 rows, 0 ties"):
        groups(rows)


@pytest.mark.parametrize("dimensions", [("beauty",), ("video_quality", "beauty")])
def test_a_dimension_that_no_row_is_rated_in_is_an_error(dimensions):
    message = "set is not rated in beauty: dimensions must be among mean, prompt_following, video_quality"
    with pytest.raises(ValueError, match=message):
        groups(rated_items(2), dimensions=dimensions)
    rows = rated_items(2)
    for candidate in rows[1]["candidates"]:
        candidate["ratings"] = {"beauty": candidate["ratings"]["video_quality"]}
    assert len(groups(rows, dimensions=dimensions)) == len(dimensions)  # one row is enough
    assert groups(preference_rows(2), dimensions=dimensions).num_pairs == 2  # whose pairs are made already


def test_other_types_are_errors():
    with pytest.raises(TypeError, match="got str"):
        groups("folder")
    with pytest.raises(TypeError, match="got IterableDataset"):
        groups(Dataset.from_list([{"prompt": "a"}]).to_iterable_dataset())
    with pytest.raises(TypeError, match="a mapping of columns or an Item: got ndarray"):
        groups([np.zeros(3)])
