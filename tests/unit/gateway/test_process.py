"""How a gateway lives with parts that fail, and ends with parts that hang."""

import asyncio
import logging
import socket
from collections.abc import Mapping

import pytest
import uvicorn

from gateway import process
from gateway.database import engine
from gateway.process import Gateway, Part, keep_running, together
from gateway.settings import GatewaySettings
from niyama import Producer
from niyama.telemetry.telemetry import Telemetry


class Flaky:
    """A part's `run` that fails some times, then ends."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.runs = 0

    async def __call__(self) -> None:
        self.runs += 1
        if self.runs <= self.failures:
            raise AttributeError("a defect")


async def test_a_part_that_fails_is_tried_again_and_its_defect_is_logged_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(process, "RETRY_INTERVAL_S", 0)
    run = Flaky(failures=3)

    await keep_running(run, "the part", asyncio.Event())

    assert run.runs == 4
    (record,) = caplog.records
    assert record.getMessage() == "the part failed; starting it again"
    assert record.exc_info is not None


async def test_a_part_that_fails_while_the_gateway_stops_is_left_alone() -> None:
    stopping = asyncio.Event()
    stopping.set()
    run = Flaky(failures=3)

    await keep_running(run, "the part", stopping)

    assert run.runs == 1


async def test_when_one_fails_the_others_end_before_its_error_is_raised() -> None:
    ended = asyncio.Event()

    async def waits() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def fails() -> None:
        await asyncio.sleep(0)
        raise ValueError("first")

    with pytest.raises(ValueError, match="first"):
        await together(waits(), fails())

    assert ended.is_set()


class Hung:
    """A part that notices neither that it should stop nor that it is cancelled."""

    def __init__(self) -> None:
        self.running = asyncio.Event()
        self.released = asyncio.Event()

    async def run(self) -> None:
        self.running.set()
        while not self.released.is_set():
            try:
                await self.released.wait()
            except asyncio.CancelledError:
                logging.getLogger(__name__).debug("ignored")

    def stop(self) -> None:
        pass


class ConnectedProducer(Producer):
    """One that needs no Kafka."""

    async def __aenter__(self) -> "ConnectedProducer":
        return self

    async def __aexit__(self, *_: object) -> None:
        pass


class Server(uvicorn.Server):
    """One that serves nothing, until it should exit."""

    def __init__(self) -> None:
        super().__init__(uvicorn.Config(app=""))

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        while not self.should_exit:
            await asyncio.sleep(0)


@pytest.fixture
def prepared(monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing(_: GatewaySettings) -> None:
        pass

    for name in ("prepare_kafka", "prepare_postgres"):
        monkeypatch.setattr(process, name, nothing)


def gateway_of(
    parts: Mapping[str, Part], without_postgres: Mapping[str, Part] | None = None
) -> Gateway:
    settings = GatewaySettings()
    return Gateway(
        settings,
        engine(settings, 1),
        ConnectedProducer(),
        parts,
        without_postgres or {},
        Server(),
        asyncio.Event(),
        Telemetry(settings, "test", settings.pool),
    )


class Working:
    """A part that runs until it should stop."""

    def __init__(self) -> None:
        self.running = asyncio.Event()
        self.stopping = asyncio.Event()

    async def run(self) -> None:
        self.running.set()
        await self.stopping.wait()

    def stop(self) -> None:
        self.stopping.set()


@pytest.mark.usefixtures("prepared")
async def test_what_needs_only_kafka_works_while_postgres_is_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def wait(_: GatewaySettings) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(process, "prepare_postgres", wait)
    follower, ledger = Working(), Working()
    gateway = gateway_of({"the ledger": ledger}, {"following load reports": follower})

    with socket.socket() as listener:
        running = asyncio.create_task(gateway.run(listener))
        await follower.running.wait()
        gateway.stop()
        assert await running

    assert follower.stopping.is_set()
    assert not ledger.running.is_set()


@pytest.mark.usefixtures("prepared")
async def test_a_part_that_hangs_does_not_keep_the_gateway_from_ending(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(process, "STOP_GRACE_S", 0.01)
    monkeypatch.setattr(process, "CANCEL_GRACE_S", 0.01)
    part = Hung()
    gateway = gateway_of({"it": part})

    with socket.socket() as listener:
        running = asyncio.create_task(gateway.run(listener))
        await part.running.wait()
        gateway.stop()
        all_ended = await running

    assert not all_ended
    part.released.set()
