"""How often a record was attempted, and how many workers died during those attempts."""

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
        """A worker died although the job would not have run again: decoding the record kills it."""
        return history.crashes > self.max_attempts


@dataclass(slots=True)
class PendingRecord:
    """An unfinished record."""

    history: AttemptHistory
    attempt_counts: bool = False
    """If this worker stopped now, that would have been an attempt at the record. Set by
    `count_ahead` and, once the record is a job in flight, by the verbs of `InFlightJob`."""

    def count_ahead(self, limit: CrashLimit) -> None:
        """Count an attempt before it starts, unless it is the last chance: such a job first waits
        for its turn to run exclusively."""
        self.attempt_counts = not limit.is_last_chance(self.history)

    def history_for_next_owner(self, *, crashed: bool) -> AttemptHistory:
        """The history once this worker has crashed, or given the record up."""
        if not self.attempt_counts:
            return self.history
        return AttemptHistory(self.history.attempts + 1, self.history.crashes + crashed)
