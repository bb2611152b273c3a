"""SGLang's processes log as ours do."""

import json
import logging
import logging.config
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from niyama.logs import configure_logging
from tests.support.logs import logged, restored_logging
from workers.runtime.engine.logs import (
    CONFIG_VARIABLE,
    log_as_ours,
    logging_variables,
    own_logging,
)


@pytest.fixture
def restored() -> Iterator[None]:
    with restored_logging(), own_logging():
        yield


@pytest.mark.usefixtures("restored")
def test_a_process_of_sglang_logs_json_where_the_worker_does(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    configure_logging("info", "json")
    variables = logging_variables(str(tmp_path), "warning")
    logging.config.dictConfig(json.loads(Path(variables[CONFIG_VARIABLE]).read_text()))
    logging.getLogger("sglang.srt").warning("KV cache is full")
    logging.getLogger("sglang.srt").info("a batch")
    (line,) = logged(capfd).splitlines()
    assert json.loads(line)["message"] == "KV cache is full"


@pytest.mark.usefixtures("restored")
def test_what_sglang_says_while_it_is_imported_is_json_too(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    configure_logging("info", "json")
    variables = logging_variables(str(tmp_path), "warning")
    monkeypatch.setenv(CONFIG_VARIABLE, variables[CONFIG_VARIABLE])
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        log_as_ours()
        warnings.warn("only on CUDA", UserWarning, stacklevel=1)
        logging.captureWarnings(False)
    assert "only on CUDA" in json.loads(logged(capfd))["message"]


FAILS = """
import logging, multiprocessing
from workers.runtime.engine.logs import log_as_ours

def fail():
    log_as_ours()
    logging.error("the last words")

process = multiprocessing.get_context("fork").Process(target=fail)
process.start()
process.join()
"""


@pytest.mark.usefixtures("restored")
def test_what_a_process_of_sglang_says_last_is_not_lost(tmp_path: Path) -> None:
    configure_logging("info", "json")
    environment = os.environ | logging_variables(str(tmp_path), "warning")
    command = [sys.executable, "-c", FAILS]
    run = subprocess.run(
        command, env=environment, capture_output=True, timeout=60, check=True, text=True
    )
    assert json.loads(run.stderr)["message"] == "the last words"


@pytest.mark.usefixtures("restored")
def test_an_operators_own_configuration_of_sglang_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure_logging("info", "json")
    monkeypatch.setenv(CONFIG_VARIABLE, "/etc/sglang-logging.json")
    assert logging_variables(str(tmp_path), "warning") == {}
