import gc
from collections.abc import Iterator
from typing import Any

import pytest

from niyama import garbage

OBJECTS = 200_000
"""As many as some 2,000 load reports have."""


@pytest.fixture
def searched() -> Iterator[list[int]]:
    """The generation of each search of the test."""
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


def test_objects_that_stay_for_a_while_are_not_searched_again_and_again(
    searched: list[int],
) -> None:
    garbage.search_less_often()
    gc.collect()
    searched.clear()
    kept = [[number] for number in range(OBJECTS)]

    assert len(kept) == OBJECTS
    assert set(searched) <= {0}
    assert len(searched) < 10


def test_what_exists_is_left_out_for_good(searched: list[int]) -> None:
    existing = [[] for _ in range(1000)]
    garbage.leave_out_what_exists()
    later: list[object] = []
    later.append(later)

    candidates = {id(each) for each in gc.get_objects()}
    assert not {id(each) for each in existing} & candidates
    assert id(later) in candidates
