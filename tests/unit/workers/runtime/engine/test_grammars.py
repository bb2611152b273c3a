"""Which schemas are compiled ahead of SGLang, and what becomes of those that take too long."""

from typing import Any

import pytest

from workers.engine.port import InvalidRequest
from workers.runtime.engine import grammars
from workers.runtime.engine.grammars import GrammarCheck, is_plain

COSTLY: dict[str, Any] = {
    "type": "object",
    "properties": {f"p{number}": {"type": "string"} for number in range(300)},
    "minProperties": 16,
    "maxProperties": 32,
}
"""Half a minute and more."""


class _Tokenizer:
    """As much of a tokenizer as xgrammar asks for."""


def _form(schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"type": "object", "properties": {"pattern": {"type": "string"}}, "required": ["pattern"]},
        {"$defs": {"a": {"enum": [{"pattern": "("}]}}, "anyOf": [{"$ref": "#/$defs/a"}]},
        {"type": "array", "items": {"type": "object", "additionalProperties": False}},
    ],
)
def test_a_small_schema_of_plain_keywords_is_plain(schema: dict[str, Any]) -> None:
    assert is_plain(schema)


@pytest.mark.parametrize(
    "schema",
    [
        COSTLY,
        {"type": "string", "pattern": "a"},
        {"properties": {"a": {"pattern": "a"}}},
        {"items": [{"anyOf": [{"format": "email"}]}]},
        {"additionalProperties": {"minLength": 1}},
        {"enum": [f"value {number}" for number in range(1000)]},
        {"properties": ["no schemas by name", {"pattern": "a"}]},
    ],
)
def test_any_other_is_not(schema: dict[str, Any]) -> None:
    assert not is_plain(schema)


async def test_each_schema_is_compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[str] = []

    def compile_once(self: GrammarCheck, schema: str) -> str | None:
        compiled.append(schema)
        return None if "good" in schema else "no good"

    monkeypatch.setattr(GrammarCheck, "_compile", compile_once)
    monkeypatch.setattr(grammars, "_REMEMBERED", 2)
    check = GrammarCheck(_Tokenizer(), 320, {257})
    for _ in range(2):
        await check.check(_form({"pattern": "good"}))
        with pytest.raises(InvalidRequest, match="response_format: no good"):
            await check.check(_form({"pattern": "bad"}))
    await check.check(None)
    await check.check({"type": "json_object"})
    assert len(compiled) == 2
    await check.check(_form({"pattern": "good, and the one too many"}))
    await check.check(_form({"pattern": "good"}))
    check.close()
    assert len(compiled) == 4
