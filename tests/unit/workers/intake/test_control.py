"""Requests to cancel are read from the control topic; none of them can hold up its reader."""

import asyncio
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
from aiokafka import TopicPartition

from schemas import JobControl
from schemas.control import MAX_CONTROL_BYTES
from tests.support.records import TOPICS, FakeRecord
from workers.intake.cancellations import Cancellations
from workers.intake.control import ControlReader

NOW_S = 1e9
_PARTITION = TopicPartition(TOPICS.control.name, 0)


class ControlTopic:
    """A consumer of the control topic that gets all of it at once."""

    def __init__(self, values: Sequence[bytes | None]) -> None:
        self._values = values
        self._position = 0

    def assignment(self) -> set[TopicPartition]:
        return {_PARTITION}

    async def end_offsets(self, _: set[TopicPartition]) -> dict[TopicPartition, int]:
        return {_PARTITION: len(self._values)}

    async def position(self, _: TopicPartition) -> int:
        return self._position

    async def getmany(self, timeout_ms: int) -> dict[TopicPartition, list[FakeRecord]]:
        self._position = len(self._values)
        return {_PARTITION: [FakeRecord(value, TOPICS.control.name) for value in self._values]}


def _request(job_id: UUID, **fields: object) -> bytes:
    document = {"job_id": str(job_id), "requested_at": "2001-09-09T01:46:40Z"} | fields
    return json.dumps(document).encode()


async def _read(*values: bytes | None) -> list[JobControl]:
    """What the reader makes of the topic's records."""
    cancelled: list[JobControl] = []
    reader = ControlReader(ControlTopic(values), Cancellations(), cancelled.append)
    await reader.catch_up()
    return cancelled


async def test_what_is_no_request_to_cancel_is_ignored(caplog: pytest.LogCaptureFixture) -> None:
    job_id = uuid4()
    [request] = await _read(None, b"", b"{", _request(job_id, action="destroy"), _request(job_id))
    assert request == JobControl(job_id=job_id, requested_at=datetime.fromtimestamp(NOW_S, UTC))
    assert caplog.text.count("ignored a control record") == 3


async def test_a_clock_that_is_wrong_cancels_all_the_same() -> None:
    job_id = uuid4()
    [request] = await _read(_request(job_id, requested_at="0001-01-01T00:00:00Z"))
    assert request.job_id == job_id


async def test_a_record_that_is_too_large_to_be_a_request_is_not_parsed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    job_id = uuid4()
    empty = len(_request(job_id, reason=""))
    largest = _request(job_id, reason="x" * (MAX_CONTROL_BYTES - empty))
    [request] = await _read(_request(job_id, reason="x" * MAX_CONTROL_BYTES), largest)
    assert request.job_id == job_id
    assert f"at most {MAX_CONTROL_BYTES:,}" in caplog.text


async def test_a_record_full_of_faults_is_ignored_without_listing_them(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert await _read(json.dumps(dict.fromkeys(map(str, range(5_000)), 0)).encode()) == []
    assert "5,002 faults" in caplog.text


async def test_others_have_a_turn_after_each_record() -> None:
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(others())
    await _read(*[_request(uuid4())] * 50)
    task.cancel()
    assert turns >= 50
