"""Records with anything in every part: nothing is raised, and the next record is served."""

import asyncio
import json
from typing import Any
from uuid import UUID, uuid4

from hypothesis import given
from hypothesis import strategies as st

from gateway.ledger.projection import Patches
from gateway.ledger.records import RecordDecoder, Report, Submission, Unusable
from gateway.ledger.rows import event_row, job_row, result_row
from niyama.dead_letters import dead_letter
from schemas import PoolTopics, QosCatalog
from schemas.event import LEDGER
from schemas.topics import MAX_RECORD_BYTES
from tests.support import ledger
from tests.support.records import FakeRecord, job_bytes

TOPICS = PoolTopics.of("tiny")
DECODER = RecordDecoder(TOPICS, QosCatalog.shipped(), "tiny")
JOB = json.loads(job_bytes(job_id=str(uuid4()), reply_topic="answers", metadata={"a": "b"}))
RESULT = {"text": "x", "token_ids": [1], "finish_reason": "stop", "logprobs": [{"a": 0.5}]}
EVENT = json.loads(
    ledger.event(
        uuid4(),
        "completed",
        usage={"prompt_tokens": 1},
        result=RESULT,
        prediction={"queue_wait_s": 1.0},
        error={"code": "too_large", "message": "m"},
    ).to_bytes()
)
CONTROL = {"job_id": str(uuid4()), "requested_at": "2026-11-21T09:30:00Z", "reason": "r"}
NEXT = FakeRecord(json.dumps(JOB).encode(), TOPICS.batch.name)

extremes = st.sampled_from(
    [
        *(None, True, "", "\0", "x" * 1000, "\ud800", -1, 0, 2**31, 2**63, 2**64, 10**400),
        *(1e308, float("inf"), float("nan"), [], {}, [[[]]], {"\0": "\0"}),
        *("0001-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"),
        *(
            "teleported",
            "ledger",
            "admitted",
            "failed",
            str(UUID(int=0)),
            "__consumer_offsets",
        ),
    ]
)


@st.composite
def documents(draw: st.DrawFn) -> bytes:
    """A valid job, event or request to cancel, with a few fields at their extremes."""
    document: dict[str, Any] = dict(draw(st.sampled_from([JOB, EVENT, CONTROL])))
    for name in draw(st.lists(st.sampled_from(sorted(document)), max_size=3)):
        value = document[name]
        if isinstance(value, dict) and value and draw(st.booleans()):
            inner = draw(st.sampled_from(sorted(value)))
            document[name] = value | {inner: draw(extremes)}
        else:
            document[name] = draw(extremes)
    return json.dumps(document).encode(errors="surrogatepass")


records = st.builds(
    FakeRecord,
    value=st.none() | st.binary(max_size=50) | documents(),
    topic=st.sampled_from([spec.name for spec in (*TOPICS.jobs, TOPICS.events, TOPICS.control)]),
    partition=st.integers(0, 2**31 - 1),
    offset=st.integers(0, 2**63 - 1),
    timestamp=st.sampled_from([-(2**63), -1, 0, 2**53, 2**62, 2**63 - 1]) | st.integers(),
    key=st.none() | st.binary(max_size=20) | st.just(b"k" * 10_000),
    headers=st.lists(
        st.tuples(
            st.sampled_from(["traceparent", "tracestate", "niyama-reason", "\0"]) | st.text(),
            st.none() | st.binary(max_size=50) | st.just(bytes(20_000)),
        ),
        max_size=4,
    ),
)


@given(records)
def test_a_record_is_taken_or_passed_over_or_becomes_a_dead_letter(record: FakeRecord) -> None:
    decoded = asyncio.run(DECODER.decode_all([record, NEXT]))

    assert isinstance(decoded.entries[-1], Submission)
    for unusable in decoded.unusable:
        assert_fits(unusable)
    patches = Patches()
    for entry in decoded.entries:
        if isinstance(entry, Submission):
            patches.of(entry.job_id).submit(entry.request)
        elif isinstance(entry, Report):
            patches.report([entry.event])
            event_row(entry.event)
            if entry.event.result is not None:
                result_row(entry.event)
    for patch in patches.ordered():
        job_row(patch)


def assert_fits(unusable: Unusable) -> None:
    """A topic takes the record's dead letter."""
    letter = dead_letter(unusable.record, unusable.error, LEDGER)
    headers = sum(len(name.encode()) + len(value) for name, value in letter.headers)
    assert len(letter.key or b"") + len(letter.value or b"") + headers < MAX_RECORD_BYTES
