"""What can be read of a job that is not valid as a whole: enough to answer its sender."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from gateway.ledger.request import ReadablePart
from schemas import JobRequest
from schemas.document import NoneIfInvalid


def _field(name: str) -> Any:
    rule = JobRequest.model_fields[name].rebuild_annotation()
    return Annotated[rule, NoneIfInvalid()], None


# Each is judged by itself, by the rule that holds in a valid job.
_Readable: type[BaseModel] = create_model(
    "_Readable",
    __config__=ConfigDict(strict=True),
    **{name: _field(name) for name in ReadablePart.__annotations__},
)


def readable_part(value: bytes | None) -> ReadablePart:
    """The valid ones among a few fields of a record that is a JSON object; else nothing."""
    try:
        readable = _Readable.model_validate_json(value or b"")
    except ValidationError:
        return ReadablePart()
    part: ReadablePart = readable.model_dump(exclude_none=True)  # type: ignore[assignment]
    return part
