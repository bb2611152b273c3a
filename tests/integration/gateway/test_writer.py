"""What the ledger's transactions leave in Postgres."""

import json
from collections.abc import Sequence
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from gateway.ledger import history_partitions
from gateway.ledger.projection import JobPatch
from gateway.ledger.records import Cancellation, Entry, Report, Submission
from gateway.ledger.rows import JOB_COLUMNS, job_row
from gateway.ledger.writer import OffsetStep, StaleOffsetsError, Written, write
from schemas import JobEvent
from schemas.event import LEDGER
from tests.support.ledger import START, after, report, request, submission
from tests.support.polls import Log, replies, row
from tests.support.records import TRACEPARENT


async def test_events_that_come_before_the_job_are_kept_and_completed(
    postgres: asyncpg.Connection, log: Log
) -> None:
    job_id = uuid4()
    await log.write(report(job_id, "admitted", 1), report(job_id, "started", 2))
    early = await row(postgres, job_id)

    await log.write(submission(job_id, tenant="acme"))
    late = await row(postgres, job_id)

    assert (early["status"], early["arrived_at"]) == ("running", None)
    assert (late["status"], late["arrived_at"], late["tenant"]) == ("running", START, "acme")
    assert late["admitted_at"] == after(1)


async def test_an_event_that_comes_twice_counts_once(
    postgres: asyncpg.Connection, log: Log
) -> None:
    job_id = uuid4()
    relegated, end = report(job_id, "relegated"), report(job_id, "expired", reason="too late")

    await log.write(relegated, end, relegated, end)
    written = await log.write(end, relegated)

    job = await row(postgres, job_id)
    assert (job["relegations"], job["terminal_events"], job["status"]) == (1, 1, "expired")
    assert job["outcome_reason"] == "too late"
    assert written.ended == ()
    assert await postgres.fetchval("SELECT count(*) FROM job_events") == 2


async def test_where_the_time_went_comes_with_the_first_end_and_stays(
    postgres: asyncpg.Connection, log: Log
) -> None:
    submitted = submission(uuid4())
    times = {"until_end": {"queue_s": 1.5}}
    first = report(submitted.job_id, "expired", 2, times=times, trace_id="a" * 32)
    await log.write(submitted, first)
    later = {"until_end": {"waiting_s": 9.0}}
    await log.write(report(submitted.job_id, "failed", 9, times=later, trace_id="b" * 32))

    found = await row(postgres, submitted.job_id)

    assert json.loads(found["times"]) == times
    assert found["trace_id"] == "a" * 32


@pytest.mark.parametrize("together", [True, False])
async def test_a_job_that_two_gateways_end_at_different_times_is_answered_once(
    postgres: asyncpg.Connection, log: Log, together: bool
) -> None:
    submitted = submission(uuid4(), reply_topic="answers")
    await log.write(submitted)
    ends = [
        report(submitted.job_id, "cancelled", at, worker_id=LEDGER, event_id=submitted.job_id)
        for at in (2, 1)
    ]

    if together:
        written = [await log.write(*ends)]
    else:
        written = [await log.write(ends[0])]
        await postgres.execute("DELETE FROM reply_outbox")  # the relay has sent it
        written.append(await log.write(ends[1]))

    assert [job_id for each in written for job_id in each.ended] == [submitted.job_id]
    assert sum(each.replies for each in written) == 1
    assert len(await replies(postgres)) == together
    assert (await row(postgres, submitted.job_id))["finished_at"] == after(2)


async def test_events_of_two_jobs_may_have_one_id(postgres: asyncpg.Connection, log: Log) -> None:
    event_id, jobs = uuid4(), [uuid4(), uuid4()]
    ends = [report(job_id, "completed", event_id=event_id) for job_id in jobs]

    written = await log.write(*ends)

    assert set(written.ended) == set(jobs)


