"""The base of everything that travels: strict, frozen, versioned."""

from datetime import UTC, datetime
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, StringConstraints

SCHEMA_VERSION: Final = 1


def _as_utc(value: datetime) -> datetime:
    if value.tzinfo is None:
        raise ValueError("needs a time zone, e.g. 2026-11-21T09:30:00Z")
    try:
        return value.astimezone(UTC)
    except OverflowError:  # pydantic would let it through
        raise ValueError("must be between the years 1 and 9999 in UTC") from None


UtcDatetime = Annotated[datetime, AfterValidator(_as_utc)]
"""An absolute time. A naive time is refused rather than guessed at."""

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@-]{0,127}$")]
"""A short identifier: letters, digits and `. _ : / @ -`, at most 128 characters."""


MAX_EXPLANATION_CHARACTERS = 1_000


def _shortened(text: str) -> str:
    return text[:MAX_EXPLANATION_CHARACTERS]


Explanation = Annotated[str, AfterValidator(_shortened)]
"""A reason or a message for people. Only its first 1,000 characters are kept: it may quote a whole
document."""


class Payload(BaseModel):
    """A part of a message. Unknown fields are refused: a typo must not pass for a setting."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, serialize_by_alias=True, use_attribute_docstrings=True
    )


class Message(Payload):
    """A whole Kafka record value, as UTF-8 JSON."""

    schema_version: Literal[1] = SCHEMA_VERSION

    def to_bytes(self) -> bytes:
        """The record value. Absent optional fields are left out."""
        return self.model_dump_json(exclude_none=True).encode()
