import pytest

from videorm_hf.reporting.tables import markdown_table, print_table

ROWS = [
    {"reward": "a|b", "accuracy": 0.62803, "pairs": 1898},
    {"reward": "[bold]x", "accuracy": None, "note": "two\nlines"},
]


def test_markdown_escapes_bars_and_leaves_what_is_missing_empty() -> None:
    lines = markdown_table(ROWS).splitlines()
    assert [cell.strip() for cell in lines[0].strip("|").split("|")] == ["reward", "accuracy", "pairs", "note"]
    assert lines[2].split(" | ")[0].strip("| ") == r"a\|b"
    assert [cell.strip() for cell in lines[2].split(" | ")[1:]] == ["0.628", "1898", "|"]
    assert [cell.strip(" |") for cell in lines[3].split(" | ")] == ["[bold]x", "", "", "two lines"]


def test_columns_can_be_chosen_and_ordered() -> None:
    assert markdown_table(ROWS, ["pairs", "reward"]).splitlines()[0].replace(" ", "") == "|pairs|reward|"


def test_no_rows_is_a_table_without_rows() -> None:
    assert len(markdown_table([], ["a", "b"]).splitlines()) == 2


def test_terminal_table_shows_markup_as_text(capsys) -> None:
    print_table(ROWS, title="scores")
    out = capsys.readouterr().out
    assert "[bold]x" in out and "scores" in out and "1898" in out


@pytest.mark.parametrize("num_rewards", [1, 2, 3])
def test_text_keeps_its_place_beside_numbers_on_a_narrow_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, num_rewards: int
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    names = [f"clip_score_vit_l_{number}" for number in range(num_rewards)]
    numbers = {column: 0.12345 for name in names for column in (f"rank by {name}", name)}
    print_table([{"video": "a_rather_long_name_of_a_candidate.mp4", **numbers}])
    lines = capsys.readouterr().out.splitlines()
    assert {len(line) for line in lines} <= set(range(81))
    rows = [line.split("│")[1:-1] for line in lines if line.startswith("│")]
    assert "".join(cells[0].strip() for cells in rows) == "a_rather_long_name_of_a_candidate.mp4"
    assert [cell.strip() for cell in rows[0][1:]] == ["0.1235"] * 2 * num_rewards


def test_a_table_that_is_too_wide_is_shown_to_its_end(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    print_table([{"text": "some words", **{f"number {number}": 0.12345 for number in range(9)}}])
    assert capsys.readouterr().out.count("0.1235") == 9
