"""Until when this worker may speak for its partitions.

A process that was stopped for longer than its session (SIGSTOP, a frozen VM) does not know it when
it continues: others have its partitions and run its jobs again, and what it still has to report is
late. So nothing leaves the worker unless the group has confirmed its membership within a session
timeout; otherwise reports are held until the group says whose the partitions are.
"""

import asyncio
import math
from collections.abc import Callable


class Lease:
    """Renewed by whatever proves that this worker is in the group: a commit, an assignment."""

    def __init__(
        self, session_timeout_s: float, on_wanted: Callable[[], None], clock: Callable[[], float]
    ) -> None:
        """`on_wanted` is called when somebody waits for a renewal. `clock` gives seconds that go
        on while the process is stopped."""
        self._session_timeout_s = session_timeout_s
        self._on_wanted = on_wanted
        self._clock = clock
        self._proved_s = -math.inf
        self._renewed = asyncio.Event()

    @property
    def is_valid(self) -> bool:
        return self._age_s() < self._session_timeout_s

    @property
    def is_due(self) -> bool:
        """It is to be renewed, even if there is no other reason to talk to the group."""
        return self._age_s() > self._session_timeout_s / 5

    def renew(self, proved_s: float) -> None:
        """The group has confirmed a request that was sent at `proved_s` by the clock."""
        self._proved_s = max(self._proved_s, proved_s)
        self._renewed.set()

    async def wait_until_valid(self) -> None:
        """Return immediately while the lease is valid."""
        while not self.is_valid:
            self._renewed.clear()
            self._on_wanted()
            await self._renewed.wait()

    def _age_s(self) -> float:
        return self._clock() - self._proved_s
