"""SGLang configures the root logger of the process that starts it. Ours stays as it is."""

import contextlib
import logging
from collections.abc import Iterator


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