async def test_the_first_result_stays(postgres: asyncpg.Connection, log: Log) -> None:
    job_id = uuid4()
    first = {"text": "first", "token_ids": [1, 2], "finish_reason": "stop"}
    second = {"text": "second", "finish_reason": "length", "logprobs": [{"a": 1}]}

    await log.write(report(job_id, "completed", 1, result=first))
    await log.write(report(job_id, "completed", 2, result=second))

    job = await row(postgres, job_id)
    result = await postgres.fetchrow("SELECT * FROM job_results WHERE job_id = $1", job_id)
    assert (job["finish_reason"], job["terminal_events"]) == ("stop", 2)
    assert (result["text"], result["token_ids"], result["logprobs"]) == ("first", [1, 2], None)


async def test_results_of_one_poll_may_have_tokens_of_any_length(
    postgres: asyncpg.Connection, log: Log
) -> None:
    tokens: list[list[int] | None] = [[1], [], None, [1, 2, 3]]
    ends = [
        report(uuid4(), "completed", result={"text": "", "token_ids": ids, "finish_reason": "stop"})
        for ids in tokens
    ]

    await log.write(*ends)

    stored = await postgres.fetch("SELECT job_id, token_ids FROM job_results")
    assert {found["job_id"]: found["token_ids"] for found in stored} == {
        end.event.job_id: ids for end, ids in zip(ends, tokens, strict=True)
    }


async def test_a_zombie_gateway_writes_nothing(postgres: asyncpg.Connection, log: Log) -> None:
    end = report(uuid4(), "completed")
    await log.write()

    with pytest.raises(StaleOffsetsError):
        await write(postgres, [end], [OffsetStep("topic", 0, 0, 5)])

    assert await postgres.fetchval("SELECT count(*) FROM jobs") == 0
    assert await postgres.fetchval("SELECT next_offset FROM ledger_offsets") == 1


async def test_a_queued_job_that_is_cancelled_ends_by_the_ledger_s_event(
    postgres: asyncpg.Connection, log: Log
) -> None:
    job_id = uuid4()
    await log.write(submission(job_id, reply_topic="answers"))

    asked = await log.write(Cancellation(job_id, START))
    open_still = await row(postgres, job_id)
    ended = await log.write(report(job_id, "cancelled", worker_id=LEDGER))
    await log.write(report(job_id, "cancelled", 3))  # the worker agrees, later

    job = await row(postgres, job_id)
    assert (asked, open_still["status"]) == (Written((), 0, to_cancel=1), "queued")
    assert (job["status"], job["finished_at"], job["attempt"]) == ("cancelled", START, 0)
    assert job["terminal_events"] == 1  # the worker's does not count as a duplicate
    counted = {"cancelled": 1}
    assert ended == Written(ended=(job_id,), replies=1, to_cancel=0, endings=counted)
    reply = await postgres.fetchval("SELECT value FROM reply_outbox")
    assert JobEvent.model_validate_json(reply).type == "cancelled"


async def test_a_cancellation_that_comes_before_its_job_is_remembered(log: Log) -> None:
    job_id = uuid4()
    before = await log.write(Cancellation(job_id, START))
    after = await log.write(submission(job_id))

    assert (before.to_cancel, after.to_cancel) == (0, 1)


async def test_a_running_job_is_cancelled_by_its_worker_only(
    postgres: asyncpg.Connection, log: Log
) -> None:
    job_id = uuid4()
    await log.write(submission(job_id), report(job_id, "admitted"), Cancellation(job_id, START))

    job = await row(postgres, job_id)
    assert (job["status"], job["cancel_requested_at"]) == ("admitted", START)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
