"""The scheduler's sign of life."""

from collections.abc import Callable

from workers.runtime.messages import HEARTBEAT_S


class Heartbeat:
    """Sent from the scheduler's loop, so that it stops when the loop does; `HEARTBEAT_S` apart."""

    def __init__(self, send: Callable[[], None], clock: Callable[[], float]) -> None:
        """`clock` gives monotonic seconds."""
        self._send = send
        self._clock = clock
        self._next_s = clock()

    def turn(self) -> None:
        """The loop starts another turn."""
        now_s = self._clock()
        if now_s >= self._next_s:
            self._next_s = now_s + HEARTBEAT_S
            self._send()
