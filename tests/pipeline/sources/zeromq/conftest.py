from __future__ import annotations

from collections.abc import Iterator

import pytest
from zmq_peers import Sender


@pytest.fixture
def senders() -> Iterator[list[Sender]]:
    """A list whose senders are closed at the end."""
    made: list[Sender] = []
    yield made
    for sender in made:
        sender.close()