@pytest.mark.parametrize("together", [True, False])
async def test_a_reply_is_written_once_whichever_record_comes_first(
    postgres: asyncpg.Connection,
    log: Log,
    order: tuple[int, int],
    together: bool,
) -> None:
    job_id = uuid4()
    entries = [submission(job_id, reply_topic="answers"), report(job_id, "completed")]
    ordered = [entries[number] for number in order]

    if together:
        sent = (await log.write(*ordered)).replies
    else:
        sent = sum([(await log.write(entry)).replies for entry in ordered])
    await postgres.execute("UPDATE reply_outbox SET attempts = 7")
    await log.write(*entries, *reversed(entries), report(job_id, "failed"))

    assert sent == 1
    assert await replies(postgres) == [(job_id, "answers")]
    outbox = await postgres.fetchrow("SELECT * FROM reply_outbox")
    assert outbox["value"] == entries[1].value
    assert json.loads(outbox["headers"]) == [["traceparent", TRACEPARENT.decode()]]
    assert outbox["attempts"] == 7


async def test_a_job_without_a_reply_topic_gets_no_reply(
    postgres: asyncpg.Connection, log: Log
) -> None:
    first, second = uuid4(), uuid4()
    await log.write(submission(first), report(first, "completed"), report(second, "completed"))
    held = await replies(postgres)
    await log.write(submission(second))

    assert held == [(second, None)]
    assert await replies(postgres) == []


async def test_a_reply_that_was_sent_is_not_sent_again(
    postgres: asyncpg.Connection, log: Log
) -> None:
    job_id = uuid4()
    entries = [submission(job_id, reply_topic="answers"), report(job_id, "completed")]
    await log.write(*entries)
    await postgres.execute("DELETE FROM reply_outbox")  # what the relay does

    await log.write(*entries, submission(job_id, reply_topic="answers"))

    assert await replies(postgres) == []


async def test_events_go_to_the_partition_of_their_day(
    postgres: asyncpg.Connection, log: Log
) -> None:
    await history_partitions.ensure_partitions(postgres, START.date())
    await history_partitions.ensure_partitions(postgres, START.date())
    await log.write(report(uuid4(), "admitted"), report(uuid4(), "admitted", 400 * 86_400))

    counts = await postgres.fetch("SELECT tableoid::regclass::text AS day FROM job_events")
    assert sorted(found["day"] for found in counts) == ["job_events_20261121", "job_events_default"]


async def test_a_day_with_events_in_the_default_partition_stays_there(
    postgres: asyncpg.Connection, log: Log
) -> None:
    await log.write(report(uuid4(), "admitted"))

    await history_partitions.ensure_partitions(postgres, START.date())

    names = await postgres.fetch("SELECT relname FROM pg_class WHERE relname LIKE 'job_events_2%'")
    days = {found["relname"] for found in names if "pkey" not in found["relname"]}
    assert len(days) == history_partitions.DAYS_AHEAD + 1  # all but one
    assert "job_events_20261121" not in days


KINDS = ("admitted", "started", "first_token", "relegated", "restored", "parked", "retried")


OWN = {"topic": "jobs", "partition": 0, "offset": 7}
ANOTHER = OWN | {"partition": 1}


@st.composite
def histories(draw: st.DrawFn) -> list[Entry]:
    """Entries of one job, in some order; the ends come in the order in which they are drawn.

    They name the job's record, or they all leave that to the record.
    """
    job_id = draw(st.uuids(version=4))
    source = draw(st.sampled_from((OWN, None)))
    drawn = st.tuples(st.sampled_from(KINDS), st.integers(0, 3), st.integers(1, 3), st.booleans())
    steps = draw(st.lists(drawn, max_size=6, unique=True))
    ends = draw(st.lists(_an_end, max_size=2))
    entries: list[Entry] = [
        _report(job_id, kind, second, attempt, with_usage, source)
        for kind, second, attempt, with_usage in steps
    ]
    entries += [Submission(job_id, request(source_offset=7, metadata={"k": "v"}))] * 2
    entries = list(draw(st.permutations(entries)))
    position = 0
    for number, (kind, attempt, with_usage) in enumerate(ends):
        position = draw(st.integers(position, len(entries)))
        entries.insert(position, _report(job_id, kind, 5 + number, attempt, with_usage, source))
        position += 1
    return entries


