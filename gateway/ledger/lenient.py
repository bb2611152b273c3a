"""What can be read of a job that is not valid as a whole: enough to answer its sender."""

from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError

from gateway.ledger.request import ReadablePart
from schemas import JobRequest
from schemas.decode import readable_object

_FIELDS: Mapping[str, TypeAdapter[Any]] = {
    name: TypeAdapter(JobRequest.model_fields[name].rebuild_annotation())
    for name in ("tenant", "reply_topic", "metadata")
}
"""Each is judged by itself, by the rule that holds in a valid job."""


def readable_part(value: bytes | None) -> ReadablePart:
    """The valid ones among a few fields of a record that is a JSON object; else nothing."""
    document = readable_object(value) or {}
    readable = ReadablePart()
    for name, rule in _FIELDS.items():
        if document.get(name) is not None:
            try:
                readable[name] = rule.validate_python(document[name], strict=True)  # type: ignore[literal-required]
            except ValidationError:
                continue
    return readable
