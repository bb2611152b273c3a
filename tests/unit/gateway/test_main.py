"""What a gateway sets up for its process."""

import gc
from collections.abc import Iterator
from typing import Any

import pytest

from gateway.main import collect_garbage_rarely

OBJECTS = 200_000
"""As many as some 2,000 load reports have."""


@pytest.fixture
def collections() -> Iterator[list[int]]:
    """The generation of each garbage collection of the test."""
    found: list[int] = []

    def note(phase: str, info: dict[str, Any]) -> None:
        if phase == "stop":
            found.append(info["generation"])

    thresholds = gc.get_threshold()
    gc.callbacks.append(note)
    try:
        yield found
    finally:
        gc.callbacks.remove(note)
        gc.set_threshold(*thresholds)
        gc.unfreeze()


def test_objects_that_stay_are_not_looked_at_again_and_again(collections: list[int]) -> None:
    collect_garbage_rarely()
    kept = [[number] for number in range(OBJECTS)]
    assert len(kept) == OBJECTS
    assert set(collections) <= {0}
    assert len(collections) < 10
