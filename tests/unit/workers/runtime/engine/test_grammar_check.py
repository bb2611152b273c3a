"""Which schemas are compiled ahead of SGLang, and what becomes of those that take too long."""

import os
import signal
from contextlib import nullcontext
from typing import Any

import pytest

from workers.engine.port import InvalidRequest
from workers.engine.watchdog import Watchdog
from workers.runtime.engine import grammar_check
from workers.runtime.engine.grammar_check import GrammarCheck, is_plain

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


@pytest.fixture
def check() -> GrammarCheck:
    return GrammarCheck(_Tokenizer(), 320, {257}, Watchdog(limit_s=60))


def test_only_what_is_not_plain_is_checked(check: GrammarCheck) -> None:
    assert not check.concerns(None)
    assert not check.concerns({"type": "json_object"})
    assert not check.concerns(_form({"type": "string"}))
    assert check.concerns(_form(COSTLY))


def test_each_schema_is_compiled_once(check: GrammarCheck, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[str] = []

    def compile_it(self: GrammarCheck, schema: str) -> str | None:
        compiled.append(schema)
        return None if "good" in schema else "no good"

    monkeypatch.setattr(GrammarCheck, "_compile", compile_it)
    monkeypatch.setattr(grammar_check, "_REMEMBERED", 2)
    for _ in range(2):
        check.check(_form({"pattern": "good"}))
        with pytest.raises(InvalidRequest, match="response_format: no good"):
            check.check(_form({"pattern": "bad"}))
    assert len(compiled) == 2
    check.check(_form({"pattern": "good, and one too many"}))
    check.check(_form({"pattern": "good"}))
    assert len(compiled) == 4


class _Process:
    """A process that ends, or is stopped, before it has answered."""

    exit_code: int | None = None

    def __init__(self, target: object, args: tuple[object, ...], daemon: bool) -> None:
        self._answer: Any = args[-1]

    @property
    def exitcode(self) -> int | None:
        return self.exit_code

    def start(self) -> None:
        """Its end of the pipe closes as it ends; a stopped one keeps it."""
        if self.exit_code is None:
            self._kept = self._answer = os.dup(self._answer.fileno())

    def join(self, timeout: float) -> None:
        pass

    def kill(self) -> None:
        if self.exit_code is None:
            os.close(self._kept)


@pytest.mark.parametrize(
    ("exit_code", "refusal"),
    [
        (-signal.SIGXCPU, "more than 10 s to compile"),
        (-signal.SIGABRT, "too much memory"),
        (-signal.SIGSEGV, "too much memory"),
        (-signal.SIGKILL, None),
        (-signal.SIGTERM, None),
        (1, None),
        (None, None),
    ],
)
def test_a_process_that_was_killed_or_stopped_says_nothing_about_the_schema(
    check: GrammarCheck,
    monkeypatch: pytest.MonkeyPatch,
    exit_code: int | None,
    refusal: str | None,
) -> None:
    monkeypatch.setattr(grammar_check._processes, "Process", _Process)
    monkeypatch.setattr(_Process, "exit_code", exit_code)
    monkeypatch.setattr(grammar_check, "WALL_LIMIT_S", 0.01)
    monkeypatch.setattr(GrammarCheck, "_vocabulary", "")
    for _ in range(2):
        with nullcontext() if refusal is None else pytest.raises(InvalidRequest, match=refusal):
            check.check(_form(COSTLY))
    assert bool(check._verdicts) == (refusal is not None)
