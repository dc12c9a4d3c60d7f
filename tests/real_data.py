"""Where real clips, human ratings and judges' replies lie that the project may not carry; see CONTRIBUTING.md."""

import os
from pathlib import Path

import pytest

REAL_DATA = Path(os.environ.get("VIDEORM_TEST_DATA") or Path(__file__).parents[2] / "shared" / "data")


def real_data(name: str) -> Path:
    """Return a file or folder of the real data, or skip the test that asks."""
    path = REAL_DATA / name
    if not path.exists():
        pytest.skip(f"needs real data: there is no {path}; set VIDEORM_TEST_DATA (CONTRIBUTING.md)")
    return path
