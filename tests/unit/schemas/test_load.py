"""Load reports on the wire."""

import json
import re
from typing import Any

import jsonschema
import pytest

from schemas import JobError, LoadReport, publish
from schemas.decode import decode_load
from schemas.load import (
    MAX_LABEL_CHARACTERS,
    MAX_LOAD_BYTES,
    MAX_PARTITIONS,
    Backlog,
    PredictedTtft,
    SchedulerLoad,
    TopicShare,
)
from tests.support.loads import load_report


def to_bytes(document: dict[str, Any]) -> bytes:
    return json.dumps(document).encode()


def largest_report() -> LoadReport:
    """As much of everything as a worker ever reports, in characters of four bytes."""
    name, many = "🙂" * MAX_LABEL_CHARACTERS, 2**52
    partitions = range(10_000 - MAX_PARTITIONS, 10_000)
    topics = [
        TopicShare(topic=name, partitions=partitions, jobs=many, prompt_tokens=many, lag=many)
        for _ in range(3)
    ]
    scheduler = SchedulerLoad(
        waiting=many, prefilling=many, overdue=many, demand=1e8, capacity_tokens_per_s=1e11,
        backlog=[Backlog(kind="interactive", due_within_s=3600, work_s=1e8) for _ in range(24)],
        ttft=[PredictedTtft(prompt_tokens=many, ttft_s=1e8) for _ in range(3)],
    )  # fmt: skip
    return load_report(
        name, pool=name, model=name, version=name, topics=topics, scheduler=scheduler
    )


def test_a_report_is_read_as_it_was_written_and_fits_its_schema() -> None:
    report = largest_report()
    schema = json.loads((publish.FOLDER / "load-report.v1.schema.json").read_text())
    assert decode_load(report.to_bytes()) == report
    jsonschema.validate(json.loads(report.to_bytes()), schema)


def test_the_largest_report_of_a_worker_is_accepted() -> None:
    assert len(largest_report().to_bytes()) < 0.8 * MAX_LOAD_BYTES  # with room for newer fields


def test_what_a_newer_worker_adds_is_left_out() -> None:
    document = load_report().model_dump(mode="json") | {"mood": "fine"}
    document["limits"] |= {"adapters": 4}
    assert decode_load(json.dumps(document).encode()) == load_report()


@pytest.mark.parametrize(
    "wrong",
    [
        {"schema_version": 2},
        {"worker_id": ""},
        {"worker_id": "w\x1b[2J"},
        {"worker_id": "w" * 257},
        {"running_decodes": -1},
        {"running_decodes": 2**53},
        {"generated_tokens_per_s": "NaN"},
        {"generated_tokens_per_s": 1e300},
        {"topics": [{"topic": "t", "partitions": [-1], "jobs": 0, "prompt_tokens": 0}]},
        {"reported_at": "yesterday"},
    ],
)
def test_a_report_that_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    document = load_report().model_dump(mode="json") | wrong
    assert isinstance(decode_load(json.dumps(document).encode()), JobError)


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity", b"1e400", b"[1]"])
@pytest.mark.parametrize(
    "field", ["generated_tokens_per_s", "running_decodes", "used_kv_tokens", "demand", "ttft_s"]
)
def test_no_number_of_a_report_is_without_a_size(field: str, number: bytes) -> None:
    document = json.loads(largest_report().to_bytes())
    document |= {"generated_tokens_per_s": 1.0, "used_kv_tokens": 1}
    value = re.sub(rb'("%s":\s*)[0-9.e+]+' % field.encode(), rb"\g<1>" + number, to_bytes(document))
    assert number in value
    assert isinstance(decode_load(value), JobError)


@pytest.mark.parametrize("value", [b"", b"{", b"[]", b"null", b" " * (MAX_LOAD_BYTES + 1)])
def test_a_record_that_is_no_report_is_refused(value: bytes) -> None:
    assert isinstance(decode_load(value), JobError)
