"""From a record's bytes to a job or a cancellation, or to a refusal that a person can act on.

The worker and the ledger read the same records. Both decode here, so they always agree on
which job a record is and on whether it is one at all.
"""

import re
import uuid
from dataclasses import dataclass, replace
from typing import Annotated, Self

from pydantic import BaseModel, GetCoreSchemaHandler, StrictStr, ValidationError
from pydantic_core import CoreSchema, core_schema

from schemas.control import MAX_CONTROL_BYTES, JobControl
from schemas.event import JobError
from schemas.job import MAX_JOB_BYTES, JobRequest, JobTooLargeError
from schemas.message import SCHEMA_VERSION

_RECORD_NAMESPACE = uuid.UUID("5e0b1a52-6f0e-5c0c-9b0f-0d6d7b0f7a11")
_OBJECT = re.compile(rb"[ \t\r\n]*\{")

MAX_FAULTS = 1_000
"""Listing those of the largest document takes seconds, in which its reader does nothing else."""


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
        return JobRequest.model_validate_json(value)
    except ValidationError as invalid:
        return _refusal(explain(invalid), value)


def decode_control(value: bytes) -> JobControl | JobError:
    """Decode and validate one record value of the control topic; an error says what is wrong."""
    if len(value) > MAX_CONTROL_BYTES:
        message = f"the record is {len(value):,} bytes; at most {MAX_CONTROL_BYTES:,} are allowed"
        return JobError(code="too_large", message=message)
    try:
        return JobControl.model_validate_json(value)
    except ValidationError as invalid:
        return explain(invalid)


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing to change in a document."""

    field: str
    """Where, with dots: `qos.ttlt_s`. Empty when it concerns the document as a whole."""
    message: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}" if self.field else self.message


def explain(error: ValidationError) -> JobError:
    """A validation error as one line that says what to change."""
    if error.error_count() > MAX_FAULTS:
        return JobError(code="invalid_request", message=str(_too_many(error)))
    details = error.errors(include_url=False)
    first = details[0]
    if first["type"] == "json_invalid":
        return JobError(code="invalid_json", message=f"not valid JSON: {first['ctx']['error']}")
    for detail in details:
        if detail["loc"] == ("schema_version",):
            message = f"schema_version {detail['input']!r} is not known; use {SCHEMA_VERSION}"
            return JobError(code="unsupported_schema_version", message=message)
    return JobError(code="invalid_request", message="; ".join(map(str, faults(error)[:5])))


def faults(error: ValidationError) -> list[Fault]:
    """Everything that a validation error complains about, unless that is too much."""
    if error.error_count() > MAX_FAULTS:
        return [_too_many(error)]
    return [
        Fault(
            # pydantic adds which form of `qos` was tried; that is no part of the field's name.
            field=".".join(str(part) for part in detail["loc"] if part not in ("class", "targets")),
            message=detail["msg"].removeprefix("Value error, "),
        )
        for detail in error.errors(include_url=False)
    ]


def _too_many(error: ValidationError) -> Fault:
    return Fault("", f"{error.error_count():,} faults, too many to list")


class NoneIfInvalid:
    """Annotates an optional field: a value that is not valid counts as left out.

    That is decided before anything becomes a Python object. An error would hold the value, and
    eight megabytes of `[]` take a second.
    """

    def __get_pydantic_core_schema__(
        self, source: object, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.with_default_schema(handler(source), default=None, on_error="default")


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
