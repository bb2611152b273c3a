"""What SGLang's child processes do differently when a worker is their parent.

The children share the worker's process group, so that a Ctrl-C in a terminal or a SIGTERM from a
service manager reaches them too. They leave both to the worker, which drains first.
"""

import multiprocessing
import os
import signal
from typing import Any

from workers.runtime.engine.logs import log_as_ours


def run_scheduler(*args: Any, **kwargs: Any) -> None:
    """The scheduler process."""
    log_as_ours()
    _ignore_signals_and_die_with_parent()
    from sglang.srt.managers.scheduler import run_scheduler_process

    run_scheduler_process(*args, **kwargs)


def run_detokenizer(*args: Any, **kwargs: Any) -> None:
    """The detokenizer process."""
    log_as_ours()
    _ignore_signals_and_die_with_parent()
    from sglang.srt.managers.detokenizer_manager import run_detokenizer_process

    run_detokenizer_process(*args, **kwargs)


def _ignore_signals_and_die_with_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    from sglang.srt.utils import kill_itself_when_parent_died

    kill_itself_when_parent_died()
    # The parent may have died during this process's imports, before the line above.
    parent = multiprocessing.parent_process()
    if parent is not None and os.getppid() != parent.pid:
        os._exit(1)
