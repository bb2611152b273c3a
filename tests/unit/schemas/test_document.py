"""A document is read however much is in it; what is wrong with it is told only if that is quick."""

import json
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest

from schemas import JobEvent, JobRequest
from schemas.document import MAX_EXPLAINED_VALUES, InvalidDocumentError, read_document
from schemas.message import Message
from schemas.publish import MESSAGES

JOB = {"model": "m", "prompt": "p", "qos": "chat"}
MANY = [1] * MAX_EXPLAINED_VALUES


def read(document: object, model: type[Message] = JobRequest) -> Message:
    return read_document(model, json.dumps(document).encode())


def refused(value: bytes, model: type[Message] = JobRequest) -> InvalidDocumentError:
    with pytest.raises(InvalidDocumentError) as raised:
        read_document(model, value)
    return raised.value


@pytest.mark.parametrize("count", [10, MAX_EXPLAINED_VALUES])
def test_a_job_of_many_values_is_a_job(count: int) -> None:
    document = {"model": "m", "qos": "chat", "input_ids": [7] * count, "temperature": 0.5}
    assert read(document) == JobRequest.model_validate(document)


@pytest.mark.parametrize(
    "change",
    [
        {"unknown": MANY},
        {"input_ids": MANY},  # beside a prompt
        {"prompt": None, "input_ids": [*MANY, "x"]},
        {"metadata": {"a": MANY}},
        {"response_format": {"type": "text", "json_schema": {"name": "n", "schema": {"a": MANY}}}},
        {"prompt": "," * MAX_EXPLAINED_VALUES, "temprature": 1},
        {"schema_version": 2, "unknown": MANY},
    ],
)
def test_what_is_invalid_is_refused_however_much_there_is_in_it(change: dict[str, Any]) -> None:
    error = refused(json.dumps(JOB | change).encode())
    assert error.error.code == "invalid_request"
    assert "too much in it to say why" in error.error.message


@pytest.mark.parametrize("value", [b"null", b"[%s1]" % (b"1," * MAX_EXPLAINED_VALUES), b"7"])
@pytest.mark.parametrize("model", [JobRequest, JobEvent])
def test_what_is_no_object_is_no_message(value: bytes, model: type[Message]) -> None:
    assert refused(value, model).error.code == "invalid_request"


def test_a_large_document_that_is_no_json_is_called_so() -> None:
    assert refused(b"[" + b"1," * MAX_EXPLAINED_VALUES).error.code == "invalid_json"


def test_a_few_faults_in_a_long_text_are_named() -> None:
    error = refused(json.dumps(JOB | {"prompt": "x" * 900_000, "temprature": 1}).encode())
    assert [fault.field for fault in error.faults] == ["temprature"]


@pytest.mark.parametrize(
    "value",
    [
        b'{"a":[%s]}' % b",".join([b"[]"] * 340_000),
        b"{%s}" % b",".join(b'"a%d":[%s]' % (n, b",".join([b"[]"] * 340)) for n in range(990)),
        b'{"model":"m","prompt":[%s]}' % b",".join([b'{"a":{}}'] * 100_000),
    ],
    ids=["one", "many", "prompt"],
)
def test_an_invalid_document_takes_no_more_memory_than_its_objects(value: bytes) -> None:
    """A megabyte of empty lists took most of a second, and others waited."""
    tracemalloc.start()
    try:
        document = json.loads(value)
        objects_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    del document
    tracemalloc.start()
    try:
        refused(value)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 1.5 * objects_bytes


@pytest.mark.parametrize("message", MESSAGES.values(), ids=MESSAGES)
def test_a_list_is_read_up_to_the_first_item_that_is_wrong(message: type[Message]) -> None:
    """pydantic would collect the errors of millions of items, with the items."""
    for schema in _parts(message.__pydantic_core_schema__):
        if schema.get("type") == "list":
            assert schema.get("fail_fast"), schema


def _parts(schema: object) -> Iterator[dict[str, Any]]:
    """The schema and all within it, as pydantic-core has them."""
    if isinstance(schema, dict):
        yield schema
        for part in schema.values():
            yield from _parts(part)
    elif isinstance(schema, list | tuple):
        for part in schema:
            yield from _parts(part)
