"""Streamed output of one job: tokens are buffered briefly, so that a record carries several."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

from schemas import TokenChunk
from workers.engine.port import GenerationUpdate
from workers.reporting.job_attempt import JobAttempt
from workers.reporting.reporter import Reporter

LINGER_S = 0.02


class TokenStream:
    """Publishes token chunks: the first immediately, later ones at most every `LINGER_S`."""

    def __init__(self, reporter: Reporter, attempt: JobAttempt, clock: Callable[[], float]) -> None:
        """`clock` gives UTC epoch seconds. They are written into chunks; nothing waits by them."""
        self._reporter = reporter
        self._attempt = attempt
        self._clock = clock
        self._text = ""
        self._token_ids: list[int] = []
        self._index = 0
        self._loop = asyncio.get_running_loop()
        self._next_s = self._loop.time()
        """When the next chunk may follow, by the loop's clock."""
        self._timer: asyncio.TimerHandle | None = None

    def add(self, update: GenerationUpdate) -> None:
        """Publish the update's tokens, immediately or within `LINGER_S`."""
        self._text += update.text_delta
        self._token_ids += update.token_ids
        if update.finish_reason is not None:
            self._publish(update.finish_reason.value)
            return
        wait_s = self._next_s - self._loop.time()
        if wait_s <= 0:
            self._publish(None)
        elif self._timer is None:
            self._timer = self._loop.call_later(wait_s, self._publish, None)

    def close(self) -> None:
        """Publish nothing more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _publish(self, finish_reason: str | None) -> None:
        self.close()
        self._next_s = self._loop.time() + LINGER_S
        chunk = TokenChunk(
            job_id=self._attempt.job_id,
            attempt=self._attempt.number,
            source=self._attempt.source,
            at=datetime.fromtimestamp(self._clock(), UTC),
            index=self._index,
            text=self._text,
            token_ids=self._token_ids,
            finish_reason=finish_reason,
        )
        self._index += len(self._token_ids)
        self._text, self._token_ids = "", []
        self._reporter.tokens(self._attempt, chunk)
