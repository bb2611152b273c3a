"""One job's life in a worker, as its events tell it."""

import pytest

from schemas import EventType
from schemas.decode import job_id_of_record
from tests.support.records import TRACEPARENT
from tests.support.workers import Harness

TRACE = ("traceparent", TRACEPARENT)


async def test_a_job_is_admitted_started_and_completed_in_order(harness: Harness) -> None:
    await harness.worker()
    job_id = await harness.publish(max_tokens=5)
    await harness.until_ended(job_id)
    assert harness.types(job_id) == [
        EventType.ADMITTED,
        EventType.STARTED,
        EventType.FIRST_TOKEN,
        EventType.COMPLETED,
    ]
    completed = harness.events_of(job_id)[-1]
    assert completed.result.text == "null " * 5
    assert completed.result.finish_reason == "length"
    assert completed.usage.completion_tokens == 5
    assert completed.largest_gap_ms is not None
    assert completed.attempt == 1
    assert completed.source.topic == harness.settings.topics.interactive.name
    times = [event.at for event in harness.events_of(job_id)]
    assert times == sorted(times)


async def test_the_end_says_where_the_time_went(harness: Harness) -> None:
    # Its record comes before anybody reads the topic: it waits in Kafka.
    job_id = await harness.publish(max_tokens=5)
    await harness.worker()
    await harness.until_ended(job_id)
    _, _, first, completed = harness.events_of(job_id)
    to_first, rest = completed.times.until_first_token, completed.times.until_end
    assert to_first.publish_s is None
    assert to_first.queue_s > 0
    after_s = sum(rest.model_dump(exclude_none=True).values())
    assert after_s == pytest.approx((completed.at - first.at).total_seconds(), abs=0.1)


async def test_events_are_keyed_by_job_and_carry_its_trace_context(harness: Harness) -> None:
    await harness.worker()
    job_id = await harness.publish()
    traced = b'{"schema_version": 1, "model": "null", "qos": "q2", "prompt": "hi"}'
    await harness.send(traced, headers=[TRACE, ("other", b"x")])
    await harness.until(lambda: len(harness.event_records) >= 8, "the events of two jobs")
    for event, record in zip(harness.events, harness.event_records, strict=True):
        assert record.key == str(event.job_id).encode()
        assert record.headers == (() if event.job_id == job_id else (TRACE,))


async def test_a_streamed_job_publishes_every_token_once_and_in_order(harness: Harness) -> None:
    await harness.worker()
    job_id = await harness.publish(max_tokens=60, stream=True)
    await harness.until(
        lambda: any(chunk.finish_reason for chunk in harness.chunks), "the last chunk of the stream"
    )
    chunks = [chunk for chunk in harness.chunks if chunk.job_id == job_id]
    assert "".join(chunk.text for chunk in chunks) == "null " * 60
    assert [chunk.index for chunk in chunks] == [
        sum(len(earlier.token_ids) for earlier in chunks[:n]) for n in range(len(chunks))
    ]
    assert chunks[-1].finish_reason == "length"
    assert 2 <= len(chunks) < 60  # several tokens a record, and not all in one


async def test_a_prompt_of_token_ids_is_answered_with_token_ids(harness: Harness) -> None:
    await harness.worker()
    job_id = await harness.publish(prompt=None, input_ids=[1, 2, 3], max_tokens=2)
    (completed,) = await harness.until_ended(job_id)
    assert completed.result.token_ids == [0, 0]
    assert completed.usage.prompt_tokens == 3


async def test_a_job_without_an_id_gets_the_one_that_the_ledger_derives(harness: Harness) -> None:
    await harness.worker()
    await harness.send(b'{"model": "null", "qos": "chat", "prompt": "hi"}')
    await harness.until_ended(job_id_of_record(harness.settings.topics.interactive.name, 0, 0))
