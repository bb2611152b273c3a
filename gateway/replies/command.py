"""`niyama replies`: lists undeliverable replies, retries them, or drops them."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar
from uuid import UUID

import asyncpg
from pydantic import Field
from pydantic_settings import CliPositionalArg
from rich.console import Console

from gateway.database import UNREACHABLE, connect
from gateway.replies.undeliverable import Selection, drop, retry
from gateway.settings import DatabaseSettings
from niyama.durations import duration
from niyama.errors import ConfigurationError, UnavailableError
from niyama.log_lines import secrets_of
from niyama.logs import configure_logging

Action = Callable[[asyncpg.Connection, Console], Awaitable[None]]
USAGE = """\
usage: niyama replies list  [--topic TOPIC] [--limit N]
       niyama replies retry [--topic TOPIC] [JOB_ID ...]
       niyama replies drop  [--topic TOPIC] [JOB_ID ...]

list shows the topics that take no replies now, and undeliverable replies.
retry sends undeliverable replies again: all of them, those to a topic, or those of some jobs.
drop deletes undeliverable replies for good: those to a topic, or those of some jobs.

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


class RepliesSettings(DatabaseSettings):
    """What every action takes."""

    topic: str | None = Field(default=None, description="Only replies to this topic")


class ListSettings(RepliesSettings):
    """List topics that take no replies now, and undeliverable replies."""

    unknown_arguments_hint: ClassVar[str] = "GET /v1/jobs/<job_id> shows one job"

    limit: int = Field(default=50, ge=1, le=100_000, description="Lines of each list")


class ChoiceSettings(RepliesSettings):
    """Choose among undeliverable replies."""

    job_ids: CliPositionalArg[list[str]] = Field(
        default=[], description="Only the replies of these jobs"
    )

    @property
    def chosen(self) -> Selection:
        """Raises ConfigurationError."""
        return Selection(self.topic, [_job_id(argument) for argument in self.job_ids])


def main(arguments: list[str]) -> int:
    """Run the command. Raises NiyamaError with a sentence for people."""
    action, *rest = arguments or [""]
    if action not in ACTIONS:
        asked = action in ("-h", "--help")
        (sys.stdout if asked else sys.stderr).write(f"{USAGE}\n")
        return 0 if asked else 2
    settings, run = ACTIONS[action](rest, f"niyama replies {action}")
    configure_logging(
        "warning", "text", secrets_of(settings), line_format="niyama replies: %(message)s"
    )
    asyncio.run(_with_database(settings, run))
    return 0


def _list(arguments: list[str], program: str) -> tuple[RepliesSettings, Action]:
    settings = ListSettings.from_command_line(arguments, program)
    return settings, lambda postgres, console: show(
        postgres, settings.topic, settings.limit, console
    )


def _retry(arguments: list[str], program: str) -> tuple[RepliesSettings, Action]:
    settings = ChoiceSettings.from_command_line(arguments, program)
    chosen = settings.chosen

    async def run(postgres: asyncpg.Connection, console: Console) -> None:
        count = await retry(postgres, chosen)
        console.print(f"retrying {_replies(count)}", soft_wrap=True)

    return settings, run


def _drop(arguments: list[str], program: str) -> tuple[RepliesSettings, Action]:
    settings = ChoiceSettings.from_command_line(arguments, program)
    chosen = settings.chosen
    if chosen == Selection(None, []):
        raise ConfigurationError("choose what to drop: --topic or job ids")

    async def run(postgres: asyncpg.Connection, console: Console) -> None:
        console.print(f"dropped {_replies(await drop(postgres, chosen))}", soft_wrap=True)

    return settings, run


ACTIONS: dict[str, Callable[[list[str], str], tuple[RepliesSettings, Action]]] = {
    "list": _list,
    "retry": _retry,
    "drop": _drop,
}


def _job_id(argument: str) -> UUID:
    try:
        return UUID(argument)
    except ValueError as error:
        raise ConfigurationError(f"{argument!r} is not a job id: job ids are UUIDs") from error


def _replies(count: int) -> str:
    return "1 reply" if count == 1 else f"{count} replies"


async def _with_database(settings: RepliesSettings, action: Action) -> None:
    try:
        connection = await connect(settings, "replies")
        try:
            await action(connection, Console(highlight=False))
        finally:
            await connection.close()
    except (asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError) as error:
        raise ConfigurationError("the database's schema is too old: run niyama migrate") from error
    except UNREACHABLE as error:
        where = settings.shown_database_url
        raise UnavailableError(f"Postgres at {where} does not answer: {error!r}") from error


async def show(
    connection: asyncpg.Connection, topic: str | None, limit: int, console: Console
) -> None:
    """Print what fails and what is undeliverable."""
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
        console.print("Undeliverable replies, most recent first", style="bold")
    for row in undeliverable:
        when = f"{row['undeliverable_at']:%Y-%m-%d %H:%M:%S}"
        line = f"  {when}  {row['job_id']}  {row['reply_topic']}"
        console.print(line, f"    {row['error']}", sep="\n", **_AS_IT_IS)


def _failing_line(row: asyncpg.Record) -> str:
    since = duration(row["failing_for"].total_seconds())
    next_try = duration(max(0.0, row["next_try_in"].total_seconds()))
    return f"  {row['topic']}  {row['count']} waiting, failing for {since}, next try in {next_try}"
