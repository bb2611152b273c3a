"""Which records of one partition are finished, and how a commit records it.

Jobs finish out of order, but Kafka remembers one offset per partition. The offset committed is
therefore the oldest unfinished one, and the commit's metadata says the rest: up to which offset
records were read (`position`) and which of those are unfinished. Everything else below
`position` is finished and is skipped when the partition is read again.

What is finished stays finished (its terminal event was acknowledged), so two views of a partition
are merged by taking the union of what either knows to be finished. Losing metadata is safe: jobs
run again, and none is lost.
"""

import base64
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from workers.offsets.attempts import AttemptHistory, Exposure, PendingRecord

METADATA_BYTES = 4096
"""What a broker accepts unless configured otherwise (`offset.metadata.max.bytes`)."""

_PREFIX = "niyama1:"
"""Histories have two numbers: attempts and crashes."""
_TRIALS_PREFIX = "niyama2:"
"""They have a third one, the crashes in trials. Written only where there are any: a worker of an
earlier version, which ignores such a commit's metadata, has to read as few of them as possible."""
_PAYLOAD_BYTES = (METADATA_BYTES - len(_PREFIX)) // 5 * 4  # base85 makes 5 characters of 4 bytes


@dataclass(frozen=True, slots=True)
class CommitPoint:
    """One partition's commit; `offset` is that of the oldest unfinished record."""

    offset: int
    metadata: str = ""


class PartitionProgress:
    """Offsets of one partition: which were read, and which of those are unfinished.

    `position` is 0 until something was read or a commit was merged.
    """

    def __init__(self) -> None:
        self.position = 0
        """Every offset below it was read, is to be read again (see `resume_at`), or is gone."""
        self.fits = True
        """The last commit point described everything within the metadata's limit."""
        self._unfinished: dict[int, PendingRecord] = {}
        """By ascending offset."""
        self._to_reread: deque[int] = deque()
        """Unfinished offsets that are known from a commit and not read yet, or were put back;
        ascending."""
        self._largest_gap = range(0)
        """Offsets between two records that were read one after the other."""
        self.confirmed: int | None = None
        """Up to here it was read of the log that was last seen. None: nobody has looked yet."""
        self.log: range | None = None
        """The offsets that the partition had when somebody looked last; None while nobody can."""
        self.replaces_commit = False
        """The group's last commit is about what the log was before; not once this is committed."""

    @property
    def watermark(self) -> int:
        """Every offset below it is finished."""
        return next(iter(self._unfinished), self.position)

    @property
    def resume_at(self) -> int:
        """The offset to read next."""
        return self._to_reread[0] if self._to_reread else self.position

    @property
    def lag(self) -> int | None:
        """Offsets that were there, unread, when somebody looked last. None: nobody knows."""
        if self.log is None:
            return None
        return max(0, self.log.stop - max(self.resume_at, self.log.start))

    def in_flight(self) -> Iterator[int]:
        """Offsets of the records that this worker has read and not finished."""
        return iter(self._unfinished.keys() - self._to_reread)

    def is_unfinished(self, offset: int, pending: PendingRecord) -> bool:
        """`pending` was taken at `offset`, and is not finished; another record may be there now."""
        return self._unfinished.get(offset) is pending

    def take(self, offset: int) -> PendingRecord | None:
        """Account for the record read at `offset`. None when it needs no work.

        Call it with ascending offsets from `resume_at` on. Offsets that were to be read again and
        are skipped no longer exist (retention, compaction): they count as finished.
        """
        if self.position and offset - self.resume_at > len(self._largest_gap):
            self._largest_gap = range(self.resume_at, offset)
        while self._to_reread and self._to_reread[0] < offset:
            del self._unfinished[self._to_reread.popleft()]
        if self._to_reread and self._to_reread[0] == offset:
            return self._unfinished[self._to_reread.popleft()]
        if offset < self.position:
            return None
        pending = self._unfinished[offset] = PendingRecord(AttemptHistory())
        self.position = offset + 1
        return pending

    def put_back(self, offset: int, pending: PendingRecord) -> None:
        """`pending`, taken at `offset`, has not been worked on: go on reading at `resume_at`."""
        pending.exposure = Exposure.NONE
        self._to_reread = deque(sorted((*self._to_reread, offset)))

    def finish(self, offset: int, pending: PendingRecord) -> bool:
        """`pending`, taken at `offset`, needs no more work. False: it is not unfinished here."""
        if not self.is_unfinished(offset, pending):
            return False
        del self._unfinished[offset]
        return True

    def deleted_below(self, start: int) -> range:
        """The log begins at `start`: what was deleted before it was finished, empty if nothing.

        Offsets that are only left out, as those of a transaction's end, are not deleted.
        """
        unread = range(self.resume_at, start) if self.position else range(0)
        skipped = range(self._largest_gap.start, min(self._largest_gap.stop, start))
        self._largest_gap = range(0)
        while self._to_reread and self._to_reread[0] < start:
            del self._unfinished[self._to_reread.popleft()]
        self.position = max(self.position, start) if self.position else 0
        return unread or skipped

    def truncate(self, end: int) -> None:
        """The log ends at `end`: whatever was read beyond is gone, and what comes there is new."""
        self.orphan(range(end, self.position))
        self._unfinished = {o: pending for o, pending in self._unfinished.items() if o < end}
        self._to_reread = deque(offset for offset in self._to_reread if offset < end)
        self._largest_gap = range(0)
        self.position = min(self.position, end)

    def orphan(self, gone: range) -> None:
        """The records at these offsets, where they were taken, exist nowhere else any more."""
        for offset, pending in self._unfinished.items():
            pending.is_orphan |= offset in gone

    def merge(self, committed: CommitPoint) -> None:
        """Merge a commit made by this worker, or by another that owned the partition meanwhile.

        Metadata of other programs is ignored.
        """
        position, unfinished = _decode(committed)
        known_position, in_flight = self.position, set(self.in_flight())
        known = {
            offset: pending
            for offset, pending in self._unfinished.items()
            if offset in unfinished or offset >= position
        }
        learned = {
            offset: PendingRecord(history)
            for offset, history in unfinished.items()
            if offset not in known and offset >= known_position
        }
        for offset in self._unfinished.keys() - known.keys():
            self._unfinished[offset].is_superseded = True
        self._unfinished = dict(sorted((known | learned).items()))
        self._to_reread = deque(offset for offset in self._unfinished if offset not in in_flight)
        self.position = max(known_position, position)

    def give_away(self) -> None:
        """The partition belongs to another worker from now on."""
        for pending in self._unfinished.values():
            pending.is_superseded = True

    def commit_point(self, *, crashed: bool = True) -> CommitPoint:
        """What to commit now.

        The partition's next owner reads it after this worker has crashed or, with `crashed`
        False, after it has given the partition up.
        """
        histories = {
            offset: pending.history_for_next_owner(crashed=crashed)
            for offset, pending in self._unfinished.items()
        }
        metadata, self.fits = _encode(self.position, histories, self.watermark)
        return CommitPoint(self.watermark, metadata)


