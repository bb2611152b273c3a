"""The worker's end of the scheduler's decisions; `messages.DecisionSender` is the other."""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

import zmq
import zmq.asyncio
from pydantic import ValidationError

from niyama.logs import Throttle
from workers.engine.load import EngineLoad
from workers.engine.port import EngineDead
from workers.policy.decision import Decision
from workers.runtime import messages

log = logging.getLogger(__name__)

_FINAL_DECISIONS_MS = 500
"""How long the final decisions of a scheduler that died are waited for."""
LOAD_LIMIT_S = 5.0
"""Schedulers say once a second how busy they are. One that has not for so long hangs, or computes
something very long."""


class DecisionInbox:
    """A ZeroMQ socket that the scheduler's process sends to. One reader at a time."""

    def __init__(self, address: str, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` gives monotonic seconds."""
        self.address = address
        self._clock = clock
        self._loads: dict[int, tuple[EngineLoad, float]] = {}
        """By data-parallel rank, with when it came."""
        self._throttle = Throttle()
        self._socket = zmq.asyncio.Context.instance().socket(zmq.PULL)

    @property
    def loads(self) -> dict[int, EngineLoad]:
        """How busy each scheduler is, by data-parallel rank.

        Empty while one of them has said nothing for LOAD_LIMIT_S: the others are not all there is.
        """
        oldest_s = self._clock() - LOAD_LIMIT_S
        if any(came_s < oldest_s for _, came_s in self._loads.values()):
            return {}
        return {rank: load for rank, (load, _) in self._loads.items()}

    def open(self) -> None:
        """Start to receive."""
        self._socket.bind(self.address)

    async def next(self, death: asyncio.Future[str]) -> list[Decision]:
        """The decisions of the next message, if any; none when `death` comes first.

        Raises EngineDead, with the reason, when `death` is done and nothing is left to read.
        """
        # What a scheduler decided before it died is read before its death is reported.
        if death.done() and not await self._socket.poll(_FINAL_DECISIONS_MS):
            raise EngineDead(death.result())
        receiving: asyncio.Future[bytes] = asyncio.ensure_future(self._socket.recv())
        waiting: set[asyncio.Future[Any]] = {receiving, death}
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            return self._decisions_in(await receiving) if receiving.done() else []
        finally:
            receiving.cancel()

    def _decisions_in(self, message: bytes) -> list[Decision]:
        """A load that cannot be read is passed over: the next one comes in a second."""
        try:
            content = messages.received(message)
        except ValidationError as error:
            self._throttle.warning(log, "how busy the scheduler is cannot be read: %s", error)
            return []
        if isinstance(content, messages.ReplicaLoad):
            self._loads[content.replica] = (content.load, self._clock())
            return []
        return content

    def close(self) -> None:
        self._socket.close(linger=0)
