"""Records that cannot be served, passed on with the reason in their headers."""

from niyama.kafka import ConsumedRecord
from schemas import JobError
from schemas import headers as header_names
from schemas.headers import Headers
from workers.reporting.batch_sender import Delivered, OutgoingRecord
from workers.reporting.record_sizes import MAX_VALUE_BYTES

HEADER_OVERHEAD_BYTES = 10
"""What Kafka adds to a header's name and value."""


def dead_letter(
    record: ConsumedRecord,
    error: JobError,
    worker_id: str,
    timestamp_ms: int,
    on_delivered: Delivered,
) -> OutgoingRecord:
    """The record, byte for byte.

    A record that no topic has room for goes without its value; the headers locate the original.
    """
    headers = _headers(record, error, worker_id)
    value = record.value if _fits(record, headers) else None
    return OutgoingRecord(record.key, value, timestamp_ms, headers, on_delivered)


def _headers(record: ConsumedRecord, error: JobError, worker_id: str) -> list[tuple[str, bytes]]:
    """The record's own headers, where it came from, and why it was refused."""
    added = {
        header_names.REASON: error.message,
        header_names.REASON_CODE: error.code,
        header_names.SOURCE_TOPIC: record.topic,
        header_names.SOURCE_PARTITION: str(record.partition),
        header_names.SOURCE_OFFSET: str(record.offset),
        header_names.WORKER_ID: worker_id,
    }
    encoded = [(name, text.encode(errors="backslashreplace")) for name, text in added.items()]
    return [*(header for header in record.headers if header[0] not in added), *encoded]


def _fits(record: ConsumedRecord, headers: Headers) -> bool:
    size = sum(len(name) + len(value) + HEADER_OVERHEAD_BYTES for name, value in headers)
    return size + len(record.value or b"") + len(record.key or b"") < MAX_VALUE_BYTES
