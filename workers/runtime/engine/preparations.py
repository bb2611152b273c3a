"""Threads that tokenize requests, or check them: chats before batch work, then by deadline.

A batch prompt may take a second, and a refill brings a thousand of them. So one of the threads is
for interactive requests alone. What waits here is bounded by the jobs that the worker takes.
"""

import asyncio
import heapq
import threading
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from typing import Generic, TypeVar

from workers.engine.port import EngineDead, GenerationRequest, NotPrepared
from workers.policy.decision import Decision

T = TypeVar("T")


@dataclass(slots=True, eq=False)
class _Preparation(Generic[T]):
    request: GenerationRequest
    since_s: float
    outcome: "Future[T]" = field(default_factory=Future)

    def begin(self) -> bool:
        """False: it is no longer wanted."""
        return not self.outcome.done() and self.outcome.set_running_or_notify_cancel()

    def fail(self, error: Exception) -> None:
        """Tell its waiter. Without effect once there is an outcome."""
        with suppress(InvalidStateError):
            self.outcome.set_exception(error)

    def run(self, prepare: Callable[[GenerationRequest], T]) -> None:
        try:
            prepared = prepare(self.request)
        except BaseException as error:
            with suppress(InvalidStateError):
                self.outcome.set_exception(error)
        else:
            with suppress(InvalidStateError):  # it has been cancelled, or the engine was closed
                self.outcome.set_result(prepared)

    def expire(self, now_s: float) -> bool:
        """Whether it has expired while it waited; then that is its outcome.

        The scheduler drops those that come too late, with a forecast.
        """
        qos = self.request.qos
        if qos.expires_s is None or not self.since_s <= qos.expires_s < now_s:
            return False
        decision = Decision.expired(self.request.request_id, qos, now_s)
        self.fail(NotPrepared(decision.reason, decision))
        return True


class Preparations(Generic[T]):
    """Call everything but `prepare`'s function from the event loop."""

    def __init__(
        self,
        prepare: Callable[[GenerationRequest], T],
        *,
        threads: int,
        name: str,
        clock: Callable[[], float],
    ) -> None:
        """`prepare` is called in the threads. With a single one, that takes everything. `clock`
        gives UTC epoch seconds."""
        self._prepare = prepare
        self._clock = clock
        self._interactive: list[tuple[float, int, _Preparation[T]]] = []
        self._batch: list[tuple[float, int, _Preparation[T]]] = []
        self._unfinished: dict[str, _Preparation[T]] = {}
        self._serial = count()
        self._change = threading.Condition()
        self._closed = False
        for number in range(threads):
            # As daemons: one that is stuck must not keep the process from ending.
            threading.Thread(
                target=self._work,
                args=(number > 0 or threads == 1,),
                name=f"{name}-{number}",
                daemon=True,
            ).start()

    async def prepare(self, request: GenerationRequest) -> T:
        """What `prepare` makes of it. Raises what that raises; NotPrepared when the request expired
        or was aborted while it waited; EngineDead when these threads were closed."""
        preparation = _Preparation[T](request, self._clock())
        with self._change:
            if self._closed:
                raise EngineDead("the engine was closed")
            queue = self._interactive if request.qos.is_interactive else self._batch
            heapq.heappush(queue, (request.qos.deadline_s, next(self._serial), preparation))
            self._unfinished[request.request_id] = preparation
            self._change.notify_all()
        try:
            return await asyncio.wrap_future(preparation.outcome)
        finally:
            self._unfinished.pop(request.request_id, None)

    def abort(self, request_id: str) -> bool:
        """Whether the request is here. One that waits ends as NotPrepared; one that is being
        prepared is left alone."""
        with self._change:
            preparation = self._unfinished.get(request_id)
            if preparation is not None and not preparation.outcome.running():
                preparation.fail(NotPrepared("aborted"))
        return preparation is not None

    def close(self) -> None:
        """Everything here raises EngineDead. Threads end with what they are preparing."""
        with self._change:
            self._closed = True
            for preparation in self._unfinished.values():
                preparation.fail(EngineDead("the engine was closed"))
            self._change.notify_all()

    # ---- in the threads

    def _work(self, takes_batch: bool) -> None:
        while (preparation := self._next(takes_batch)) is not None:
            if not preparation.expire(self._clock()):
                preparation.run(self._prepare)

    def _next(self, takes_batch: bool) -> _Preparation[T] | None:
        """The most urgent one that somebody still waits for. None: closed."""
        with self._change:
            while not self._closed:
                queue = self._interactive or (self._batch if takes_batch else [])
                if not queue:
                    self._change.wait()
                elif (preparation := heapq.heappop(queue)[-1]).begin():
                    return preparation
        return None
