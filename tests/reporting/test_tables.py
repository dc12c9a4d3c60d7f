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
