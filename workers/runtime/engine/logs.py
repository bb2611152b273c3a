"""Logging in SGLang's processes, which are to log as ours do.

SGLang also configures the root logger of the process that starts it. Ours stays as it is.
"""

import contextlib
import json
import logging
import logging.config
import os
from collections.abc import Iterator, Mapping
from multiprocessing.util import Finalize
from pathlib import Path

from niyama.log_lines import LineFormatter

CONFIG_VARIABLE = "SGLANG_LOGGING_CONFIG_PATH"
"""Of SGLang: a file for `logging.config.dictConfig`, in each of its processes."""
_QUIET = ("httpx", "httpcore", "huggingface_hub", "flashinfer")


def logging_variables(folder: str, level: str) -> Mapping[str, str]:
    """What to add to the environment of SGLang's processes; what the user has set stays.

    They log as this process does, messages of `level` and above. A file in `folder` says so.
    """
    formatters = [handler.formatter for handler in logging.getLogger().handlers]
    ours = next((each for each in formatters if isinstance(each, LineFormatter)), None)
    if ours is None or CONFIG_VARIABLE in os.environ:
        return {}
    line_format = {"()": "niyama.log_lines.LineFormatter", "line_format": ours.line_format}
    config = {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"ours": line_format},
        "handlers": {"stderr": {"class": "niyama.log_writer.LineHandler", "formatter": "ours"}},
        "root": {"level": level.upper(), "handlers": ["stderr"]},
        "loggers": {name: {"level": "WARNING"} for name in _QUIET},
    }
    path = Path(folder) / "logging.json"
    path.write_text(json.dumps(config))
    return {CONFIG_VARIABLE: str(path)}


def log_as_ours() -> None:
    """Log as the worker does in a process of SGLang, from its imports on: these warn already."""
    if path := os.environ.get(CONFIG_VARIABLE):
        logging.config.dictConfig(json.loads(Path(path).read_text()))
    logging.captureWarnings(True)
    # Such a process ends without what others do at their exit: its last lines, why it failed, would
    # be lost.
    Finalize(None, logging.shutdown, exitpriority=0)


@contextlib.contextmanager
def own_logging() -> Iterator[None]:
    """Keep this process's log handlers and level, which SGLang replaces by its own."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
