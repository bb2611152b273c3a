"""Logging: the levels it accepts, the libraries it quiets, the messages it does not repeat."""

import json
import logging
from collections.abc import Iterator

import pytest

from niyama.errors import ConfigurationError
from niyama.logs import NOTICE_INTERVAL_S, Throttle, configure_logging
from niyama.settings import LogSettings

LIBRARIES = ("aiokafka", "alembic", "uvicorn")


@pytest.fixture
def restored() -> Iterator[None]:
    """Leaves the process's logging as it was."""
    loggers = [logging.getLogger(name) for name in (None, *LIBRARIES)]
    before = [(each, each.level, each.handlers[:], each.propagate) for each in loggers]
    yield
    for each, level, handlers, propagate in before:
        each.setLevel(level)
        each.handlers = handlers
        each.propagate = propagate


@pytest.mark.parametrize("given", ["debug", "DEBUG", "Debug"])
def test_a_level_is_accepted_in_either_case(given: str) -> None:
    assert LogSettings.from_command_line(["--log-level", given], "x").log_level == "debug"


def test_a_level_is_accepted_in_either_case_from_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NIYAMA_LOG_LEVEL", "WARNING")
    assert LogSettings().log_level == "warning"


def test_another_level_is_refused_with_those_there_are() -> None:
    with pytest.raises(ConfigurationError, match=r"--log-level .*'debug', 'info', 'warning'"):
        LogSettings.from_command_line(["--log-level", "verbose"], "x")


@pytest.mark.usefixtures("restored")
def test_errors_of_aiokafka_are_logged_once_in_a_while(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info", "text")
    for _ in range(3):
        logging.getLogger("aiokafka.conn").error("no broker")
    logging.getLogger("aiokafka.conn").warning("unimportant")
    logging.getLogger("alembic.runtime").info("unimportant")
    logging.getLogger("niyama").info("ours")
    logged = capsys.readouterr().err
    assert logged.count("no broker") == 1
    assert "INFO niyama: ours" in logged
    assert "unimportant" not in logged


@pytest.mark.usefixtures("restored")
def test_debug_shows_libraries_too(capsys: pytest.CaptureFixture[str]) -> None:
    library = logging.getLogger("aiokafka")  # as in a fresh process
    library.setLevel(logging.NOTSET)
    library.handlers, library.propagate = [], True
    configure_logging("debug", "text")
    for _ in range(3):
        logging.getLogger("aiokafka.conn").debug("detail")
    assert capsys.readouterr().err.count("detail") == 3


def test_a_throttle_logs_the_exception_that_is_being_handled(
    caplog: pytest.LogCaptureFixture,
) -> None:
    throttle = Throttle()
    for number in range(2):
        try:
            raise KeyError(number)
        except KeyError:
            throttle.exception(logging.getLogger("test"), "attempt %d failed", number)
    assert caplog.messages == ["attempt 0 failed"]
    assert "KeyError: 0" in caplog.text


def test_a_throttle_lets_something_pass_immediately_and_then_once_per_interval() -> None:
    throttle = Throttle()
    times_s = [5.0, 5.1, 5.0 + NOTICE_INTERVAL_S, 5.1 + NOTICE_INTERVAL_S]
    assert [throttle.allows(now_s) for now_s in times_s] == [True, False, True, False]


@pytest.mark.usefixtures("restored")
def test_what_is_not_a_terminal_gets_json(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info")
    logging.getLogger("niyama").info("ours")
    assert json.loads(capsys.readouterr().err)["message"] == "ours"
