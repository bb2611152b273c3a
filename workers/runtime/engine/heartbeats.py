"""The heartbeats of SGLang's schedulers, as they come out of its detokenizer."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from workers.engine.watchdog import Watchdog, Watched
from workers.runtime.messages import replica_of

HandleOutput = Callable[[Any], Awaitable[None]]
"""SGLang's `TokenizerManager._handle_batch_output`."""


class Heartbeats:
    """Signs of life of each scheduler, one per data-parallel rank."""

    def __init__(self, watchdog: Watchdog) -> None:
        self._watchdog = watchdog
        self._replicas: dict[int, Watched] = {}
        self.expect(0)

    def expect(self, replica: int) -> Watched:
        if replica not in self._replicas:
            self._replicas[replica] = self._watchdog.watch("SGLang")
        return self._replicas[replica]

    def taken_from(self, handle: HandleOutput) -> HandleOutput:
        """`handle`, which gets every output of the detokenizer, without the heartbeats."""

        async def handle_others(output: Any) -> None:
            # SGLang never puts a heartbeat and a request's output together.
            if (replica := replica_of(output.rids[0]) if output.rids else None) is not None:
                self.expect(replica).alive()
            else:
                await handle(output)

        return handle_others


def states(pids: list[int]) -> str:
    """What the system says about processes, for finding out why one of them hangs."""
    return ", ".join(f"{pid} {_state(pid)}" for pid in pids)


def _state(pid: int) -> str:
    """Name and state, such as `sglang::schedul T (stopped)`."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return "is gone"
    fields = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    return f"{fields['Name']} {fields['State']}"
