import gc
from collections.abc import Iterator

import pytest

from niyama import garbage


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    thresholds = gc.get_threshold()
    yield
    gc.set_threshold(*thresholds)
    gc.unfreeze()


def test_what_exists_is_not_searched_again_and_what_comes_later_is() -> None:
    garbage.search_less_often()
    existing = [[] for _ in range(1000)]

    garbage.leave_out_what_exists()
    later: list[object] = []
    later.append(later)

    searched = [id(each) for each in gc.get_objects()]
    assert gc.get_threshold() == garbage.THRESHOLDS
    assert not {id(each) for each in existing} & set(searched)
    assert id(later) in searched