def _encode(
    position: int, histories: dict[int, AttemptHistory], watermark: int
) -> tuple[str, bool]:
    """Metadata within the limit, and whether it holds everything.

    Varints: position - watermark, then for each unfinished offset its distance from the previous
    one, doubled, plus 1 when its history follows. What does not fit is left out by naming an
    earlier position: everything from there on runs again.
    """
    with_trials = any(history.trial_crashes for history in histories.values())
    prefix, numbers = (_TRIALS_PREFIX, 3) if with_trials else (_PREFIX, 2)
    room = _PAYLOAD_BYTES - len(_varint(position - watermark))
    entries = bytearray()
    previous = watermark
    for offset, history in histories.items():
        entry = _entry(offset - previous, history, numbers)
        if len(entries) + len(entry) > room:
            return _text(prefix, offset - watermark, entries), False
        entries += entry
        previous = offset
    return _text(prefix, position - watermark, entries), True


def _entry(distance: int, history: AttemptHistory, numbers: int) -> bytes:
    if history == AttemptHistory():
        return _varint(distance << 1)
    counts = (history.attempts, history.crashes, history.trial_crashes)[:numbers]
    return b"".join(map(_varint, (distance << 1 | 1, *counts)))


def _text(prefix: str, read_ahead: int, entries: bytes | bytearray) -> str:
    return prefix + base64.b85encode(_varint(read_ahead) + entries).decode()


def _decode(committed: CommitPoint) -> tuple[int, dict[int, AttemptHistory]]:
    """Position and unfinished offsets of a commit; metadata of other programs is ignored."""
    offset_only: tuple[int, dict[int, AttemptHistory]] = (committed.offset, {})
    prefix, payload = committed.metadata[: len(_PREFIX)], committed.metadata[len(_PREFIX) :]
    if prefix not in (_PREFIX, _TRIALS_PREFIX):
        return offset_only
    try:
        numbers = _varints(base64.b85decode(payload))
        position = committed.offset + next(numbers, 0)
        counts = 3 if prefix == _TRIALS_PREFIX else 2
        unfinished = dict(_entries(numbers, committed.offset, counts))
    except ValueError:
        return offset_only
    return (position, unfinished) if all(o < position for o in unfinished) else offset_only


def _entries(
    numbers: Iterator[int], offset: int, counts: int
) -> Iterator[tuple[int, AttemptHistory]]:
    for number in numbers:
        offset += number >> 1
        history = list(islice(numbers, counts)) if number & 1 else [0] * counts
        if len(history) < counts:
            raise ValueError("metadata ends in the middle of an entry")
        yield offset, AttemptHistory(*history)


def _varint(number: int) -> bytes:
    """Seven bits per byte, least significant first; the high bit marks that more follow."""
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def _varints(encoded: bytes) -> Iterator[int]:
    number = shift = 0
    for byte in encoded:
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            yield number
            number = shift = 0
    if shift:
        raise ValueError("metadata ends in the middle of a number")
