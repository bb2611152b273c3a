"""What SGLang keeps of grammars shrinks again."""

import pytest

from workers.runtime.scheduler import grammar_cache


class _Backend:
    def __init__(self, kept: int) -> None:
        self.cache = dict.fromkeys(range(kept))


class _Manager:
    def __init__(self, kept: int, waiting: bool) -> None:
        self.grammar_backend = _Backend(kept)
        self._waiting = waiting

    def has_waiting_grammars(self) -> bool:
        return self._waiting

    def clear(self) -> None:
        self.grammar_backend.cache.clear()


@pytest.mark.parametrize(
    ("kept", "waiting", "left"),
    [
        (grammar_cache.MAX_GRAMMARS, False, grammar_cache.MAX_GRAMMARS),
        (grammar_cache.MAX_GRAMMARS + 1, False, 0),
        (grammar_cache.MAX_GRAMMARS + 1, True, grammar_cache.MAX_GRAMMARS + 1),
    ],
)
def test_compiled_grammars_are_forgotten_when_they_are_many(
    kept: int, waiting: bool, left: int
) -> None:
    manager = _Manager(kept, waiting)
    grammar_cache.clear_when_many(manager)
    assert len(manager.grammar_backend.cache) == left
