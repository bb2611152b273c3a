"""The worker's end of the scheduler's decisions; `messages.DecisionSender` is the other."""

import asyncio
import logging
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


class DecisionInbox:
    """A ZeroMQ socket that the scheduler's process sends to. One reader at a time."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.loads: dict[int, EngineLoad] = {}
        """How busy each scheduler was when it last said so, by data-parallel rank."""
        self._throttle = Throttle()
        self._socket = zmq.asyncio.Context.instance().socket(zmq.PULL)

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
            self.loads[content.replica] = content.load
            return []
        return content

    def close(self) -> None:
        self._socket.close(linger=0)
