"""What the relay asks of Postgres and tells it: which replies wait, and what became of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from gateway.ledger.reply_outbox import decode_headers
from gateway.replies.session import Session
from schemas.headers import Headers

_CHUNK_ROWS = 10_000
"""Of statements that may concern any number of rows."""
_BATCH_BYTES = 4 * 1024 * 1024
"""Of the replies that are fetched together."""
_MAX_BACKOFF_S = 300

# A time that is further ahead than any backoff was set by a clock that has been set back since.
_DUE_NOW = f"({{0}} <= now() OR {{0}} > now() + interval '{_MAX_BACKOFF_S} seconds')"

# A row per topic that has replies waiting, found by hopping from one topic to the next in the
# index: a topic of a million replies costs as much as one of a single reply.
_TOPICS = f"""
WITH RECURSIVE waiting AS (
    (SELECT reply_topic, next_try_at, 1 AS place FROM reply_outbox
     WHERE reply_topic IS NOT NULL AND undeliverable_at IS NULL AND reply_topic > $1
     ORDER BY reply_topic, next_try_at LIMIT 1)
    UNION ALL
    SELECT following.reply_topic, following.next_try_at, place + 1
    FROM waiting, LATERAL (
        SELECT reply_topic, next_try_at FROM reply_outbox
        WHERE reply_topic IS NOT NULL AND undeliverable_at IS NULL
            AND reply_topic > waiting.reply_topic
        ORDER BY reply_topic, next_try_at LIMIT 1
    ) AS following
    WHERE place < $2
)
SELECT reply_topic, failing.topic IS NOT NULL AS failing,
    {_DUE_NOW.format("waiting.next_try_at")}
    AND coalesce({_DUE_NOW.format("failing.next_try_at")}, true) AS due
FROM waiting LEFT JOIN failing_reply_topics AS failing ON failing.topic = reply_topic
ORDER BY reply_topic
"""
# Of the rows that come next. The others' turn comes, too.
_DROP_SENT = f"""
DELETE FROM reply_outbox WHERE job_id IN (
    SELECT job_id FROM reply_outbox
    WHERE reply_topic = $1 AND undeliverable_at IS NULL AND {_DUE_NOW.format("next_try_at")}
    ORDER BY next_try_at, job_id LIMIT $2
) AND EXISTS (SELECT FROM replies_sent WHERE job_id = reply_outbox.job_id)
"""
# Up to _BATCH_BYTES, or one row. Nothing, unless this database is the one that the relay caught up
# with Kafka: it may have been restored meanwhile, and then lists replies that were sent. Those that
# were noted as sent are left out after the limit: before it, all of them would be walked over.
_DUE = f"""
SELECT job_id, value, headers
FROM (
    SELECT *, row_number() OVER due AS place, sum(octet_length(value)) OVER due AS bytes
    FROM (
        SELECT job_id, next_try_at, value, headers FROM reply_outbox
        WHERE reply_topic = $1 AND undeliverable_at IS NULL AND {_DUE_NOW.format("next_try_at")}
        ORDER BY next_try_at, job_id LIMIT $4
    ) AS first
    WHERE NOT EXISTS (SELECT FROM replies_sent WHERE job_id = first.job_id)
    WINDOW due AS (ORDER BY next_try_at, job_id)
) AS candidate
WHERE (place = 1 OR bytes <= {_BATCH_BYTES}) AND $3 = (
    SELECT coalesce(max(next_offset), 0) FROM ledger_offsets WHERE topic = $2 AND partition = 0
)
ORDER BY place
"""
_SENT = """
WITH works AS (DELETE FROM failing_reply_topics WHERE topic = $1)
DELETE FROM reply_outbox WHERE job_id = ANY($2)
"""
# After 2, 4, 8 ... seconds.
_BACKOFF = f"least(2 ^ least({{attempts}}, 10), {_MAX_BACKOFF_S}) * interval '1 second'"
_TOPIC_FAILED = f"""
INSERT INTO failing_reply_topics AS old (topic, attempts, next_try_at, error)
VALUES ($1, 1, now() + {_BACKOFF.format(attempts=1)}, $2)
ON CONFLICT (topic) DO UPDATE SET attempts = old.attempts + 1, error = excluded.error,
    next_try_at = now() + {_BACKOFF.format(attempts="old.attempts + 1")}
