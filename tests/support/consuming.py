"""The ledger at work in the test's own process."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from gateway.ledger.consumer import LedgerConsumer
from gateway.ledger.reconciler import Reconciler
from gateway.ledger.writer import Written
from gateway.settings import GatewaySettings


@asynccontextmanager
async def consuming(settings: GatewaySettings, **options: Any) -> AsyncIterator[LedgerConsumer]:
    """A consumer at work; `options` are its other arguments."""
    consumer = LedgerConsumer(settings, **options)
    task = asyncio.create_task(consumer.run())
    try:
        yield consumer
    finally:
        consumer.stop()
        await asyncio.wait_for(task, 60)


@asynccontextmanager
async def consuming_and_reconciling(settings: GatewaySettings) -> AsyncIterator[LedgerConsumer]:
    """A consumer, and the reconciler that it wakes."""
    reconciler = Reconciler(settings)

    def wake(written: Written) -> None:
        if written.to_cancel:
            reconciler.wake()

    task = asyncio.create_task(reconciler.run())
    try:
        async with consuming(settings, on_written=wake) as consumer:
            yield consumer
            reconciler.stop()
            await asyncio.wait_for(task, 60)
    finally:
        task.cancel()
