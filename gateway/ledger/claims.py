"""Which record a job's id belongs to: the first one that the ledger learns of.

Ids are chosen by producers, so two records may have the same one, by accident or not. Whatever
is about another record than the first changes nothing, whoever sent it and whatever it says:
neither the second record itself, nor what a worker reports about it. An event says which record
it is about; that may make a record the first before it is read.

Cancellations, and events of workers of old versions, name an id alone and count for its job.
"""

from collections.abc import Sequence, Set
from datetime import datetime
from functools import cached_property
from typing import NamedTuple, Self
from uuid import UUID

from gateway.ledger.records import Entry, Report, Submission
from gateway.ledger.request import Origin
from schemas import JobEvent


class Position(NamedTuple):
    """Where a job's record is in Kafka."""

    topic: str
    partition: int
    offset: int

    @classmethod
    def of_record(cls, origin: Origin) -> Self:
        return cls(origin.source_topic, origin.source_partition, origin.source_offset)

    @classmethod
    def of_event(cls, event: JobEvent) -> Self | None:
        """Of the record that the event is about; None when it does not say."""
        source = event.source
        return None if source is None else cls(source.topic, source.partition, source.offset)


class Claim(NamedTuple):
    """An entry says that this record has this id."""

    job_id: UUID
    source: Position


class Claims:
    """The claims that a poll's entries make, in the order of the entries."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self._entries = entries
        self._of_entries = [_claim(entry) for entry in entries]
        self.distinct = list(dict.fromkeys(filter(None, self._of_entries)))

    def upheld(self, lost: Set[int]) -> Sequence[Entry]:
        """The entries that count, given the places in `distinct` of the claims whose job the
        ledger has with another record. Of several new records with one id the first counts."""
        holders: dict[UUID, Claim] = {}
        for place, claim in enumerate(self.distinct):
            if place not in lost:
                known = holders.setdefault(claim.job_id, claim)
                if known is not claim and self._arrived_before(claim, known):
                    holders[claim.job_id] = claim
        if len(holders) == len(self.distinct):
            return self._entries
        return [
            entry
            for entry, claim in zip(self._entries, self._of_entries, strict=True)
            if claim is None or holders.get(claim.job_id) == claim
        ]

    def _arrived_before(self, later: Claim, earlier: Claim) -> bool:
        """Whether the one that was read later arrived first: a poll's partitions are read in any
        order, and a ledger that catches up polls records of different times together. Within a
        partition the offsets say it: timestamps are those of several producers' clocks."""
        known = self._arrivals
        if later not in known or earlier not in known:
            return False
        if later.source[:2] == earlier.source[:2]:
            return later.source.offset < earlier.source.offset
        return known[later] < known[earlier]

    @cached_property
    def _arrivals(self) -> dict[Claim, datetime]:
        return {
            claim: entry.request.arrived_at
            for entry, claim in zip(self._entries, self._of_entries, strict=True)
            if claim is not None and isinstance(entry, Submission)
        }


def _claim(entry: Entry) -> Claim | None:
    if isinstance(entry, Submission):
        return Claim(entry.job_id, Position.of_record(entry.request))
    if isinstance(entry, Report) and (source := Position.of_event(entry.event)):
        return Claim(entry.event.job_id, source)
    return None
