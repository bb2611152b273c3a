"""How often a record was attempted, and how many workers died of it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AttemptHistory:
    """Earlier attempts at a record."""

    attempts: int = 0
    """How many times a worker has started on it."""
    crashes: int = 0
    """How many of those attempts ended with the worker's death."""


@dataclass(frozen=True, slots=True)
class CrashLimit:
    """How many workers one record may crash."""

    max_attempts: int
    """The crashes after which its job is given up as failed; at least 1."""

    def is_last_chance(self, history: AttemptHistory) -> bool:
        """One more crash exhausts the limit: this record may be what crashes workers."""
        return 0 < history.crashes == self.max_attempts - 1

    def is_exhausted(self, history: AttemptHistory) -> bool:
        """The job is not run again."""
        return history.crashes >= self.max_attempts

    def kills_on_decode(self, history: AttemptHistory) -> bool:
        """A worker died even though the limit was exhausted: merely decoding the record kills it.

        A record that can be decoded is refused at `max_attempts`, before it can crash another.
        """
        return history.crashes > self.max_attempts


@dataclass(slots=True)
class PendingRecord:
    """An unfinished record."""

    history: AttemptHistory
    attempt_counts: bool = False
    """If the worker died now, that would be an attempt at this record. Kept by `count_ahead` and
    then by `workers.execution.in_flight.InFlightJob`."""

    def count_ahead(self, limit: CrashLimit) -> None:
        """Count an attempt before it starts, except at a job on its last chance: it waits for its
        turn, and counts from then on."""
        self.attempt_counts = not limit.is_last_chance(self.history)

    def history_for_next_owner(self, *, crashed: bool) -> AttemptHistory:
        """The history once this worker has crashed, or given the record up."""
        if not self.attempt_counts:
            return self.history
        return AttemptHistory(self.history.attempts + 1, self.history.crashes + crashed)
