"""Logging: the levels it accepts, the libraries it quiets, the messages it does not repeat."""

import json
import logging
import sys
import threading
import warnings
from collections.abc import Iterator

import pytest

from niyama.errors import ConfigurationError
from niyama.logs import NOTICE_INTERVAL_S, Throttle, configure_logging, log_uncaught_errors
from niyama.settings import LogSettings
from tests.support.logs import logged, restored_logging


@pytest.fixture
def restored() -> Iterator[None]:
    with restored_logging():
        yield


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
def test_errors_of_aiokafka_are_logged_once_in_a_while(capfd: pytest.CaptureFixture[str]) -> None:
    configure_logging("info", "text")
    for _ in range(3):
        logging.getLogger("aiokafka.conn").error("no broker")
    logging.getLogger("aiokafka.conn").warning("unimportant")
    logging.getLogger("alembic.runtime").info("unimportant")
    logging.getLogger("sglang.srt.plugins").info("unimportant")
    logging.getLogger("niyama").info("ours")
    shown = logged(capfd)
    assert shown.count("no broker") == 1
    assert "INFO niyama: ours" in shown
    assert "unimportant" not in shown


@pytest.mark.usefixtures("restored")
def test_the_errors_of_one_library_do_not_hide_those_of_another(
    capfd: pytest.CaptureFixture[str],
) -> None:
    configure_logging("info", "text")
    for library in ("opentelemetry", "aiokafka", "opentelemetry", "aiokafka"):
        logging.getLogger(library).error("%s is away", library)
    lines = logged(capfd).splitlines()
    assert [line.split(": ")[-1] for line in lines] == ["opentelemetry is away", "aiokafka is away"]


@pytest.mark.usefixtures("restored")
def test_libraries_do_not_log_what_the_level_excludes(capfd: pytest.CaptureFixture[str]) -> None:
    configure_logging("error", "text")
    logging.getLogger("uvicorn.error").warning("a client left")
    assert logged(capfd) == ""


@pytest.mark.usefixtures("restored")
def test_debug_shows_libraries_too(capfd: pytest.CaptureFixture[str]) -> None:
    configure_logging("debug", "text")
    for _ in range(3):
        logging.getLogger("aiokafka.consumer").debug("detail")
    assert logged(capfd).count("detail") == 3


@pytest.mark.usefixtures("restored")
@pytest.mark.parametrize("name", ["aiokafka.producer.producer", "aiokafka.conn"])
def test_what_is_sent_to_kafka_is_not_logged_even_at_debug(
    capfd: pytest.CaptureFixture[str], name: str
) -> None:
    configure_logging("debug", "text")
    logging.getLogger(name).debug("Sending (value=b'a prompt')")
    assert logged(capfd) == ""


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
def test_what_is_not_a_terminal_gets_json(capfd: pytest.CaptureFixture[str]) -> None:
    configure_logging("info")
    logging.getLogger("niyama").info("ours")
    assert json.loads(logged(capfd))["message"] == "ours"


@pytest.mark.usefixtures("restored")
def test_warnings_of_libraries_are_lines_of_the_log(capfd: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        configure_logging("info", "json")
        warnings.warn("only on CUDA", UserWarning, stacklevel=1)
        logging.captureWarnings(False)
    line = json.loads(logged(capfd))
    assert (line["logger"], line["level"]) == ("py.warnings", "warning")
    assert line["message"].startswith("UserWarning: only on CUDA (")
    assert "warnings.warn" not in line["message"]


@pytest.mark.usefixtures("restored")
def test_an_error_that_nobody_caught_is_one_line_without_secrets(
    capfd: pytest.CaptureFixture[str],
) -> None:
    configure_logging("info", "json", {"database-pw"})
    log_uncaught_errors()
    error = OSError("cannot connect with database-pw")
    sys.excepthook(OSError, error, None)
    threading.excepthook(threading.ExceptHookArgs((OSError, error, None, None)))
    process, thread = map(json.loads, logged(capfd).splitlines())
    assert process["level"] == thread["level"] == "critical"
    assert process["exception"] == "OSError: cannot connect with ***"
    assert "database-pw" not in str(thread)


@pytest.mark.usefixtures("restored")
def test_ctrl_c_is_no_error(capfd: pytest.CaptureFixture[str]) -> None:
    configure_logging("info", "text")
    log_uncaught_errors()
    sys.excepthook(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert logged(capfd).endswith("INFO root: interrupted\n")
