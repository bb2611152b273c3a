"""The task that settles open jobs which no worker will report on. See `reconciliation`."""

import asyncio
import contextlib
import logging
from datetime import timedelta

from aiokafka.errors import KafkaError

from gateway.database import UNREACHABLE
from gateway.ledger.reconciliation import Reconciliation, Seen, connected
from gateway.settings import GatewaySettings
from niyama.retry import retry
from niyama.waiting import is_set_within

log = logging.getLogger(__name__)

INTERVAL = timedelta(seconds=60)
"""Between two looks at all open jobs, by all gateways of a pool together."""
RETRY_S = 5.0
"""After a cancellation that had to wait for what the ledger has not read."""
CANCELLING_TIMEOUT_S = 30.0
"""What is not cancelled by then waits for the next pass: the look at open jobs comes between."""
PASS_TIMEOUT_S = 90.0


class Reconciler:
    """Ends queued jobs as soon as they are cancelled, and looks at all open jobs now and then."""

    def __init__(self, settings: GatewaySettings, interval: timedelta = INTERVAL) -> None:
        self._settings = settings
        self._interval = interval
        self._wake = asyncio.Event()
        self._stopping = False
        self._seen = Seen()

    def wake(self) -> None:
        """A queued job is to be cancelled."""
        self._wake.set()

    def stop(self) -> None:
        """End `run` after the current pass."""
        self._stopping = True
        self._wake.set()

    async def run(self) -> None:
        """Reconcile until `stop`. Kafka and Postgres may come and go."""
        outages = (KafkaError, *UNREACHABLE)
        await retry(self._passes, *outages, notice="open jobs cannot be reconciled yet", log=log)

    async def _passes(self) -> None:
        wait_s = 0.0  # an error, or an earlier process, may have left something to do
        while not self._stopping:
            await is_set_within(self._wake, wait_s)
            if self._stopping:
                return
            self._wake.clear()
            async with asyncio.timeout(PASS_TIMEOUT_S):
                all_cancelled = await self._pass()
            wait_s = self._interval.total_seconds() if all_cancelled else RETRY_S

    async def _pass(self) -> bool:
        """Returns whether every queued job that was cancelled has ended."""
        async with connected(self._settings) as reconciliation:
            all_cancelled = await _cancel_queued(reconciliation)
            if await reconciliation.take_turn(self._interval):
                self._seen = await reconciliation.look_at_open_jobs(self._seen)
        return all_cancelled


async def _cancel_queued(reconciliation: Reconciliation) -> bool:
    """Returns whether every queued job that was cancelled has ended."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(CANCELLING_TIMEOUT_S):
            return await reconciliation.cancel_queued()
    return False
