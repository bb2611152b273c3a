"""How often a record was attempted, which of those attempts ended with a worker's death, and
whether the record is the likely cause.

A death says little about any one record: a worker runs many at a time, and most deaths have a
cause outside. So a death only makes suspects of the records that the worker was working on. A
record that was there at `SUSPECT_CRASHES` deaths runs on trial from then on: by itself, for as
long as it takes to see its first token. Only deaths during its trials count against it, and the
first trial that it survives clears it of them.
"""

from dataclasses import dataclass, replace
from enum import Enum, auto

SUSPECT_CRASHES = 2
"""Deaths with a record being worked on after which it runs on trial."""
MAX_CRASHES = 64
"""Deaths after which a job fails although it survives its trials: what kills late."""


class Exposure(Enum):
    """What the death of this worker, now, would say about a record."""

    NONE = auto()
    """Nothing: the record waits, or has ended."""
    SUBMITTED = auto()
    """It may be the cause, if the engine has started on it without having said so. If this worker
    gives it up, there was no attempt."""
    SHARED = auto()
    """It may be the cause, like others that are worked on."""
    TRIAL = auto()
    """It is the likely cause: it is on trial."""


@dataclass(frozen=True, slots=True)
class AttemptHistory:
    """Earlier attempts at a record."""

    attempts: int = 0
    """How many times a worker has started on it."""
    crashes: int = 0
    """How many of those attempts ended with the death of the worker or of its engine."""
    trial_crashes: int = 0
    """How many of those deaths came during a trial, since the last trial that it survived."""

    @property
    def is_suspect(self) -> bool:
        """The record is run on trial."""
        return self.crashes >= SUSPECT_CRASHES


@dataclass(frozen=True, slots=True)
class CrashLimit:
    """How many trials one record may end with a death."""

    max_trial_crashes: int
    """The deaths during trials after which its job fails; at least 1."""

    def is_exhausted(self, history: AttemptHistory) -> bool:
        """The job is not run again."""
        return history.trial_crashes >= self.max_trial_crashes or history.crashes >= MAX_CRASHES

    def kills_on_decode(self, history: AttemptHistory) -> bool:
        """A worker died although the job would not have run again: decoding the record kills it."""
        return history.trial_crashes > self.max_trial_crashes or history.crashes > MAX_CRASHES


@dataclass(slots=True, eq=False)
class PendingRecord:
    """An unfinished record."""

    history: AttemptHistory
    exposure: Exposure = Exposure.NONE
    """Set by `expose_ahead` and, once the record is a job in flight, by the verbs of
    `InFlightJob`."""
    is_superseded: bool = False
    """Another worker has finished it, or its partition: nothing more is to be said about it."""
    is_orphan: bool = False
    """Its record is no longer in Kafka: the job ends here, or nowhere."""

    def expose_ahead(self) -> None:
        """Work on the record is about to start; committed before it does."""
        self.exposure = Exposure.TRIAL if self.history.is_suspect else Exposure.SHARED

    def acquit(self) -> None:
        """It has survived its trial."""
        self.history = replace(self.history, trial_crashes=0)

    def history_for_next_owner(self, *, crashed: bool) -> AttemptHistory:
        """The history once this worker has crashed, or given the record up."""
        if self.exposure is Exposure.NONE:
            return self.history
        if self.exposure is Exposure.SUBMITTED and not crashed:
            return self.history
        on_trial = self.exposure is Exposure.TRIAL
        return AttemptHistory(
            self.history.attempts + 1,
            self.history.crashes + crashed,
            self.history.trial_crashes + (crashed and on_trial),
        )
