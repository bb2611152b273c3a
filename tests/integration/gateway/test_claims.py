"""A job's id belongs to the first record that the ledger learns of."""

import asyncio
from uuid import UUID, uuid4

import asyncpg
import pytest

from gateway.ledger.records import Cancellation, Report, Submission
from gateway.ledger.writer import OffsetStep, write
from tests.support.ledger import START, after, report, source, submission
from tests.support.polls import Log, replies, row

RESULT = {"text": "own", "finish_reason": "stop"}
STOLEN = {"text": "stolen", "finish_reason": "stop"}


def two_records() -> tuple[UUID, Submission, Submission]:
    """A job, and a later record with its id that asks for something else."""
    job_id = uuid4()
    own = submission(job_id, tenant="owner", reply_topic="answers")
    other = submission(job_id, source_topic="batch", tenant="thief", reply_topic="elsewhere")
    return job_id, own, other


def about(record: Submission, kind: str, second: float = 0, **more: object) -> Report:
    return report(record.job_id, kind, second, source=source(record), **more)


@pytest.mark.parametrize("together", [True, False])
async def test_a_second_record_and_its_events_change_nothing(
    postgres: asyncpg.Connection, log: Log, together: bool
) -> None:
    job_id, own, other = two_records()
    error = {"code": "wrong_model", "message": "no"}
    foreign = [
        other,
        about(other, "relegated", 1),
        about(other, "failed", 2, attempt=3, error=error),
        about(other, "completed", 3, result=STOLEN),
    ]
    entries = [own, *foreign, about(own, "started", 4), *foreign]
    for poll in [entries] if together else [[entry] for entry in entries]:
        await log.write(*poll)
    running = await row(postgres, job_id)
    written = await log.write(about(own, "completed", 5, result=RESULT), *foreign)

    assert (running["status"], running["tenant"], running["attempt"]) == ("running", "owner", 1)
    assert running["newest_attempt"] == 1
    job = await row(postgres, job_id)
    assert (job["status"], job["finished_at"]) == ("completed", after(5))
    assert (job["terminal_events"], job["relegations"]) == (1, 0)
    assert await postgres.fetchval("SELECT text FROM job_results") == "own"
    assert await postgres.fetchval("SELECT count(*) FROM job_events") == 2
    assert (len(written.ended), written.replies) == (1, 1)
    assert await replies(postgres) == [(job_id, "answers")]


@pytest.mark.parametrize("together", [True, False])
async def test_a_job_whose_events_come_first_is_their_records(
    postgres: asyncpg.Connection, log: Log, together: bool
) -> None:
    job_id, own, other = two_records()
    entries = [about(own, "completed", 1, result=RESULT), other, about(other, "failed", 2), own]
    for poll in [entries] if together else [[entry] for entry in entries]:
        await log.write(*poll)

    job = await row(postgres, job_id)
    assert (job["status"], job["tenant"], job["terminal_events"]) == ("completed", "owner", 1)
    assert await replies(postgres) == [(job_id, "answers")]


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("names_first", [True, False])
async def test_a_refusal_that_comes_first_leaves_the_job_to_the_first_record(
    postgres: asyncpg.Connection, log: Log, together: bool, names_first: bool
) -> None:
    job_id, own, other = two_records()
    refused = about(
        other,
        "failed",
        1,
        error={"code": "duplicate_job_id", "message": "no"},
        duplicate_of=source(own) if names_first else None,
    )
    records = [other, own] if names_first and not together else [own, other]
    entries = [refused, *records, about(own, "completed", 2, result=RESULT)]
    for poll in [entries] if together else [[entry] for entry in entries]:
        await log.write(*poll)

    job = await row(postgres, job_id)
    assert (job["status"], job["tenant"], job["error_code"]) == ("completed", "owner", None)
    assert await postgres.fetchval("SELECT text FROM job_results") == "own"
    assert await replies(postgres) == [(job_id, "answers")]


