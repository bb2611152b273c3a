"""How many records are written together: as many as Postgres takes in time."""

import contextlib
import logging
from collections.abc import Callable, Iterator

import asyncpg

from gateway.postgres.connection import STATEMENT_TIMEOUT_S

log = logging.getLogger(__name__)

GROWTH_LIMIT_S = STATEMENT_TIMEOUT_S / 2
"""Twice of what took less is within the timeout."""
TOO_MUCH = (
    asyncpg.QueryCanceledError,
    TimeoutError,
    asyncpg.OutOfMemoryError,
    asyncpg.ConnectionDoesNotExistError,  # as when the kernel kills a server without memory
)
"""What may be about the size of a transaction: a smaller one may well succeed."""


class PollSize:
    """Halved by a transaction that is too much for Postgres, doubled by one that is not."""

    def __init__(self, largest: int, clock: Callable[[], float]) -> None:
        """`clock` gives seconds."""
        self._limit = largest
        self._clock = clock

    def at_most(self, records: int) -> int:
        """`records`, or fewer when Postgres did not take as many."""
        return min(records, self._limit)

    @contextlib.contextmanager
    def learning(self, records: int) -> Iterator[None]:
        """Around a transaction with so many records."""
        started_s = self._clock()
        try:
            yield
        except TOO_MUCH:
            self._limit = max(1, records // 2)
            log.warning(
                "Postgres did not take %d records at once; now it gets at most %d",
                *(records, self._limit),
            )
            raise
        if self._clock() - started_s < GROWTH_LIMIT_S:
            self._limit = max(self._limit, 2 * records)
