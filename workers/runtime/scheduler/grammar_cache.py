"""Compiled grammars: SGLang keeps every one that it has ever compiled."""

from typing import Any

MAX_GRAMMARS = 256


def clear_when_many(manager: Any) -> None:
    """Forget SGLang's compiled grammars when they are many: those still used are compiled again.

    `manager` is SGLang's GrammarManager. Requests that run keep the grammars that they have.
    """
    backend = manager.grammar_backend
    if backend is None or len(backend.cache) <= MAX_GRAMMARS or manager.has_waiting_grammars():
        return
    manager.clear()