@pytest.mark.parametrize("names_first", [True, False])
async def test_a_record_that_the_ledger_read_first_ends_by_its_refusal(
    postgres: asyncpg.Connection, log: Log, names_first: bool
) -> None:
    """Nothing else would end it: whatever is about the other record does not count."""
    job_id, own, other = two_records()
    await log.write(own)
    error = {"code": "duplicate_job_id", "message": "no"}
    named = source(other) if names_first else None
    await log.write(about(own, "failed", error=error, duplicate_of=named), other)

    job = await row(postgres, job_id)
    assert (job["status"], job["error_code"]) == ("failed", "duplicate_job_id")
    assert await replies(postgres) == [(job_id, "answers")]


async def test_a_cancellation_in_one_poll_with_a_second_record_counts(
    postgres: asyncpg.Connection, log: Log
) -> None:
    job_id, own, other = two_records()
    await log.write(own)

    await log.write(other, Cancellation(job_id, START), about(other, "started"))

    job = await row(postgres, job_id)
    assert (job["status"], job["cancel_requested_at"]) == ("queued", START)


async def test_an_event_that_names_no_record_counts_for_the_job(
    postgres: asyncpg.Connection, log: Log
) -> None:
    job_id, own, other = two_records()
    await log.write(report(job_id, "admitted"))
    await log.write(own)
    await log.write(other, report(job_id, "started"))

    job = await row(postgres, job_id)
    assert (job["status"], job["tenant"]) == ("running", "owner")


async def test_of_two_gateways_that_write_two_records_at_once_one_gives_way(
    postgres: asyncpg.Connection, database_url: str, log: Log
) -> None:
    """Each has read one of the records, and neither sees what the other has not committed."""
    job_id, own, other = two_records()
    await postgres.execute("INSERT INTO ledger_offsets VALUES ('topic', 1, 0)")
    second = await asyncpg.connect(database_url)
    first_writes = postgres.transaction()
    await first_writes.start()
    await log.write(own)

    step = OffsetStep("topic", 1, 0, 1)
    losing = [other, about(other, "failed"), Cancellation(job_id, START)]
    writing = asyncio.create_task(write(second, losing, [step]))
    await until_blocked(postgres)
    await first_writes.commit()
    async with asyncio.timeout(60):
        await writing
    await second.close()

    job = await row(postgres, job_id)
    assert (job["tenant"], job["status"]) == ("owner", "queued")
    assert job["cancel_requested_at"] == START
    assert await postgres.fetchval("SELECT count(*) FROM job_events") == 0
    assert await postgres.fetchval("SELECT sum(next_offset) FROM ledger_offsets") == 2


async def until_blocked(postgres: asyncpg.Connection) -> None:
    """Return once another session waits for a lock."""
    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
    async with asyncio.timeout(60):
        while not await postgres.fetchval(waiting):
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("together", [True, False])
async def test_the_attempt_that_ended_a_job_keeps_its_own_figures(
    postgres: asyncpg.Connection, log: Log, together: bool
) -> None:
    """The first attempt survives the second, which its worker abandons."""
    job_id, own, _ = two_records()
    entries = [
        own,
        about(own, "admitted", 1),
        about(own, "started", 2),
        about(own, "retried", 10, attempt=2, worker_id="successor"),
        about(own, "started", 11, attempt=2, worker_id="successor"),
        about(own, "completed", 12, usage={"prompt_tokens": 3, "completion_tokens": 7}),
        about(own, "first_token", 3),
        about(own, "cancelled", 13, attempt=2, usage={"prompt_tokens": 3, "completion_tokens": 1}),
    ]
    for poll in [entries] if together else [[entry] for entry in entries]:
        await log.write(*poll)

    job = await row(postgres, job_id)
    assert (job["attempt"], job["newest_attempt"], job["worker_id"]) == (1, 2, "worker-1")
    assert (job["admitted_at"], job["started_at"]) == (after(1), after(2))
    assert (job["first_token_at"], job["completion_tokens"]) == (after(3), 7)
