"""What a producer writes is what a worker reads, whichever fields it uses."""

from typing import Any

from hypothesis import HealthCheck, given, settings

from schemas import JobRequest, decode_job
from tests.support.job_documents import job_documents


def _given(value: Any) -> Any:
    """A document without its nulls, which say the same as absence."""
    if isinstance(value, dict):
        return {key: _given(each) for key, each in value.items() if each is not None}
    return [_given(each) for each in value] if isinstance(value, list) else value


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(job_documents())
def test_every_field_survives_the_client_librarys_encoding(document: dict[str, Any]) -> None:
    job = JobRequest.model_validate(document)
    decoded = decode_job(job.to_bytes())
    assert decoded == job
    assert isinstance(decoded, JobRequest)
    sent = decoded.model_dump(mode="json", by_alias=True, exclude_unset=True)
    assert _given(sent).items() >= _given(document | {"schema_version": 1}).items()


def test_a_json_schema_keeps_its_name() -> None:
    form = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}}
    job = JobRequest.model_validate(
        {"model": "m", "prompt": "p", "qos": "chat", "response_format": form}
    )
    assert decode_job(job.to_bytes()) == job
