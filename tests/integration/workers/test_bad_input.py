"""A record that cannot be served is answered with a reason and never holds up the next one."""

import dataclasses
import json
from typing import Any
from uuid import uuid4

import pytest

from niyama import kafka
from niyama.errors import ConfigurationError
from schemas import EventType, headers
from schemas.job import MAX_JOB_BYTES
from tests.support.workers import Harness, telemetry_of
from workers.bootstrap import run_worker
from workers.engine.null import NullEngine
from workers.health import Health
from workers.settings import WorkerSettings
from workers.stop import Stop

JOB_ID = uuid4()


def _job(**changes: Any) -> bytes:
    fields = {
        "schema_version": 1,
        "job_id": str(JOB_ID),
        "model": "null",
        "qos": "chat",
        "prompt": "hi",
    } | changes
    return json.dumps({name: value for name, value in fields.items() if value is not ...}).encode()


@pytest.mark.parametrize(
    ("value", "code", "says", "names_job"),
    [
        (b'{"model": ', "invalid_json", "not valid JSON", False),
        (b"\xff\xfe{}", "invalid_json", "not valid JSON", False),
        (_job(prompt="x").replace(b'"x"', b'"\xc3\x28"'), "invalid_json", "unicode", False),
        (b"", "invalid_json", "not valid JSON", False),
        (None, "invalid_json", "empty", False),
        (b"[" * 100_000, "invalid_json", "not valid JSON", False),
        (b"42", "invalid_request", "", False),
        (_job(schema_version=2), "unsupported_schema_version", "use 1", True),
        (_job(qos="gold"), "unknown_qos", "unknown QoS class 'gold'", True),
        (_job(qos=...), "invalid_request", "qos", True),
        (_job(qos={"ttft_ms": 10}), "invalid_request", "give one of: ttft_ms and tbt_ms", True),
        (_job(max_tokens=0), "invalid_request", "max_tokens", True),
        (_job(max_tokens=10**9), "invalid_request", "max_tokens", True),
        (_job(max_tokns=5), "invalid_request", "max_tokns", True),
        (_job(prompt=...), "invalid_request", "exactly one", True),
        (_job(model="gpt-5"), "wrong_model", "which has 'null'", True),
        (_job(prompt="long " * 9000), "prompt_too_long", "8,192", True),
        (_job(prompt="x" * 2 * MAX_JOB_BYTES), "too_large", "at most 1,048,576", True),
    ],
    ids=[
        "cut-off-json",
        "not-utf8",
        "not-utf8-in-a-string",
        "no-bytes",
        "tombstone",
        "deeply-nested",
        "a-number",
        "another-version",
        "unknown-class",
        "no-qos",
        "half-a-qos",
        "no-tokens",
        "huge-max-tokens",
        "unknown-field",
        "no-prompt",
        "another-model",
        "prompt-over-the-context",
        "two-megabytes",
    ],
)
async def test_bad_input_goes_to_dead_letters_with_a_reason(
    harness: Harness, value: bytes | None, code: str, says: str, names_job: bool
) -> None:
    await harness.worker()
    await harness.send(value, key=b"the-key", headers=[("mine", b"1")])
    after = uuid4()
    await harness.send(_job(job_id=str(after)))
    (completed,) = await harness.until_ended(after)
    assert completed.type is EventType.COMPLETED

    await harness.until(lambda: len(harness.dead_letters) == 1, "the dead letter")
    letter = harness.dead_letters[0]
    assert (letter.value, letter.key) == (value, b"the-key")
    received = dict(letter.headers)
    assert received["mine"] == b"1"
    assert received[headers.REASON_CODE] == code.encode()
    assert says in received[headers.REASON].decode()
    assert received[headers.SOURCE_TOPIC].decode() == harness.settings.topics.interactive.name
    assert (received[headers.SOURCE_PARTITION], received[headers.SOURCE_OFFSET]) == (b"0", b"0")

    if names_job:
        (failed,) = await harness.until_ended(JOB_ID)
        assert (failed.type, failed.error.code) == (EventType.FAILED, code)
        assert says in failed.error.message
    else:
        await harness.settle(0.2)
        assert not harness.events_of(JOB_ID)


async def test_refused_records_are_not_refused_again_after_a_restart(harness: Harness) -> None:
    first = await harness.worker()
    await harness.send(b"nonsense")
    await harness.until(lambda: len(harness.dead_letters) == 1, "the dead letter")
    await first.drain()
    await harness.worker()
    await harness.until_ended(await harness.publish())
    assert len(harness.dead_letters) == 1


async def test_a_second_record_of_a_running_job_does_not_end_the_first(harness: Harness) -> None:
    worker = await harness.worker()
    await harness.send(_job(prompt="gate"))
    await harness.until_type(JOB_ID, EventType.FIRST_TOKEN)
    await harness.send(_job(prompt="gate"))
    await harness.until(lambda: len(harness.dead_letters) == 1, "the second record's dead letter")
    worker.engine.gates["gate"].set()

    def ends() -> dict[int, EventType]:
        return {
            event.source.offset: event.type
            for event in harness.events_of(JOB_ID)
            if event.source and event.type.is_terminal
        }

    await harness.until(lambda: len(ends()) == 2, "an end of each record")
    assert ends() == {0: EventType.COMPLETED, 1: EventType.FAILED}
    assert dict(harness.dead_letters[0].headers)[headers.REASON_CODE] == b"duplicate_job_id"


async def test_nonsense_on_the_control_topic_is_ignored(harness: Harness) -> None:
    await harness.send_control(b"nonsense")
    await harness.send_control(None)
    await harness.worker()
    await harness.send_control(b"{}")
    await harness.until_ended(await harness.publish())


async def test_a_topic_that_accepts_only_small_records_is_named_at_start(
    worker_settings: WorkerSettings,
) -> None:
    events = worker_settings.topics.events
    small = dataclasses.replace(events, max_record_bytes=1_000_000)
    await kafka.ensure_topics(worker_settings, [small])
    with pytest.raises(ConfigurationError, match=f"{events.name}.*max.message.bytes"):
        await run_worker(
            worker_settings, NullEngine(), Health(), Stop(), telemetry_of(worker_settings)
        )


@pytest.mark.parametrize(
    "record_headers",
    [
        [("mine", None)],
        [("traceparent", None), ("tracestate", b"a=\x00")],
        [("huge", bytes(7 * 1024 * 1024))],
    ],
    ids=["null", "broken-trace-context", "seven-mebibytes"],
)
@pytest.mark.parametrize("value", [b"nonsense", _job(job_id=...)], ids=["no-job", "job"])
async def test_hostile_headers_never_hold_up_the_next_record(
    harness: Harness, value: bytes, record_headers: list[tuple[str, bytes | None]]
) -> None:
    worker = await harness.worker()
    await harness.send(value, headers=record_headers)
    following = await harness.publish("following")
    (end,) = await harness.until_ended(following)
    assert end.type is EventType.COMPLETED
    assert not worker.task.done()
