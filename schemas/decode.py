"""From a record's bytes to a job or a cancellation, or to a refusal that a person can act on.

The worker and the ledger read the same records. Both decode here, so they always agree on
which job a record is and on whether it is one at all.
"""

import re
import uuid
from dataclasses import dataclass, replace
from typing import Annotated, Self

from pydantic import BaseModel, StrictStr, ValidationError

from schemas.control import MAX_CONTROL_BYTES, JobControl
from schemas.document import InvalidDocumentError, M, NoneIfInvalid, read_document
from schemas.event import JobError, JobEvent
from schemas.job import MAX_JOB_BYTES, JobRequest, JobTooLargeError
from schemas.load import MAX_LOAD_BYTES, LoadReport
from schemas.topics import MAX_RECORD_BYTES

_RECORD_NAMESPACE = uuid.UUID("5e0b1a52-6f0e-5c0c-9b0f-0d6d7b0f7a11")
_OBJECT = re.compile(rb"[ \t\r\n]*\{")


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a record is not a job. `job_id` is set when the record names one."""

    error: JobError
    job_id: uuid.UUID | None
    is_object: bool = True
    """Whether it is a JSON object at all: somebody's job, even if not a valid one."""

    def at(self, topic: str, partition: int, offset: int) -> Self:
        """The same of the record there. An object that names no job has the id of its position."""
        if self.job_id is not None or not self.is_object:
            return self
        return replace(self, job_id=job_id_of_record(topic, partition, offset))


def job_id_of_record(topic: str, partition: int, offset: int) -> uuid.UUID:
    """The id of a job that was published without one."""
    return uuid.uuid5(_RECORD_NAMESPACE, f"{topic}/{partition}/{offset}")


def decode_job(value: bytes | None) -> JobRequest | Refusal:
    """Decode and validate one record value."""
    if value is None:
        return Refusal(JobError(code="invalid_json", message="the record is empty"), None, False)
    if len(value) > MAX_JOB_BYTES:
        error = JobError(code="too_large", message=str(JobTooLargeError(len(value))))
        return _refusal(error, value)
    try:
        return read_document(JobRequest, value)
    except InvalidDocumentError as invalid:
        return _refusal(invalid.error, value)


def decode_control(value: bytes) -> JobControl | JobError:
    """Decode and validate one record value of the control topic; an error says what is wrong."""
    return _decode(JobControl, value, MAX_CONTROL_BYTES)


def decode_event(value: bytes) -> JobEvent | JobError:
    """Decode and validate one record value of the events topic; an error says what is wrong."""
    return _decode(JobEvent, value, MAX_RECORD_BYTES)


def decode_load(value: bytes) -> LoadReport | JobError:
    """Decode and validate one record value of the load topic; an error says what is wrong."""
    return _decode(LoadReport, value, MAX_LOAD_BYTES)


def _decode(message: type[M], value: bytes, limit_bytes: int) -> M | JobError:
    if len(value) > limit_bytes:
        return _too_large(value, limit_bytes)
    try:
        return read_document(message, value)
    except InvalidDocumentError as invalid:
        return invalid.error


def _too_large(value: bytes, limit_bytes: int) -> JobError:
    message = f"the record is {len(value):,} bytes; at most {limit_bytes:,} are allowed"
    return JobError(code="too_large", message=message)


def _refusal(error: JobError, value: bytes) -> Refusal:
    if not _OBJECT.match(value):
        return Refusal(error, None, is_object=False)
    try:
        job_id = _Identified.model_validate_json(value).job_id
    except ValidationError:
        return Refusal(error, None, is_object=False)
    try:
        return Refusal(error, None if job_id is None else uuid.UUID(job_id))
    except ValueError:
        return Refusal(error, None)


class _Identified(BaseModel):
    """Only this field of a document is read."""

    job_id: Annotated[StrictStr | None, NoneIfInvalid()] = None
