"""A gateway's ledger consumer that stops itself within its first transaction that ends a job.

`python -m tests.support.freezing_consumer`, with a gateway's variables. SIGCONT lets it go on.
Its session and its transaction time out sooner than a gateway's.
"""

import asyncio
import os
import signal
from typing import Any

from gateway.ledger import consumer, reply_outbox
from gateway.ledger.consumer import LedgerConsumer
from gateway.postgres import connection
from gateway.settings import GatewaySettings

SESSION_TIMEOUT_MS = 6_000  # the least that brokers allow
IDLE_IN_TRANSACTION_S = 2.0


def freeze_once() -> None:
    """Stop this process when the ledger has locked the rows of a transaction."""
    add = reply_outbox.add

    async def freeze(*arguments: Any) -> int:
        reply_outbox.add = add
        os.kill(os.getpid(), signal.SIGSTOP)
        return await add(*arguments)

    reply_outbox.add = freeze


if __name__ == "__main__":
    consumer.SESSION_TIMEOUT_MS = SESSION_TIMEOUT_MS
    connection.IDLE_IN_TRANSACTION_S = IDLE_IN_TRANSACTION_S
    freeze_once()
    asyncio.run(LedgerConsumer(GatewaySettings()).run())
