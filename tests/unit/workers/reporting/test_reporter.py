"""Events, dead letters, and results that are too large for a topic."""

import weakref

from schemas import EventType, JobError, JobEvent, JobResult, headers
from schemas.message import MAX_EXPLANATION_CHARACTERS
from schemas.topics import MAX_RECORD_BYTES, MAX_VALUE_BYTES
from tests.support.records import TOPICS, FakeRecord
from tests.support.senders import FakeSender
from workers.reporting.job_attempt import JobAttempt
from workers.reporting.outgoing import OutgoingRecord
from workers.reporting.reporter import Reporter


def test_a_result_that_no_topic_accepts_fails_the_job_with_a_reason(
    reporter: Reporter, sender: FakeSender, attempt: JobAttempt
) -> None:
    result = JobResult(text="x" * MAX_VALUE_BYTES, finish_reason="length")
    reporter.event(attempt, EventType.COMPLETED, result=result)
    event = JobEvent.model_validate_json(sender.values()[0])
    assert event.error is not None
    assert (event.type, event.result, event.error.code) == (EventType.FAILED, None, "too_large")
    assert "fewer tokens" in event.error.message


def test_a_result_that_waits_to_be_sent_is_held_as_bytes_alone(
    reporter: Reporter, sender: FakeSender, attempt: JobAttempt
) -> None:
    result = JobResult(text="x", finish_reason="length")
    alive = weakref.ref(result)
    reporter.event(attempt, EventType.COMPLETED, result=result)
    del result
    assert alive() is None
    smaller = sender.records[0][1].smaller
    assert smaller is not None
    event = JobEvent.model_validate_json(smaller().value or b"")
    assert event.error is not None
    assert event.error.code == "too_large"


def test_no_reason_makes_an_event_that_no_topic_accepts(
    reporter: Reporter, sender: FakeSender, attempt: JobAttempt
) -> None:
    huge = "x" * MAX_VALUE_BYTES
    reporter.event(attempt, EventType.CANCELLED, reason=huge)
    reporter.event(attempt, EventType.FAILED, error=JobError(code="engine_error", message=huge))
    cancelled, failed = [JobEvent.model_validate_json(value) for value in sender.values()]
    assert (cancelled.type, cancelled.reason) == (
        EventType.CANCELLED,
        "x" * MAX_EXPLANATION_CHARACTERS,
    )
    assert failed.error == JobError(code="engine_error", message="x" * MAX_EXPLANATION_CHARACTERS)


def test_a_refusal_is_finished_only_after_dead_letter_and_event(
    reporter: Reporter, sender: FakeSender, attempt: JobAttempt
) -> None:
    finished: list[bool] = []
    error = JobError(code="invalid_request", message="no é")
    reporter.refused(FakeRecord(b"\xff"), attempt, error, lambda: finished.append(True), at_s=1.0)
    ((topic, letter),) = sender.records
    assert (topic, letter.value, letter.key) == (TOPICS.dead_letters.name, b"\xff", b"key")
    sender.deliver(0)
    assert not finished
    assert sender.records[1][0] == TOPICS.events.name
    sender.deliver(1)
    assert finished == [True]


def test_a_dead_letter_keeps_the_record_s_headers_and_says_where_it_was(
    reporter: Reporter, sender: FakeSender
) -> None:
    stale = (headers.REASON, b"of an earlier time")
    reporter.refused(
        FakeRecord(b"x", headers=(("mine", b"1"), stale)),
        None,
        JobError(code="invalid_json", message="why"),
        lambda: None,
        at_s=1.0,
    )
    assert sender.records[0][1].headers == [
        ("mine", b"1"),
        (headers.REASON, b"why"),
        (headers.REASON_CODE, b"invalid_json"),
        (headers.SOURCE_TOPIC, b"niyama.default.interactive"),
        (headers.SOURCE_PARTITION, b"3"),
        (headers.SOURCE_OFFSET, b"7"),
        (headers.WORKER_ID, b"w"),
    ]


def test_the_dead_letter_of_a_record_as_large_as_topics_accept_only_locates_it(
    reporter: Reporter, sender: FakeSender
) -> None:
    error = JobError(code="too_large", message="why")
    reporter.refused(FakeRecord(bytes(MAX_VALUE_BYTES)), None, error, lambda: None, at_s=1.0)
    letter = sender.records[0][1]
    assert letter.value is None
    assert (headers.SOURCE_OFFSET, b"7") in letter.headers


def test_a_dead_letter_that_its_topic_finds_too_large_leaves_out_its_value_only(
    reporter: Reporter, sender: FakeSender
) -> None:
    error = JobError(code="invalid_json", message="why")
    reporter.refused(FakeRecord(b"large"), None, error, lambda: None, at_s=1.0)
    letter = sender.records[0][1]
    assert letter.smaller is not None
    smaller = letter.smaller()
    assert (smaller.key, smaller.value, smaller.headers) == (b"key", None, letter.headers)


def test_a_null_header_is_an_empty_one_in_the_dead_letter(
    reporter: Reporter, sender: FakeSender
) -> None:
    error = JobError(code="invalid_json", message="why")
    reporter.refused(
        FakeRecord(b"x", headers=(("mine", None),)), None, error, lambda: None, at_s=1.0
    )
    assert sender.records[0][1].headers[0] == ("mine", b"")


def test_no_record_makes_a_dead_letter_that_a_topic_rejects(
    reporter: Reporter, sender: FakeSender
) -> None:
    huge = bytes(MAX_VALUE_BYTES)
    record = FakeRecord(
        huge[:-1], key=huge, headers=(("a", huge), ("b", b"kept"), ("c" * 99, huge))
    )
    error = JobError(code="invalid_request", message="\ud800" * 100_000)
    reporter.refused(record, None, error, lambda: None, at_s=1.0)
    letter = sender.records[0][1]
    assert letter.size_bytes < MAX_RECORD_BYTES
    assert ("b", b"kept") in letter.headers
    assert (headers.DROPPED_HEADERS, b"2") in letter.headers
    assert (headers.SOURCE_OFFSET, b"7") in letter.headers


def test_headers_and_key_count_towards_what_waits_to_be_sent() -> None:
    record = OutgoingRecord(bytes(1_000), b"", 0, [("n" * 500, bytes(2_000))])
    assert record.size_bytes >= 3_500
