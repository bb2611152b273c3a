"""When reports are published, and what happens when Kafka does not take them. Virtual time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiokafka.errors import KafkaConnectionError

from schemas import LoadReport
from tests.support.loads import load_report
from tests.support.virtual_time import run_in_virtual_time
from workers.load.publisher import PAUSE_S, SEND_LIMIT_S, Connect, LoadPublisher, Send


@dataclass
class Kafka:
    """Keeps when it was sent what; `away` and `frozen` as tests set them."""

    sent: list[tuple[float, bytes | None]] = field(default_factory=list)
    connections: int = 0
    away: bool = False
    frozen: bool = False

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Send]:
        self.connections += 1
        if self.away:
            raise KafkaConnectionError("nobody is there")
        yield self._send

    async def _send(self, value: bytes | None) -> None:
        if self.frozen:
            await asyncio.Event().wait()
        self.sent.append((asyncio.get_running_loop().time(), value))

    @property
    def times_s(self) -> list[float]:
        return [round(at_s, 3) for at_s, _ in self.sent]


def _report() -> LoadReport:
    return load_report()


def publisher(connect: Connect) -> LoadPublisher:
    return LoadPublisher(connect, _report)


def test_once_a_second_and_soon_after_a_change() -> None:
    async def main() -> list[float]:
        kafka = Kafka()
        publishing = publisher(kafka.connection)
        task = asyncio.create_task(publishing.run())
        await asyncio.sleep(2.5)
        for _ in range(10):  # together: one report says it all
            publishing.changed()
        await asyncio.sleep(1.2)
        task.cancel()
        return kafka.times_s

    assert run_in_virtual_time(main()) == [0.0, 1.0, 2.0, 2.5, 3.5]


def test_it_tries_again_when_kafka_was_away_and_gives_up_what_takes_too_long() -> None:
    async def main() -> tuple[list[float], int]:
        kafka = Kafka(away=True)
        task = asyncio.create_task(publisher(kafka.connection).run())
        await asyncio.sleep(PAUSE_S - 1)
        kafka.away, kafka.frozen = False, True
        await asyncio.sleep(1 + SEND_LIMIT_S + 1)  # the first is given up meanwhile
        kafka.frozen = False
        await asyncio.sleep(PAUSE_S)
        task.cancel()
        return kafka.times_s, kafka.connections

    times_s, connections = run_in_virtual_time(main())
    assert times_s[0] == 2 * PAUSE_S + SEND_LIMIT_S
    assert connections == 3


def test_a_worker_that_ends_in_order_deletes_its_report() -> None:
    async def main() -> list[bytes | None]:
        kafka = Kafka()
        publishing = publisher(kafka.connection)
        task = asyncio.create_task(publishing.run())
        await asyncio.sleep(0.1)
        await publishing.withdraw()
        await task
        return [value for _, value in kafka.sent]

    assert run_in_virtual_time(main()) == [load_report().to_bytes(), None]


def test_an_end_does_not_wait_for_a_kafka_that_is_away() -> None:
    async def main() -> float:
        publishing = publisher(Kafka(away=True).connection)
        task = asyncio.create_task(publishing.run())
        await asyncio.sleep(1)
        await publishing.withdraw()
        task.cancel()
        return asyncio.get_running_loop().time()

    assert run_in_virtual_time(main()) == 3.0
