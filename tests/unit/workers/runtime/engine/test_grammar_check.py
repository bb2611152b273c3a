"""Every schema is compiled ahead of SGLang, once, in a process that does not matter."""

import faulthandler
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any

import pytest
from xgrammar import TokenizerInfo

from workers.engine.port import EngineDead, EngineError, InvalidRequest
from workers.engine.watchdog import Watchdog
from workers.runtime.engine import grammar_check, grammar_process
from workers.runtime.engine.grammar_check import GrammarCheck
from workers.runtime.engine.grammar_process import GrammarProcess

GOOD = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}
BAD = {"type": "string", "pattern": "("}
COSTLY: dict[str, Any] = {"properties": {f"{number}": {} for number in range(330)}}
"""Keywords that every schema has, in three kilobytes, and ten seconds with a large vocabulary."""
VOCABULARY = TokenizerInfo(
    [bytes([byte]) for byte in range(256)] + [b"<eos>"], stop_token_ids=[256]
)


def _form(schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}


class _Forking:
    """Starts processes at once: the server from which they are forked needs seconds itself."""

    def __init__(self) -> None:
        self.started: list[Any] = []
        self.failures: list[Exception] = []
        self._context: BaseContext = multiprocessing.get_context("fork")
        self.Pipe = self._context.Pipe

    def set_forkserver_preload(self, modules: list[str]) -> None:
        assert modules == [grammar_process.__name__]

    def Process(self, **options: Any) -> Any:  # noqa: N802
        if self.failures:
            raise self.failures.pop()
        self.started.append(self._context.Process(**options))  # type: ignore[attr-defined]
        return self.started[-1]


@pytest.fixture
def forking(monkeypatch: pytest.MonkeyPatch) -> _Forking:
    forking = _Forking()
    monkeypatch.setattr(grammar_process, "_context", forking)
    monkeypatch.setattr(grammar_process, "_JOIN_S", 60.0)
    monkeypatch.setattr(GrammarCheck, "_vocabulary", VOCABULARY.serialize_json())
    return forking


@pytest.fixture
def pauses_s() -> list[float]:
    """Slept between tries."""
    return []


@pytest.fixture
def check(forking: _Forking, pauses_s: list[float]) -> Iterator[GrammarCheck]:
    check = GrammarCheck(object(), 257, {256}, Watchdog(limit_s=60), pauses_s.append)
    yield check
    check.close()


def _in_the_process(
    monkeypatch: pytest.MonkeyPatch, happens: Callable[[], object], marker: Path, times: int
) -> None:
    """Let something happen to so many processes, while they compile."""

    def refusal(*_: object) -> None:
        happened = marker.stat().st_size if marker.exists() else 0
        if happened < times:
            marker.write_bytes(bytes(happened + 1))
            happens()

    monkeypatch.setattr(grammar_process, "_refusal", refusal)


def _end_by(number: signal.Signals) -> None:
    faulthandler.disable()
    os.kill(os.getpid(), number)


def _compute_for_ever() -> None:
    while True:
        pass


def test_one_that_is_slow_for_every_token_is_refused(
    check: GrammarCheck, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grammar_process, "TOKEN_LIMIT_S", 0.0)
    with pytest.raises(InvalidRequest, match="s for a single token: it is too ambiguous"):
        check.check(_form(GOOD))


def test_only_schemas_that_are_not_known_to_be_good_are_checked(check: GrammarCheck) -> None:
    assert not check.concerns(None)
    assert not check.concerns({"type": "json_object"})
    for schema, known in ((GOOD, False), (BAD, True)):
        assert check.concerns(_form(schema))
        with pytest.raises(InvalidRequest) if known else nullcontext():
            check.check(_form(schema))
        assert check.concerns(_form(schema)) is known


def test_one_process_compiles_many_schemas_and_says_what_is_wrong(
    check: GrammarCheck, forking: _Forking
) -> None:
    check.warm_up()
    for _ in range(2):
        check.check(_form(GOOD))
        with pytest.raises(InvalidRequest, match=r"response_format: .*Regex parsing error"):
            check.check(_form(BAD))
    assert len(forking.started) == 1


def test_a_schema_that_looks_plain_is_checked_too(
    check: GrammarCheck, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grammar_process, "GRAMMAR_BYTES", 10_000)
    with pytest.raises(InvalidRequest, match=r"its schema compiles to [\d,]+ bytes"):
        check.check(_form(COSTLY))
    check.check(_form(GOOD))


