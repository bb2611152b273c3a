"""Which record a job's id belongs to: the first one that the ledger learns of.

Ids are chosen by producers, so two records may have the same one, by accident or not. Whatever
is about another record than the first changes nothing, no matter who sent it and what it says:
neither the second record itself, nor what a worker reports about it. An event says which record
it is about; that may make a record the first before it is read. A worker's refusal of a second
record makes the one that it names the first, and never the one that was refused.

Cancellations, and events of workers of old versions, name an id alone and count for its job.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cached_property
from itertools import chain
from typing import NamedTuple, Self
from uuid import UUID

from gateway.ledger.records import Entry, Report, Submission
from gateway.ledger.request import Origin
from schemas import JobEvent
from schemas.event import Source


class Position(NamedTuple):
    """Where a job's record is in Kafka."""

    topic: str
    partition: int
    offset: int

    @classmethod
    def of_record(cls, origin: Origin) -> Self:
        return cls(origin.source_topic, origin.source_partition, origin.source_offset)

    @classmethod
    def of_source(cls, source: Source) -> Self:
        return cls(source.topic, source.partition, source.offset)

    @classmethod
    def of_event(cls, event: JobEvent) -> Self | None:
        """Of the record that the event is about; None when it does not say."""
        return None if event.source is None else cls.of_source(event.source)


class Claim(NamedTuple):
    """An entry says that this record has this id."""

    job_id: UUID
    source: Position


class Claims:
    """The claims that a poll's entries make, or speak of."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self._entries = entries
        self._of_entries = [_claim(entry) for entry in entries]
        self._made: dict[Claim, None] = {}
        """By records and by what happened to them, in their order. A refusal makes none."""
        self._refused: list[tuple[Claim, Claim | None]] = []
        """With the claim of the record that the refusal names as the first."""
        for entry, claim in zip(entries, self._of_entries, strict=True):
            if claim is not None and _is_refusal(entry):
                self._refused.append((claim, _holder(entry)))
            elif claim is not None:
                self._made[claim] = None
        named = filter(None, chain.from_iterable(self._refused))
        self.distinct = list(dict.fromkeys((*self._made, *named)))

    def upheld(self, agrees: Sequence[bool | None]) -> Sequence[Entry | Claim]:
        """The entries that count, given of each in `distinct` whether the ledger has the job with
        this record; None: it knows no record of the job. Of several new records with one id the
        first counts. In place of a refusal that comes first there is the claim that it reports."""
        known = dict(zip(self.distinct, agrees, strict=True))
        holders = self._holders(known)
        if len(holders) == len(self.distinct):
            return self._entries
        upheld: list[Entry | Claim] = []
        for entry, claim in zip(self._entries, self._of_entries, strict=True):
            if claim is None or holders.get(claim.job_id) == claim:
                upheld.append(entry)
            elif (
                _is_refusal(entry)
                and (holder := _holder(entry)) is not None
                and known[holder] is None
                and holders.get(holder.job_id) == holder
            ):
                upheld.append(holder)
        return upheld

    def _holders(self, known: Mapping[Claim, bool | None]) -> dict[UUID, Claim]:
        holders: dict[UUID, Claim] = {}
        for claim, agrees in known.items():
            if agrees or (agrees is None and claim in self._made):
                first = holders.setdefault(claim.job_id, claim)
                if first is not claim and self._arrived_before(claim, first):
                    holders[claim.job_id] = claim
        for refused, holder in self._refused:
            is_open = known[refused] is None and holders.get(refused.job_id) in (None, refused)
            if holder is not None and is_open:
                holders[refused.job_id] = holder
        return holders

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
    if isinstance(entry, Report):
        return _claim_of(entry.event, entry.event.source)
    return None


def _is_refusal(entry: Entry) -> bool:
    """Whether a worker says that it refused a record because another one has its id."""
    if not isinstance(entry, Report):
        return False
    event = entry.event
    is_duplicate = event.error is not None and event.error.code == "duplicate_job_id"
    return is_duplicate or event.duplicate_of is not None


def _holder(entry: Entry) -> Claim | None:
    """Of the record that a refusal names as the first; workers of old versions name none."""
    return _claim_of(entry.event, entry.event.duplicate_of) if isinstance(entry, Report) else None


def _claim_of(event: JobEvent, source: Source | None) -> Claim | None:
    return None if source is None else Claim(event.job_id, Position.of_source(source))