_an_end = st.tuples(st.sampled_from(("completed", "failed")), st.integers(0, 3), st.booleans())
"""Attempt 0: the ledger ends the job."""


def _report(
    job_id: UUID,
    kind: str,
    second: int,
    attempt: int,
    with_usage: bool,
    source: dict[str, object] | None,
) -> Report:
    usage = {"prompt_tokens": 5, "completion_tokens": second}
    measured = {"usage": usage, "largest_gap_ms": 10.5 * second} if with_usage else {}
    worker_id = f"worker-{second}" if attempt else LEDGER
    return report(
        job_id, kind, second, attempt=attempt or 1, worker_id=worker_id, source=source, **measured
    )


def _foreign(job_id: UUID) -> st.SearchStrategy[Entry]:
    """Entries about another record with the same id."""
    events = st.tuples(st.sampled_from((*KINDS, "completed", "failed")), st.integers(1, 4)).map(
        lambda drawn: _report(job_id, drawn[0], 9, drawn[1], True, ANOTHER)
    )
    return events | st.just(
        Submission(job_id, request(source_partition=1, source_offset=7, tenant="thief"))
    )


def folded(entries: Sequence[Entry]) -> dict[str, Any]:
    """The row that the entries make when they are merged without Postgres."""
    patch: JobPatch | None = None
    for entry in entries:
        if isinstance(entry, Submission):
            patch = patch or JobPatch(entry.job_id)
            patch.submit(entry.request)
        elif isinstance(entry, Report):
            patch = patch or JobPatch(entry.event.job_id)
            patch.report(entry.event)
    assert patch is not None
    return dict(zip(JOB_COLUMNS, job_row(patch), strict=True)) | {
        "abandoned_at": None,
        "reply_dropped_at": None,
    }


@given(entries=histories(), data=st.data())
@hypothesis_settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_any_grouping_and_repetition_makes_the_same_row(
    postgres: asyncpg.Connection, entries: list[Entry], data: st.DataObject
) -> None:
    """In Postgres, poll by poll with repetitions, and in memory, all together without any."""
    await write_in_some_polls(postgres, entries, data)

    expected = folded(entries)
    assert dict(await row(postgres, expected["job_id"])) == expected


@given(entries=histories(), data=st.data())
@hypothesis_settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_what_is_about_another_record_changes_nothing(
    postgres: asyncpg.Connection, entries: list[Entry], data: st.DataObject
) -> None:
    own = next(entry for entry in entries if isinstance(entry, Submission))
    entries = [own, *entries]  # the job is its record's
    foreign = data.draw(st.lists(_foreign(own.job_id), min_size=1, max_size=4))
    mixed = list(entries)
    for entry in foreign:
        mixed.insert(data.draw(st.integers(1, len(mixed))), entry)

    await write_in_some_polls(postgres, mixed, data)

    assert dict(await row(postgres, own.job_id)) == folded(entries)
    history = {entry.event.event_id for entry in entries if isinstance(entry, Report)}
    stored = await postgres.fetch("SELECT event_id FROM job_events")
    assert {found["event_id"] for found in stored} == history


async def write_in_some_polls(
    postgres: asyncpg.Connection, entries: Sequence[Entry], data: st.DataObject
) -> None:
    """Into empty tables; some entries come more than once."""
    await postgres.execute("TRUNCATE jobs, job_events, job_results, reply_outbox, ledger_offsets")
    await postgres.execute("INSERT INTO ledger_offsets VALUES ('topic', 0, 0)")
    log = Log(postgres)
    written = 0
    while written < len(entries):
        until = data.draw(st.integers(written + 1, len(entries)))
        again = data.draw(st.lists(st.sampled_from(entries[:until]), max_size=3))
        await log.write(*entries[written:until], *again)
        written = until
