"""Where real clips, human ratings and judges' replies lie that the project may not carry; see CONTRIBUTING.md."""

import os
from pathlib import Path

import pytest


def real_data(name: str) -> Path:
    """Return a file or folder of the real data, or skip the test that asks."""
    folder = os.environ.get("VIDEORM_TEST_DATA")
    if not folder:
        pytest.skip("needs real data: set VIDEORM_TEST_DATA (CONTRIBUTING.md)")
    path = Path(folder) / name
    if not path.exists():
        pytest.skip(f"needs real data: VIDEORM_TEST_DATA holds no {name}, there is no {path} (CONTRIBUTING.md)")
    return path
