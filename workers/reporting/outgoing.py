"""A record on its way to Kafka."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

_OVERHEAD_BYTES = 200
"""Bookkeeping in memory, so that many small records count, too."""

Delivered = Callable[[], None]


@dataclass(frozen=True, slots=True)
class OutgoingRecord:
    """One record for one topic."""

    key: bytes | None
    value: bytes | None
    timestamp_ms: int
    headers: Sequence[tuple[str, bytes]] = ()
    on_delivered: Delivered | None = None
    """Called once the record needs no more care: all in-sync replicas have it, it is superseded, or
    it was given up, where its topic allows that."""
    is_superseded: Callable[[], bool] | None = None
    """Asked when it is about to be sent. True: it is not sent."""
    smaller: "Callable[[], OutgoingRecord] | None" = None
    """Makes what is sent in its place when Kafka finds it too large."""

    size_bytes: int = field(init=False)
    """In memory and on the wire, roughly. A field, because it is added up at every step."""

    def __post_init__(self) -> None:
        size_bytes = len(self.key or b"") + len(self.value or b"") + _OVERHEAD_BYTES
        for name, value in self.headers:
            size_bytes += len(name) + len(value)
        object.__setattr__(self, "size_bytes", size_bytes)
