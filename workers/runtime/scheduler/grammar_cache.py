"""Compiled grammars: SGLang keeps every one that it has ever compiled, and so does xgrammar."""

from typing import Any

from xgrammar import GrammarCompiler

MAX_GRAMMARS = 64
"""In SGLang's cache. A number, not a size: all ranks have to forget the same ones."""
COMPILER_BYTES = 512 * 1024**2
"""In xgrammar's cache, from which one that SGLang has forgotten comes back in no time."""


def bound(backend: Any) -> None:
    """Let SGLang's grammar backend forget what is oldest, from now on. None: there is no backend.

    Requests that run, or wait for a grammar, have their own reference to it.
    """
    if backend is None:
        return
    compiling = getattr(backend, "grammar_backend", backend)  # within one for reasoning models
    if isinstance(getattr(compiling, "grammar_compiler", None), GrammarCompiler):
        # Without a limit from the beginning, `clear_cache` frees next to nothing.
        compiling.grammar_compiler = GrammarCompiler(
            compiling._tokenizer_info, cache_limit_bytes=COMPILER_BYTES
        )
    keep = backend.set_cache

    def set_cache(key: Any, grammar: Any) -> None:
        keep(key, grammar)
        while len(backend.cache) > MAX_GRAMMARS:
            del backend.cache[next(iter(backend.cache))]

    backend.set_cache = set_cache
