"""What SGLang keeps of grammars stays bounded, however fast new ones come."""

import json
from typing import Any

import pytest
from xgrammar import GrammarCompiler, TokenizerInfo

from workers.runtime.scheduler import grammar_cache

VOCABULARY = TokenizerInfo(
    [bytes([byte]) for byte in range(256)] + [b"<eos>"], stop_token_ids=[256]
)


class _Backend:
    """As much of SGLang's backend as keeps grammars."""

    def __init__(self) -> None:
        self.cache: dict[tuple[str, str], object] = {}
        self._tokenizer_info = VOCABULARY
        self.grammar_compiler = GrammarCompiler(VOCABULARY)

    def set_cache(self, key: tuple[str, str], value: object) -> None:
        self.cache[key] = value


class _ReasoningBackend:
    def __init__(self, within: _Backend) -> None:
        self.cache: dict[tuple[str, str], object] = {}
        self.grammar_backend = within

    def set_cache(self, key: tuple[str, str], value: object) -> None:
        self.cache[key] = value


@pytest.mark.parametrize("reasons", [False, True])
def test_the_oldest_grammars_are_forgotten_while_others_are_compiled(
    reasons: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grammar_cache, "COMPILER_BYTES", 100_000)
    within = _Backend()
    backend: Any = _ReasoningBackend(within) if reasons else within
    grammar_cache.bound(backend)
    for number in range(grammar_cache.MAX_GRAMMARS + 20):
        schema = json.dumps({"enum": [f"{number}-{each}" for each in range(20)]})
        backend.set_cache(("json", schema), within.grammar_compiler.compile_json_schema(schema))
        with pytest.raises(RuntimeError):
            within.grammar_compiler.compile_json_schema(
                json.dumps({"type": "string", "pattern": f"({number}"})
            )
    assert len(backend.cache) == grammar_cache.MAX_GRAMMARS
    assert ("json", schema) in backend.cache
    assert within.grammar_compiler.get_cache_size_bytes() <= 2 * grammar_cache.COMPILER_BYTES


def test_other_backends_and_none_are_left_alone() -> None:
    grammar_cache.bound(None)
    backend = _Backend()
    other: Any = object()
    backend.grammar_compiler = other
    grammar_cache.bound(backend)
    assert backend.grammar_compiler is other
