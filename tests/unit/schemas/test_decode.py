"""A record becomes a job, or a refusal with a reason that a person can act on."""

import json
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import JobRequest, Refusal, decode_job
from schemas.decode import job_id_of_record
from schemas.job import MAX_JOB_BYTES

JOB_ID = uuid.UUID("01936c5e-8c00-7000-8000-000000000001")


def record(**fields: Any) -> bytes:
    job = {"job_id": str(JOB_ID), "model": "tiny", "prompt": "Hello", "qos": "chat"} | fields
    return json.dumps({name: value for name, value in job.items() if value is not ...}).encode()


def refusal(value: bytes | None) -> Refusal:
    decoded = decode_job(value)
    assert isinstance(decoded, Refusal)
    return decoded


def test_decodes_what_a_producer_encodes() -> None:
    job = JobRequest(job_id=JOB_ID, model="tiny", prompt="Hello", qos="chat", max_tokens=7)
    assert decode_job(job.to_bytes()) == job


@pytest.mark.parametrize(
    ("fields", "code", "message"),
    [
        ({"max_tokens": 0}, "invalid_request", "max_tokens: Input should be greater than or eq"),
        ({"max_tokens": 10**9}, "invalid_request", "max_tokens: Input should be less than or eq"),
        ({"temprature": 1}, "invalid_request", "temprature: Extra inputs are not permitted"),
        ({"input_ids": [1]}, "invalid_request", "exactly one of messages, prompt and input_ids"),
        ({"prompt": ...}, "invalid_request", "exactly one of messages, prompt and input_ids"),
        ({"qos": ...}, "invalid_request", "qos: Field required"),
        (
            {"qos": {"ttft_ms": 5}},
            "invalid_request",
            "qos: give one of: ttft_ms and tbt_ms; ttlt_ms",
        ),
        ({"qos": {"ttlt_s": 5, "ttft_ms": 1, "tbt_ms": 1}}, "invalid_request", "qos: give one of"),
        ({"qos": {"ttlt_s": 5, "ttlt_ms": 5}}, "invalid_request", "qos: give one of"),
        ({"qos": {}}, "invalid_request", "qos: give one of"),
        ({"qos": {"ttlt_ms": 0}}, "invalid_request", "qos.ttlt_ms: Input should be greater than 0"),
        ({"qos": {"task": "t"}}, "invalid_request", "qos.task: Input should be an object"),
        ({"qos": {"task": {"id": "t"}}}, "invalid_request", "qos.task.deadline: Field required"),
        (
            {"qos": {"task": {"id": "t", "deadline": "2026-11-22T10:00:00"}}},
            "invalid_request",
            "qos.task.deadline: needs a time zone",
        ),
        (
            {"qos": {"task": {"id": "t", "deadline": "9999-12-31T23:59:59.999999Z"}}},
            "invalid_request",
            "qos.task.deadline: must be before the year 9999",
        ),
        (
            {"qos": {"task": {"id": "t", "deadline": "2026-11-22T10:00:00Z", "calls_left": -1}}},
            "invalid_request",
            "qos.task.calls_left: Input should be greater than or equal to 0",
        ),
        ({"qos": {"ttlt_s": -1}}, "invalid_request", "qos.ttlt_s: Input should be greater than 0"),
        (
            {"expire_after_s": 0},
            "invalid_request",
            "expire_after_s: Input should be greater than 0",
        ),
        ({"expire_after_s": 604_801}, "invalid_request", "expire_after_s: Input should be less"),
        ({"schema_version": 2}, "unsupported_schema_version", "schema_version 2 is not known"),
        ({"job_id": "seven"}, "invalid_request", "job_id: Input should be a valid UUID"),
        ({"reply_topic": "no spaces"}, "invalid_request", "reply_topic: String should match"),
        ({"metadata": {"k": "v" * 513}}, "invalid_request", "metadata.k: String should have at"),
        (
            {"response_format": {"type": "json_schema"}},
            "invalid_request",
            "response_format: type json_schema needs json_schema",
        ),
    ],
)
def test_refuses_a_wrong_field_by_its_name(fields: dict[str, Any], code: str, message: str) -> None:
    refused = refusal(record(**fields))
    assert refused.error.code == code
    assert message in refused.error.message