"""
_REPLY_FAILED = f"""
UPDATE reply_outbox SET attempts = attempts + 1, error = $2,
    failing_since = coalesce(failing_since, now()),
    next_try_at = now() + {_BACKOFF.format(attempts="attempts + 1")},
    undeliverable_at = CASE WHEN failing_since < now() - $3::interval THEN now() END
WHERE job_id = $1
"""
# Nothing is read before the topic has failed for so long, and then only what is as old.
_GIVE_UP = """
UPDATE reply_outbox AS reply SET undeliverable_at = now(), error = failing.error
FROM failing_reply_topics AS failing
WHERE failing.topic = $1 AND reply.job_id IN (
    SELECT job_id FROM reply_outbox
    WHERE reply_topic = $1 AND undeliverable_at IS NULL
        AND next_try_at < now() - $2::interval AND written_at < now() - $2::interval
    LIMIT $3
) AND failing.failing_since < now() - $2::interval
"""
_REFUSE = """
UPDATE reply_outbox SET undeliverable_at = now(), error = $2
WHERE job_id IN (
    SELECT job_id FROM reply_outbox WHERE reply_topic = $1 AND undeliverable_at IS NULL LIMIT $3
)
"""
_FORGET_IDLE_TOPICS = """
DELETE FROM failing_reply_topics AS failing WHERE NOT EXISTS (
    SELECT FROM reply_outbox WHERE reply_topic = failing.topic AND undeliverable_at IS NULL
)
"""


@dataclass(frozen=True, slots=True)
class WaitingTopic:
    """A topic that has replies waiting."""

    name: str
    failing: bool
    """Its last attempt failed."""
    due: bool
    """It may be tried now."""


@dataclass(frozen=True, slots=True, eq=False)
class Reply:
    """A row of the outbox that has a topic."""

    job_id: UUID
    topic: str
    value: bytes
    headers: Headers


class WaitingReplies:
    """The outbox, as the relay sees it.

    Every method raises what asyncpg raises. None of them depends on a lock or a lease: what they
    write is true whichever gateway writes it, however late.
    """

    def __init__(self, session: Session, give_up_after: timedelta) -> None:
        self._session = session
        self._give_up_after = give_up_after

    async def topics(self, after: str, limit: int) -> list[WaitingTopic]:
        """The first `limit` topics whose names sort behind `after`."""
        rows = await self._session.fetch(_TOPICS, after, limit)
        return [WaitingTopic(*row) for row in rows]

    async def drop_sent(self, topic: str, limit: int) -> bool:
        """Of the first `limit` replies to `topic`, drop those that were sent. Returns whether any
        was: the ledger may have read the ends of their jobs again since."""
        return await self._session.execute(_DROP_SENT, topic, limit) != "DELETE 0"

    async def due(self, topic: str, noted: tuple[str, int], limit: int) -> list[Reply]:
        """Those of the first `limit` replies to `topic` that are due and were not sent.

        `noted` says up to where the database has to know of sent replies: a topic and an offset.
        """
        rows = await self._session.fetch(_DUE, topic, *noted, limit)
        return [
            Reply(row["job_id"], topic, row["value"], decode_headers(row["headers"]))
            for row in rows
        ]

    async def sent(self, topic: str, replies: Sequence[Reply]) -> None:
        """These replies are in `topic`, which works."""
        await self._session.execute(_SENT, topic, [reply.job_id for reply in replies])

    async def topic_failed(self, topic: str, reason: str) -> None:
        """Postpone delivery to `topic`; give up what has waited for too long."""
        await self._session.execute(_TOPIC_FAILED, topic, reason)
        await self._in_chunks(_GIVE_UP, topic, self._give_up_after)

    async def failed(self, reply: Reply, reason: str) -> None:
        """Try this reply again later, or give it up. Others to its topic are not concerned."""
        await self._session.execute(_REPLY_FAILED, reply.job_id, reason, self._give_up_after)

    async def refuse(self, topic: str, reason: str) -> None:
        """Give up everything that waits for `topic`."""
        await self._in_chunks(_REFUSE, topic, reason)

    async def forget_idle_topics(self) -> None:
        """Forget the failures of topics for which nothing waits any more."""
        await self._session.execute(_FORGET_IDLE_TOPICS)

    async def _in_chunks(self, statement: str, *arguments: object) -> None:
        while (
            await self._session.execute(statement, *arguments, _CHUNK_ROWS)
            == f"UPDATE {_CHUNK_ROWS}"
        ):
            pass
