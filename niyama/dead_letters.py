"""Records that nobody can use, passed on with the reason in their headers.

Nothing in a record can keep its dead letter from being written: what is too large is left out, and
the headers locate the original.
"""

from dataclasses import dataclass, replace
from typing import Self

from niyama.kafka import ConsumedRecord
from schemas import JobError
from schemas import headers as header_names
from schemas.headers import Headers
from schemas.topics import MAX_VALUE_BYTES

MAX_KEY_BYTES = 4 * 1024
"""A longer key is left out: it would count towards the record's size."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """What is written to the topic of dead letters."""

    key: bytes | None
    value: bytes | None
    headers: Headers

    def without_value(self) -> Self:
        """For a topic that takes smaller records only: the headers locate the original."""
        return replace(self, value=None)


def dead_letter(record: ConsumedRecord, error: JobError, reader: str) -> DeadLetter:
    """The record, byte for byte, as far as topics have room for it. `reader` is who refused it."""
    key = record.key if record.key is None or len(record.key) <= MAX_KEY_BYTES else None
    value = record.value if len(record.value or b"") < MAX_VALUE_BYTES else None
    return DeadLetter(key, value, _headers(record, error, reader))


def _headers(record: ConsumedRecord, error: JobError, reader: str) -> list[tuple[str, bytes]]:
    """The record's own headers, where it came from, and why it was refused."""
    added = {
        header_names.REASON: error.message,
        header_names.REASON_CODE: error.code,
        header_names.SOURCE_TOPIC: record.topic,
        header_names.SOURCE_PARTITION: str(record.partition),
        header_names.SOURCE_OFFSET: str(record.offset),
        header_names.WORKER_ID: reader,
    }
    own, dropped = header_names.bounded([h for h in record.headers if h[0] not in added])
    if dropped:
        added[header_names.DROPPED_HEADERS] = str(dropped)
    return own + [(name, text.encode(errors="backslashreplace")) for name, text in added.items()]