def test_each_schema_is_compiled_once(check: GrammarCheck, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[str] = []

    def compile_it(self: GrammarProcess, schema: str, cpu_limit_s: float) -> str | None:
        compiled.append(schema)
        return None if "good" in schema else "no good"

    monkeypatch.setattr(GrammarProcess, "refusal", compile_it)
    monkeypatch.setattr(grammar_check, "_REMEMBERED", 2)
    for _ in range(2):
        check.check(_form({"pattern": "good"}))
        with pytest.raises(InvalidRequest, match="response_format: no good"):
            check.check(_form({"pattern": "bad"}))
    assert len(compiled) == 2
    check.check(_form({"pattern": "good, and one too many"}))
    check.check(_form({"pattern": "good"}))
    assert len(compiled) == 4


@pytest.mark.parametrize(
    ("number", "refusal"),
    [
        (signal.SIGPROF, "more than 10 s to compile"),
        (signal.SIGABRT, "too much memory"),
        (signal.SIGSEGV, "too much memory"),
    ],
)
def test_a_schema_that_ends_its_process_is_refused(
    check: GrammarCheck,
    forking: _Forking,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    number: signal.Signals,
    refusal: str,
) -> None:
    _in_the_process(monkeypatch, lambda: _end_by(number), tmp_path / "marker", times=1)
    for _ in range(2):
        with pytest.raises(InvalidRequest, match=refusal):
            check.check(_form(COSTLY))
    check.check(_form(GOOD))
    assert len(forking.started) == 2


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("times", [2, 3])
def test_that_a_process_was_killed_says_nothing_about_the_schema(
    check: GrammarCheck,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    number: signal.Signals,
    times: int,
) -> None:
    _in_the_process(monkeypatch, lambda: _end_by(number), tmp_path / "marker", times)
    with nullcontext() if times < 3 else pytest.raises(EngineError, match="killed, or take"):
        check.check(_form(GOOD))
    check.check(_form(GOOD))


def test_a_process_that_is_stopped_holds_nobody_up_for_ever(
    check: GrammarCheck, forking: _Forking, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(grammar_process, "WALL_LIMIT_S", 0.1)
    _in_the_process(monkeypatch, lambda: _end_by(signal.SIGSTOP), tmp_path / "marker", times=9)
    with pytest.raises(EngineError, match="killed, or take"):
        check.check(_form(GOOD))
    assert not any(process.is_alive() for process in forking.started)


def test_a_process_that_cannot_be_started_is_started_again_after_a_pause(
    check: GrammarCheck, forking: _Forking, pauses_s: list[float]
) -> None:
    forking.failures = [EOFError("unexpected EOF"), BlockingIOError("no more processes")]
    check.check(_form(GOOD))
    assert len(forking.started) == 1
    assert pauses_s == [0, 1, 5]


def test_a_schema_that_takes_more_than_its_first_try_is_put_off(
    check: GrammarCheck, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(grammar_check, "FIRST_CPU_LIMIT_S", 0.3)
    marker = tmp_path / "marker"
    _in_the_process(monkeypatch, _compute_for_ever, marker, times=1)
    assert not check.try_first(_form(COSTLY))
    assert not check.try_first(_form(COSTLY))  # that is remembered
    assert check.concerns(_form(COSTLY))
    assert check.try_first(_form(GOOD))
    check.check(_form(COSTLY))
    assert check.try_first(_form(COSTLY))
    assert not check.concerns(_form(COSTLY))


def test_a_process_that_was_killed_while_idle_is_replaced(
    check: GrammarCheck, forking: _Forking
) -> None:
    check.check(_form(GOOD))
    (process,) = forking.started
    process.kill()
    process.join()
    with pytest.raises(InvalidRequest):
        check.check(_form(BAD))
    assert len(forking.started) == 2


def test_a_process_that_has_grown_is_replaced(
    check: GrammarCheck, forking: _Forking, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grammar_process, "_KEPT_BYTES", -1)
    check.check(_form(GOOD))
    assert [process.is_alive() for process in forking.started] == [False]


def test_no_process_is_left_behind(check: GrammarCheck, forking: _Forking) -> None:
    check.check(_form(GOOD))
    check.close()
    assert [process.is_alive() for process in forking.started] == [False]
    with pytest.raises(EngineDead):
        check.check(_form(BAD))


def test_without_a_vocabulary_sglang_is_left_to_refuse(
    forking: _Forking, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(GrammarCheck, "_vocabulary", None)
    GrammarCheck(object(), 257, {256}, Watchdog(limit_s=60)).check(_form(BAD))
    assert not forking.started


def test_a_vocabulary_that_xgrammar_cannot_read_is_none() -> None:
    assert GrammarCheck(object(), 257, {256}, Watchdog(limit_s=60))._vocabulary is None
