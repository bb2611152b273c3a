"""An engine in a process of its own (`tests/integration/runtime/lonely.py`), and talking to it."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.runtime import exists

SCRIPT = Path(__file__).parents[1] / "integration" / "runtime" / "lonely.py"
PATIENCE_S = 600
"""A process that takes longer, from its start to its end, hangs."""


class Lonely:
    """The process: what it is asked, and what it says."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self.process = process
        self._stdin, self._stdout = process.stdin, process.stdout

    def said(self) -> str:
        """The next line; empty when it has ended."""
        return self._stdout.readline().rstrip("\n")

    def generated(self, prompts: Mapping[str, Sequence[int]], chats_after_s: float) -> Any:
        """What it says of these prompts, the chats among them sent so much later."""
        asked = {"prompts": prompts, "chats_after_s": chats_after_s}
        self._stdin.write(json.dumps(asked) + "\n")
        self._stdin.flush()
        return json.loads(self.said())


@contextmanager
def lonely_engine(
    model: Path, arguments: Sequence[str], environment: Mapping[str, str] | None = None
) -> Iterator[Lonely]:
    """It leads a process group; it is killed in the end, and when it hangs."""
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", str(SCRIPT), str(model), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | dict(environment or {}),
        text=True,
        start_new_session=True,
    )
    too_long = threading.Timer(PATIENCE_S, process.kill)
    too_long.start()
    try:
        yield Lonely(process)
    finally:
        too_long.cancel()
        process.kill()
        process.communicate()


def wait_until_gone(pids: Iterable[int], limit_s: float = 120) -> None:
    end_s = time.monotonic() + limit_s
    while left := [pid for pid in pids if exists(pid)]:
        assert time.monotonic() < end_s, f"SGLang's processes outlived their engine: {left}"
        time.sleep(0.05)
