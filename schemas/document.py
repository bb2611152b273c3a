"""From JSON to one of our messages, or to what a person can change in it.

Nothing here takes long, whatever the document: 0.2 s for a megabyte of the worst. While it is read,
whoever reads it does nothing else.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, GetCoreSchemaHandler, TypeAdapter, ValidationError
from pydantic_core import CoreSchema, ErrorDetails, core_schema, from_json

from schemas.event import JobError
from schemas.message import SCHEMA_VERSION

MAX_EXPLAINED_VALUES = 40_000
"""In a document with more, it is not looked for what is wrong."""
MAX_FAULTS = 1_000
"""More are not listed."""

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing to change in a document."""

    field: str
    """Where, with dots: `qos.ttlt_s`. Empty when it concerns the document as a whole."""
    message: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}" if self.field else self.message


class InvalidDocumentError(ValueError):
    """A document is not what it should be."""

    def __init__(self, code: str, message: str, faults: Sequence[Fault] = ()) -> None:
        super().__init__(message)
        self.error = JobError(code=code, message=message)
        """What to change, in one line."""
        self.faults = faults
        """Everything to change, as far as that is known."""


class NoneIfInvalid:
    """Annotates an optional value: one that is not valid counts as left out."""

    def __get_pydantic_core_schema__(
        self, source: object, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.with_default_schema(handler(source), default=None, on_error="default")


def read_document(model: type[M], value: bytes) -> M:
    """Raises InvalidDocumentError."""
    try:
        if _most_values(value) <= MAX_EXPLAINED_VALUES:
            return model.model_validate_json(value)
        # As Python objects, which errors share: each has a copy of its own of what is parsed JSON.
        document: M | None = _unexplained(model).validate_python(from_json(value))
    except ValidationError as error:
        raise _explained(error) from None
    except ValueError as error:
        message = f"not valid JSON: {error}"
        raise InvalidDocumentError("invalid_json", message, [Fault("", message)]) from None
    if document is None:
        message = "not valid, and too much in it to say why: the same with less text or fewer items"
        raise InvalidDocumentError("invalid_request", f"{message} is refused with the reason")
    return document


def _most_values(value: bytes) -> int:
    """No fewer than the JSON document has: each but the first comes after one of these."""
    return 1 + value.count(b",") + value.count(b"[") + value.count(b"{")


@cache
def _unexplained(model: type[M]) -> TypeAdapter[M | None]:
    """Reads `model` as ever, but None when the document is not valid."""
    lenient: Any = Annotated[model, NoneIfInvalid()]
    return TypeAdapter(lenient)


def _explained(error: ValidationError) -> InvalidDocumentError:
    if error.error_count() > MAX_FAULTS:
        fault = Fault("", f"{error.error_count():,} faults, too many to list")
        return InvalidDocumentError("invalid_request", fault.message, [fault])
    details = error.errors(include_url=False)
    faults = [_fault(detail) for detail in details]
    if details[0]["type"] == "json_invalid":
        message = f"not valid JSON: {details[0]['ctx']['error']}"
        return InvalidDocumentError("invalid_json", message, faults)
    for detail in details:
        if detail["loc"] == ("schema_version",):
            message = f"schema_version {detail['input']!r} is not known; use {SCHEMA_VERSION}"
            return InvalidDocumentError("unsupported_schema_version", message, faults)
    return InvalidDocumentError("invalid_request", "; ".join(map(str, faults[:5])), faults)


def _fault(detail: ErrorDetails) -> Fault:
    return Fault(
        # pydantic adds which form of `qos` was tried; that is no part of the field's name.
        field=".".join(str(part) for part in detail["loc"] if part not in ("class", "targets")),
        message=detail["msg"].removeprefix("Value error, "),
    )
