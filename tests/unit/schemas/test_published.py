"""The published contract is the code's, and describes what is really sent."""

import json
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import jsonschema
import pytest

from schemas import EventType, JobEvent, JobRequest, QosTargets, Usage, publish
from schemas.event import JobResult, Prediction, Source

JOB_ID = UUID("01936c5e-8c00-7000-8000-000000000001")


def schema(name: str) -> dict[str, object]:
    loaded: dict[str, object] = json.loads((publish.FOLDER / name).read_text())
    return loaded


def test_published_files_are_up_to_date() -> None:
    assert publish.outdated(publish.FOLDER) == []


def test_a_changed_file_is_noticed(tmp_path: Path) -> None:
    for name, content in publish.documents().items():
        (tmp_path / name).write_text(content)
    (tmp_path / "job-event.v1.schema.json").write_text("{}")
    assert publish.outdated(tmp_path) == ["job-event.v1.schema.json"]


def test_a_job_on_the_wire_fits_its_published_schema() -> None:
    job = JobRequest(
        job_id=JOB_ID, model="tiny", messages=[{"role": "user", "content": "Hi"}],
        qos=QosTargets(ttlt_s=60), stop=["\n"], metadata={"run": "7"},
        expire_after_s=90,
    )  # fmt: skip
    jsonschema.validate(json.loads(job.to_bytes()), schema("job-request.v1.schema.json"))


@pytest.mark.parametrize(
    "wrong", [{"qos": 7}, {"max_tokens": 0}, {"expire_after_s": 0}, {"colour": "red"}]
)
def test_the_published_schema_refuses_what_the_code_refuses(wrong: dict[str, object]) -> None:
    job = {"model": "tiny", "prompt": "Hi", "qos": "chat"} | wrong
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(job, schema("job-request.v1.schema.json"))


def test_an_event_on_the_wire_fits_its_published_schema() -> None:
    now = datetime(2026, 11, 21, tzinfo=UTC)
    event = JobEvent(
        event_id=JOB_ID, job_id=JOB_ID, type=EventType.COMPLETED, at=now, attempt=1,
        worker_id="w1", pool="default", source=Source(topic="t", partition=0, offset=1),
        usage=Usage(prompt_tokens=3, completion_tokens=2), largest_gap_ms=4.5,
        prediction=Prediction(finish_at=now), result=JobResult(text="ok", finish_reason="stop"),
    )  # fmt: skip
    jsonschema.validate(json.loads(event.to_bytes()), schema("job-event.v1.schema.json"))
