"""Which jobs run by themselves after workers have died, and when.

A suspect (see `workers.offsets.attempts`) runs on trial: no other suspect, and nothing else that a
dead worker may have been working on, is given to the engine from before it is prepared until its
first token. Jobs that already run, and new ones that no dead worker can have seen, go on beside
it. A trial is short, so that those that wait for theirs get it soon, the closest deadline first.
But its time does not run out while the engine is silent: the job may have hung it, and what
hangs is declared dead much later.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from workers.execution.in_flight import InFlightJob

SILENT_AFTER_S = 2.0
"""An engine that has shown no sign of life for so long may hang."""
CHECK_INTERVAL_S = 1.0
"""How often to look whether a silent engine has shown a sign of life."""
PREPARE_LIMIT_S = 10.0
"""For preparing a job, during a trial or beside those that wait for one."""
START_LIMIT_S = 3.0
"""For the engine to start on a prepared job; if it has more urgent ones, the trial is put off."""
RUN_LIMIT_S = 10.0
"""A job that has run for so long without a token has survived."""


class Trials:
    """At most one trial at a time, and bounded waits for all others."""

    def __init__(
        self, on_over: Callable[[InFlightJob], None], silence_s: Callable[[], float]
    ) -> None:
        """`on_over` is called when a trial has reached its time limit; `silence_s` is that of
        the engine."""
        self._on_over = on_over
        self._silence_s = silence_s
        self._next_check: asyncio.TimerHandle | None = None
        self._current: InFlightJob | None = None
        self._limit: asyncio.TimerHandle | None = None
        self._waiting: dict[InFlightJob, asyncio.Future[bool]] = {}
        self._held_back: list[asyncio.Future[None]] = []
        self._preparing: set[object] = set()
        self.closed = False
        """The engine is dead: what would run next is not to be blamed for it."""

    @property
    def on(self) -> bool:
        """A trial is being held."""
        return self._current is not None

    @property
    def engine_is_silent(self) -> bool:
        """It hangs, perhaps, or is dead."""
        return self._silence_s() >= SILENT_AFTER_S

    # ---- suspects

    async def turn(self, job: InFlightJob, timeout_s: float | None) -> bool:
        """Return True when the trial of `job` begins: call `end` after it, whatever happens.

        False when it is not to be run any more: withdrawn, or not begun within `timeout_s`.
        """
        turn: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting[job] = turn
        self._begin_next()
        try:
            async with asyncio.timeout(timeout_s):
                return await turn
        except TimeoutError:
            return False
        finally:
            self._waiting.pop(job, None)

    def withdraw(self, job: InFlightJob) -> None:
        """Let `job` wait no longer, if it does."""
        turn = self._waiting.pop(job, None)
        if turn is not None and not turn.done():
            turn.set_result(False)

    def take(self, job: InFlightJob) -> bool:
        """Begin the trial of a job that was put off and starts now. False: not possible now."""
        if self.closed or self._current is not None or self._preparing:
            return False
        self._begin(job)
        return True

    def limit(self, job: InFlightJob, limit_s: float) -> None:
        """The trial of `job`, if it is on, is over after `limit_s` from now.

        Later if the engine is silent by then: once it has shown a sign of life.
        """
        if self._current is job:
            self._stop_limit()
            loop = asyncio.get_running_loop()
            self._limit = loop.call_later(limit_s, self._limit_reached, job)

    def _limit_reached(self, job: InFlightJob) -> None:
        if self.engine_is_silent:
            self.limit(job, CHECK_INTERVAL_S)
        else:
            self._on_over(job)

    def end(self, job: InFlightJob) -> None:
        """The trial of `job` is over, or will not be held. Safe to call again."""
        if self._current is not job:
            return
        self._stop_limit()
        self._current = None
        # First those that it has held back, so that many trials do not starve them.
        for held_back in self._held_back:
            if not held_back.done():
                held_back.set_result(None)
        self._begin_next()

    def close(self) -> None:
        """Hold no more trials."""
        self.closed = True

    # ---- the others

    @asynccontextmanager
    async def beside(self) -> AsyncIterator[None]:
        """Prepare a job that may be what killed a worker: not during a trial."""
        loop, token = asyncio.get_running_loop(), object()
        if self.on:
            held_back = loop.create_future()
            self._held_back.append(held_back)
            try:
                await held_back
                self._preparing.add(token)
            finally:
                self._held_back.remove(held_back)
                self._begin_next()
        self._preparing.add(token)
        limit = loop.call_later(PREPARE_LIMIT_S, self._prepared, token)
        try:
            yield
        finally:
            limit.cancel()
            self._prepared(token)

    def _prepared(self, token: object) -> None:
        self._preparing.discard(token)
        self._begin_next()

    # ---- turns

    def _begin_next(self) -> None:
        waiting = [job for job, turn in self._waiting.items() if not turn.done()]
        if self.closed or self._current or self._preparing or self._held_back or not waiting:
            return
        if self.engine_is_silent:  # whatever has silenced it is not to be blamed on the next
            self._check_again()
            return
        job = min(waiting, key=lambda job: (job.spec.qos.deadline_s, job.request_id))
        self._waiting[job].set_result(True)
        self._begin(job)

    def _begin(self, job: InFlightJob) -> None:
        self._current = job
        self.limit(job, PREPARE_LIMIT_S)

    def _check_again(self) -> None:
        if self._next_check is None:
            loop = asyncio.get_running_loop()
            self._next_check = loop.call_later(CHECK_INTERVAL_S, self._checked)

    def _checked(self) -> None:
        self._next_check = None
        self._begin_next()

    def _stop_limit(self) -> None:
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None
