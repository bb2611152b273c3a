"""Records that the ledger can take nothing from, on their way to the topic of dead letters.

Best effort: the ledger never waits for them, what waits is bounded, and what Kafka does not take is
dropped with a warning. The original stays in its topic for as long as that retains it.
"""

import asyncio
import logging
from collections import Counter, deque
from typing import Protocol

from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from gateway.ledger.records import Unusable
from gateway.settings import GatewaySettings
from niyama import kafka
from niyama.dead_letters import DeadLetter, dead_letter
from niyama.logs import Throttle
from niyama.retry import retry
from schemas.event import LEDGER

log = logging.getLogger(__name__)

MAX_WAITING = 1000
MAX_WAITING_BYTES = 32 * 1024 * 1024
"""Of values, at least one."""
BATCH = 100
SEND_TIMEOUT_MS = 15_000


class Sender(Protocol):
    """What an AIOKafkaProducer does for dead letters."""

    async def send_and_wait(
        self, topic: str, value: bytes | None, key: bytes | None, *, headers: object
    ) -> object: ...


class DeadLetters:
    """A bounded queue, and the task that empties it."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._settings = settings
        self.topic = settings.topics.dead_letters.name
        self.refusals: Counter[str] = Counter()
        """Records that were refused, by the code of the error."""
        self._waiting: deque[DeadLetter] = deque()
        self._waiting_bytes = 0
        self.dropped = 0
        self._wake = asyncio.Event()
        self._stopping = False
        self._refusals, self._drops = Throttle(), Throttle()

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def put(self, unusable: Unusable) -> None:
        """Queue the record's dead letter, or drop it when too many wait."""
        record, error = unusable.record, unusable.error
        self.refusals[error.code] += 1
        self._refusals.warning(log, "refused %s: %s", kafka.source_of(record), error.message)
        letter = dead_letter(record, error, LEDGER)
        size = len(letter.value or b"")
        full = len(self._waiting) >= MAX_WAITING or self._waiting_bytes + size > MAX_WAITING_BYTES
        if self._waiting and full:
            self._drop("more of them than Kafka takes")
            return
        self._waiting.append(letter)
        self._waiting_bytes += size
        self._wake.set()

    def stop(self) -> None:
        """End `run` once what waits was tried."""
        self._stopping = True
        self._wake.set()

    async def run(self) -> None:
        """Send until `stop`. Kafka may come and go."""
        await retry(self._session, KafkaError, notice="dead letters wait for Kafka", log=log)

    async def _session(self) -> None:
        if self._stopping:
            return
        producer = kafka.producer(
            # Not idempotent: such a producer is of no use after some errors.
            self._settings,
            enable_idempotence=False,
            request_timeout_ms=SEND_TIMEOUT_MS,
        )
        try:
            await producer.start()
            while self._waiting or not self._stopping:
                await self.send_waiting(producer)
                self._wake.clear()
                if not self._stopping and not self._waiting:
                    await self._wake.wait()
        finally:
            await producer.stop()

    async def send_waiting(self, producer: Sender) -> None:
        """Send what waits now. Raises KafkaError when Kafka is away; then it still waits."""
        while self._waiting:
            batch = [self._waiting[place] for place in range(min(BATCH, len(self._waiting)))]
            outcomes = await asyncio.gather(
                *(self._send(producer, letter) for letter in batch), return_exceptions=True
            )
            outages = [self._settle(*each) for each in zip(batch, outcomes, strict=True)]
            if error := next(filter(None, outages), None):
                raise error

    def _settle(self, letter: DeadLetter, outcome: object) -> KafkaError | None:
        """Take the first letter off the queue. Returns an error after which it waits again."""
        self._waiting.popleft()
        if isinstance(outcome, KafkaError) and outcome.retriable and not self._stopping:
            self._waiting.append(letter)
            return outcome
        self._waiting_bytes -= len(letter.value or b"")
        if isinstance(outcome, BaseException):
            self._drop(repr(outcome))
        return None

    async def _send(self, producer: Sender, letter: DeadLetter) -> None:
        try:
            await self._write(producer, letter)
        except MessageSizeTooLargeError:
            await self._write(producer, letter.without_value())

    async def _write(self, producer: Sender, letter: DeadLetter) -> None:
        await producer.send_and_wait(self.topic, letter.value, letter.key, headers=letter.headers)

    def _drop(self, reason: str) -> None:
        self.dropped += 1
        self._drops.warning(log, "%d dead letters dropped so far: %s", self.dropped, reason)
