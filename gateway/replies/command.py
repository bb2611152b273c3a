"""`niyama replies`: lists undeliverable replies, and retries them."""

import asyncio
import sys
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, ClassVar
from uuid import UUID

import asyncpg
from pydantic import Field
from rich.console import Console

from gateway.database import UNREACHABLE, connect
from gateway.settings import DatabaseSettings
from niyama.errors import ConfigurationError, UnavailableError
from niyama.logs import configure_logging

ACTIONS = ("list", "retry")
USAGE = """\
usage: niyama replies list  [--topic TOPIC] [--limit N]
       niyama replies retry [--topic TOPIC] [JOB_ID ...]

list shows the topics that take no replies now, and the replies that were given up.
retry sends the ones that were given up again: all of them, those to a topic, or those of some jobs.

`niyama replies list --help` lists the options."""

_AS_IT_IS: Any = {"markup": False, "soft_wrap": True}

_FAILING = """
SELECT topic, error, now() - failing_since AS failing_for, next_try_at - now() AS next_try_in,
    (SELECT count(*) FROM reply_outbox WHERE reply_topic = topic AND undeliverable_at IS NULL)
FROM failing_reply_topics WHERE $1::text IS NULL OR topic = $1 ORDER BY topic LIMIT $2
"""
_UNDELIVERABLE = """
SELECT job_id, reply_topic, undeliverable_at, error FROM reply_outbox
WHERE undeliverable_at IS NOT NULL AND ($1::text IS NULL OR reply_topic = $1)
ORDER BY undeliverable_at DESC, job_id LIMIT $2
"""
_RETRY = """
WITH again AS (
    UPDATE reply_outbox SET undeliverable_at = NULL, failing_since = NULL, error = NULL,
        attempts = 0, next_try_at = now(), written_at = now()
    WHERE undeliverable_at IS NOT NULL AND ($1::text IS NULL OR reply_topic = $1)
        AND (cardinality($2::uuid[]) = 0 OR job_id = ANY($2))
    RETURNING reply_topic
), topics AS (
    DELETE FROM failing_reply_topics
    WHERE topic = $1 OR topic IN (SELECT reply_topic FROM again)
)
SELECT count(*) FROM again
"""


class RepliesSettings(DatabaseSettings):
    """List the replies that cannot be delivered, or retry them."""

    unknown_arguments_hint: ClassVar[str] = "job ids are UUIDs"

    topic: str | None = Field(default=None, description="Only replies to this topic")
    limit: int = Field(default=50, ge=1, le=100_000, description="Lines of each list")


def main(arguments: list[str]) -> int:
    """Run the command. Raises NiyamaError with a sentence for people."""
    if not arguments or arguments[0] not in ACTIONS:
        asked = bool(arguments) and arguments[0] in ("-h", "--help")
        (sys.stdout if asked else sys.stderr).write(f"{USAGE}\n")
        return 0 if asked else 2
    configure_logging("warning", line_format="niyama replies: %(message)s")
    action, *rest = arguments
    job_ids, flags = _split(rest)
    settings = RepliesSettings.from_command_line(flags, f"niyama replies {action}")
    if action == "list" and job_ids:
        raise ConfigurationError("list takes no job ids; GET /v1/jobs/<job_id> shows one job")
    asyncio.run(_run(action, settings, job_ids, Console(highlight=False)))
    return 0


def _split(arguments: Sequence[str]) -> tuple[list[UUID], list[str]]:
    """Job ids, and all other arguments."""
    job_ids, others = [], []
    for argument in arguments:
        try:
            job_ids.append(UUID(argument))
        except ValueError:
            others.append(argument)
    return job_ids, others


async def _run(
    action: str, settings: RepliesSettings, job_ids: Sequence[UUID], console: Console
) -> None:
    try:
        connection = await connect(settings, "replies")
        try:
            if action == "list":
                await show(connection, settings.topic, settings.limit, console)
            else:
                count = await retry(connection, settings.topic, job_ids)
                replies = "1 reply" if count == 1 else f"{count} replies"
                console.print(f"retrying {replies}", soft_wrap=True)
        finally:
            await connection.close()
    except asyncpg.UndefinedTableError as error:
        raise ConfigurationError("the database has no schema yet: run niyama migrate") from error
    except UNREACHABLE as error:
        where = settings.shown_database_url
        raise UnavailableError(f"Postgres at {where} does not answer: {error!r}") from error


async def show(
    connection: asyncpg.Connection, topic: str | None, limit: int, console: Console
) -> None:
    """Print what fails and what was given up."""
    failing = await connection.fetch(_FAILING, topic, limit)
    undeliverable = await connection.fetch(_UNDELIVERABLE, topic, limit)
    if not failing and not undeliverable:
        console.print("no reply topic is failing, and no reply is undeliverable")
        return
    if failing:
        console.print("Topics that take no replies now", style="bold")
    for row in failing:
        console.print(_failing_line(row), f"    {row['error']}", sep="\n", **_AS_IT_IS)
    if undeliverable:
        console.print("Undeliverable replies, the last first", style="bold")
    for row in undeliverable:
        when = f"{row['undeliverable_at']:%Y-%m-%d %H:%M:%S}"
        line = f"  {when}  {row['job_id']}  {row['reply_topic']}"
        console.print(line, f"    {row['error']}", sep="\n", **_AS_IT_IS)


def _failing_line(row: asyncpg.Record) -> str:
    since, next_try = _duration(row["failing_for"]), _duration(row["next_try_in"])
    return f"  {row['topic']}  {row['count']} waiting, failing for {since}, next try in {next_try}"


def _duration(span: timedelta) -> str:
    return str(timedelta(seconds=max(0, round(span.total_seconds()))))


async def retry(connection: asyncpg.Connection, topic: str | None, job_ids: Sequence[UUID]) -> int:
    """Try undeliverable replies again: all, those to `topic`, those of some jobs. Returns how many.

    Topics that they go to, and `topic`, are tried immediately.
    """
    return int(await connection.fetchval(_RETRY, topic, job_ids))
