"""Events, dead letters, and results that are too large to travel."""

from collections.abc import Callable
from typing import Any

import pytest

from schemas import EventType, JobError, JobEvent, JobResult, PoolTopics, headers
from workers.reporting.reporter import MAX_EVENT_BYTES, Reporter, Subject

TOPICS = PoolTopics.of("default")


@pytest.fixture
def reporter(outbox: Any) -> Reporter:
    return Reporter(outbox, TOPICS, worker_id="w", pool="default", clock=lambda: 1.5)


def test_a_result_that_no_topic_carries_fails_the_job_with_a_reason(
    reporter: Reporter, outbox: Any, subject: Subject
) -> None:
    result = JobResult(text="x" * MAX_EVENT_BYTES, finish_reason="length")
    reporter.event(subject, EventType.COMPLETED, result=result)
    event = JobEvent.model_validate_json(outbox.records[0][1].value)
    assert (event.type, event.result, event.error.code) == (EventType.FAILED, None, "too_large")
    assert "fewer tokens" in event.error.message


def test_a_refusal_is_finished_only_after_dead_letter_and_event(
    reporter: Reporter, outbox: Any, subject: Subject, record: Callable[..., Any]
) -> None:
    finished: list[bool] = []
    error = JobError(code="invalid_request", message="no é")
    reporter.refused(record(b"\xff"), subject, error, lambda: finished.append(True))
    ((topic, letter),) = outbox.records
    assert (topic, letter.value, letter.key) == (TOPICS.dead_letters.name, b"\xff", b"key")
    letter.on_delivered()
    assert not finished
    topic, event = outbox.records[1]
    assert topic == TOPICS.events.name
    event.on_delivered()
    assert finished == [True]


def test_a_dead_letter_keeps_the_record_s_headers_and_says_where_it_was(
    reporter: Reporter, outbox: Any, record: Callable[..., Any]
) -> None:
    stale = (headers.REASON, b"of an earlier time")
    reporter.refused(
        record(b"x", headers=(("mine", b"1"), stale)),
        None,
        JobError(code="invalid_json", message="why"),
        lambda: None,
    )
    assert outbox.records[0][1].headers == [
        ("mine", b"1"),
        (headers.REASON, b"why"),
        (headers.REASON_CODE, b"invalid_json"),
        (headers.SOURCE_TOPIC, b"niyama.default.interactive"),
        (headers.SOURCE_PARTITION, b"3"),
        (headers.SOURCE_OFFSET, b"7"),
        (headers.WORKER_ID, b"w"),
    ]


def test_a_record_as_large_as_a_topic_carries_is_told_of_by_its_place(
    reporter: Reporter, outbox: Any, record: Callable[..., Any]
) -> None:
    error = JobError(code="too_large", message="why")
    reporter.refused(record(bytes(MAX_EVENT_BYTES)), None, error, lambda: None)
    letter = outbox.records[0][1]
    assert letter.value is None
    assert (headers.SOURCE_OFFSET, b"7") in letter.headers