def test_a_refusal_names_the_job_when_the_record_does() -> None:
    place = ("niyama.default.batch", 3, 17)
    named, nameless = refusal(record(max_tokens=0)), refusal(record(max_tokens=0, job_id=...))

    assert (named.job_id, named.at(*place).job_id) == (JOB_ID, JOB_ID)
    assert (nameless.job_id, nameless.at(*place).job_id) == (None, job_id_of_record(*place))


@pytest.mark.parametrize("value", [None, b"{", b"[]", b"7", b'"job_id"'])
def test_what_is_no_object_is_nobody_s_job(value: bytes | None) -> None:
    assert refusal(value).at("niyama.default.batch", 3, 17).job_id is None


@pytest.mark.parametrize(
    "value", [b"", b"{", b"\xff\xfe{}", b'{"prompt": "\xff"}', b"null\x00", b"\x00" * 40]
)
def test_refuses_what_is_not_json(value: bytes) -> None:
    assert refusal(value).error.code == "invalid_json"


def test_refuses_an_empty_record() -> None:
    assert refusal(None).error.message == "the record is empty"


def test_refuses_a_two_megabyte_record_and_still_reads_its_job_id() -> None:
    refused = refusal(record(prompt="x" * 2_000_000))
    assert refused.error.code == "too_large"
    assert f"{MAX_JOB_BYTES:,}" in refused.error.message
    assert refused.job_id == JOB_ID


def test_a_job_of_the_largest_size_is_taken() -> None:
    empty = len(record(prompt=""))
    assert isinstance(decode_job(record(prompt="x" * (MAX_JOB_BYTES - empty))), JobRequest)


@given(st.binary(max_size=200))
def test_never_raises_whatever_the_bytes(value: bytes) -> None:
    assert isinstance(decode_job(value), JobRequest | Refusal)


@given(st.recursive(st.none() | st.integers() | st.text(), st.lists, max_leaves=5))
def test_never_raises_whatever_the_json(value: Any) -> None:
    assert isinstance(decode_job(json.dumps(value).encode()), Refusal)


def test_deeply_nested_json_is_refused() -> None:
    assert refusal(b"[" * 100_000).error.code == "invalid_json"


def test_the_id_of_a_record_depends_on_its_position_alone() -> None:
    first = job_id_of_record("niyama.default.batch", 3, 17)
    assert first == job_id_of_record("niyama.default.batch", 3, 17)
    assert first != job_id_of_record("niyama.default.batch", 3, 18)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"messages": [{}] * 9_000}, "messages.0.role"),
        ({"messages": [{}] * 300_000}, "too much in it"),
        ({"input_ids": ["a"] * 15_000}, "input_ids.0"),
        ({"input_ids": ["a"] * 200_000}, "too much in it"),
        ({f"f{number}": 1 for number in range(15_000)}, "15,000 faults"),
        ({f"f{number}": 1 for number in range(80_000)}, "too much in it"),
        ({"messages": [{"role": "user", "content": ""}] * 10_001}, "at most 10000 items"),
    ],
)
def test_a_large_document_full_of_faults_is_refused_without_listing_them(
    fields: dict[str, Any], says: str
) -> None:
    """Listing 700,000 of them stopped whoever read the record for many seconds."""
    prompt = {} if "messages" in fields or "input_ids" in fields else {"prompt": "p"}
    document = {"model": "m", "qos": "chat"} | prompt | fields
    refusal = decode_job(json.dumps(document, separators=(",", ":")).encode())
    assert isinstance(refusal, Refusal)
    assert refusal.error.code == "invalid_request"
    assert says in refusal.error.message
    assert len(refusal.error.message) < 1_000


@pytest.mark.parametrize(
    ("document", "job_id", "is_object"),
    [
        ({"job_id": str(JOB_ID), "x": [[]] * MAX_JOB_BYTES}, JOB_ID, True),
        ({"job_id": [str(JOB_ID)], "x": "x" * MAX_JOB_BYTES}, None, True),
        ({"job_id": "not an id", "x": "x" * MAX_JOB_BYTES}, None, True),
        (["x" * MAX_JOB_BYTES], None, False),
    ],
)
def test_an_oversized_document_is_searched_for_its_job_id_only(
    document: object, job_id: uuid.UUID | None, is_object: bool
) -> None:
    refused = refusal(json.dumps(document).encode())
    assert (refused.error.code, refused.job_id, refused.is_object) == (
        "too_large",
        job_id,
        is_object,
    )
