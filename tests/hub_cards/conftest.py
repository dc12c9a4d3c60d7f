"""A Hub of one's own."""

import threading
from collections.abc import Iterator

import pytest

from tests.hub_cards.hub_server import HubServer


@pytest.fixture
def hub() -> Iterator[HubServer]:
    with HubServer() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()
