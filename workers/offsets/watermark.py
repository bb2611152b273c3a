"""What is finished in one partition, and how a commit says so.

Jobs finish out of order, but Kafka remembers one offset per partition. The offset committed is
therefore the oldest unfinished one, and the commit's metadata says the rest: up to which offset
records were read (``position``) and which of those are unfinished. Everything else below
``position`` is finished and is skipped when the partition is read again.

What is finished stays finished (its terminal event was acknowledged), so two views of a partition
are merged by joining what either knows to be finished. Losing metadata is safe: it means that
work is done again, never that it is lost.
"""

import base64
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

METADATA_BYTES = 4096
"""What a broker accepts unless configured otherwise (``offset.metadata.max.bytes``)."""

_PREFIX = "niyama1:"
_PAYLOAD_BYTES = (METADATA_BYTES - len(_PREFIX)) // 5 * 4  # base85 makes 5 characters of 4 bytes


@dataclass(frozen=True, slots=True)
class History:
    """What became of a record before."""

    attempts: int = 0
    """How often a worker had begun with it."""
    crashes: int = 0
    """How many of those workers died with it in hand."""

    def is_last_chance(self, max_crashes: int) -> bool:
        """It was there at every crash but the last one allowed: it may be what crashes workers."""
        return 0 < self.crashes == max_crashes - 1


@dataclass(frozen=True, slots=True)
class CommitPoint:
    """One partition's commit: ``offset`` is the oldest unfinished record's."""

    offset: int
    metadata: str = ""


@dataclass(slots=True)
class Flight:
    """An unfinished record."""

    history: History
    begun: bool = False
    """This worker has begun to spend work on it: were it to die now, that was one more attempt."""

    def history_if_left(self, *, crashed: bool) -> History:
        """What its next owner should know, when this worker gives it up or dies."""
        if not self.begun:
            return self.history
        return History(self.history.attempts + 1, self.history.crashes + crashed)


class PartitionProgress:
    """Offsets of one partition: which were read, and which of those are unfinished.

    Not started (nothing read, no commit to go by): ``position`` is 0.
    """

    def __init__(self) -> None:
        self.position = 0
        """Every offset below it was read, is to be read again (see `resume_at`), or is gone."""
        self.fits = True
        """The last commit point told everything within the metadata's limit."""
        self._unfinished: dict[int, Flight] = {}  # ascending
        self._expected: deque[int] = deque()
        """Those of them that this worker does not have, but knows from a commit; ascending."""

    @classmethod
    def restored(cls, committed: CommitPoint) -> Self:
        """What a commit says; foreign metadata says nothing beyond the offset."""
        progress = cls()
        progress.merge(committed)
        return progress

    @property
    def watermark(self) -> int:
        """Every offset below it is finished."""
        return next(iter(self._unfinished), self.position)

    @property
    def resume_at(self) -> int:
        """Where reading has to go on."""
        return self._expected[0] if self._expected else self.position

    def in_hand(self) -> Iterator[int]:
        """Offsets of the unfinished records that this worker has."""
        return iter(self._unfinished.keys() - self._expected)

    def is_unfinished(self, offset: int) -> bool:
        """A record that was taken or is to be read again."""
        return offset in self._unfinished

    def take(self, offset: int) -> Flight | None:
        """The record at ``offset`` was read: its flight, or None when it needs no work.

        Offsets are passed in ascending order from `resume_at`; those that were expected and are
        passed over no longer exist (retention, compaction) and count as finished.
        """
        while self._expected and self._expected[0] < offset:
            del self._unfinished[self._expected.popleft()]
        if self._expected and self._expected[0] == offset:
            return self._unfinished[self._expected.popleft()]
        if offset < self.position:
            return None
        flight = self._unfinished[offset] = Flight(History())
        self.position = offset + 1
        return flight

    def finish(self, offset: int) -> bool:
        """The record needs no more work. False when it was finished already."""
        return self._unfinished.pop(offset, None) is not None

    def merge(self, committed: CommitPoint) -> None:
        """Learn from a commit, of this worker or of another that had the partition meanwhile."""
        position, unfinished = _decode(committed)
        known_position, in_hand = self.position, set(self.in_hand())
        known = {
            offset: flight
            for offset, flight in self._unfinished.items()
            if offset in unfinished or offset >= position
        }
        learned = {
            offset: Flight(history)
            for offset, history in unfinished.items()
            if offset not in known and offset >= known_position
        }
        self._unfinished = dict(sorted((known | learned).items()))
        self._expected = deque(offset for offset in self._unfinished if offset not in in_hand)
        self.position = max(known_position, position)

    def commit_point(self, *, crashed: bool = True) -> CommitPoint:
        """What to commit now. ``crashed`` False: this worker gives the partition up, alive."""
        histories = {
            offset: flight.history_if_left(crashed=crashed)
            for offset, flight in self._unfinished.items()
        }
        metadata, self.fits = _encode(self.position, histories, self.watermark)
        return CommitPoint(self.watermark, metadata)


def _encode(position: int, histories: dict[int, History], watermark: int) -> tuple[str, bool]:
    """Metadata within the limit, and whether it holds everything.

    Varints: position - watermark, then per unfinished offset its distance from the one before,
    doubled, plus 1 when two more follow (attempts, crashes). What does not fit is cut off by
    naming an earlier position: from there on everything is done again.
    """
    room = _PAYLOAD_BYTES - len(_varint(position - watermark))
    entries = bytearray()
    previous = watermark
    for offset, history in histories.items():
        entry = _entry(offset - previous, history)
        if len(entries) + len(entry) > room:
            return _text(offset - watermark, entries), False
        entries += entry
        previous = offset
    return _text(position - watermark, entries), True


def _entry(distance: int, history: History) -> bytes:
    if history == History():
        return _varint(distance << 1)
    return _varint(distance << 1 | 1) + _varint(history.attempts) + _varint(history.crashes)


def _text(read_ahead: int, entries: bytes | bytearray) -> str:
    return _PREFIX + base64.b85encode(_varint(read_ahead) + entries).decode()


def _decode(committed: CommitPoint) -> tuple[int, dict[int, History]]:
    """Position and unfinished offsets of a commit; of foreign metadata, just the offset."""
    nothing: tuple[int, dict[int, History]] = (committed.offset, {})
    if not committed.metadata.startswith(_PREFIX):
        return nothing
    try:
        numbers = _varints(base64.b85decode(committed.metadata.removeprefix(_PREFIX)))
        position = committed.offset + next(numbers, 0)
        unfinished = dict(_entries(numbers, committed.offset))
    except ValueError:
        return nothing
    return (position, unfinished) if all(o < position for o in unfinished) else nothing


def _entries(numbers: Iterator[int], offset: int) -> Iterator[tuple[int, History]]:
    for number in numbers:
        offset += number >> 1
        try:
            yield offset, History(next(numbers), next(numbers)) if number & 1 else History()
        except StopIteration:
            raise ValueError("metadata ends in the middle of an entry") from None


def _varint(number: int) -> bytes:
    """Seven bits a byte, low ones first; the high bit says that more follow."""
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
