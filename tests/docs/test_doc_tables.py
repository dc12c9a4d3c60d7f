"""Every table of figures in the documentation says what the results of the benchmarks say."""

import importlib.util
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def load():
    spec = importlib.util.spec_from_file_location("doc_tables", ROOT / "benchmarks" / "doc_tables.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


DOC_TABLES = load()


def test_pages_are_up_to_date() -> None:
    shown = set()
    for page in DOC_TABLES.pages():
        text = page.read_text(encoding="utf-8")
        shown |= {name for name in DOC_TABLES.TABLES if f"<!-- {name}: begin -->" in text}
        assert DOC_TABLES.with_tables(text) == text, f"{page}: run `python benchmarks/doc_tables.py`"
    assert shown == set(DOC_TABLES.TABLES)


def test_another_figure_would_be_noticed() -> None:
    page = ROOT / "docs" / "guides" / "memory.md"
    text = page.read_text(encoding="utf-8")
    assert DOC_TABLES.with_tables(text.replace(" MB, ", " GB, ")) == text != text.replace(" MB, ", " GB, ")


def test_an_unknown_table_is_named() -> None:
    with pytest.raises(SystemExit, match="no table called 'ghosts'"):
        DOC_TABLES.with_tables("<!-- ghosts: begin -->\n<!-- ghosts: end -->")
