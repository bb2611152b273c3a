"""Whatever happens to jobs, the next owner of their records learns which may be to blame."""

from dataclasses import replace
from enum import Enum, auto
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from schemas import JobRequest, QosCatalog
from schemas.decode import job_id_of_record
from tests.support.records import FakeRecord, tracked
from workers.execution.in_flight import InFlightJob, InFlightJobs, TopicLoad
from workers.job import Job, qos_of
from workers.offsets.attempts import AttemptHistory, CrashLimit, Exposure
from workers.offsets.tracked_record import TrackedRecord
from workers.offsets.watermark import CommitPoint, PartitionProgress
from workers.reporting.job_attempt import JobAttempt

LIMIT = CrashLimit(max_trial_crashes=3)
REQUEST = JobRequest(model="m", prompt="p", qos="chat")
QOS = qos_of(REQUEST, QosCatalog.shipped().resolve("chat"), 0.0)

indices = st.integers(0, 1_000)


class Phase(Enum):
    """Where a job is, as the test sees it."""

    WRITTEN_AHEAD = auto()
    WAITING = auto()
    """For its turn."""
    PREPARING = auto()
    SUBMITTED = auto()
    QUEUED = auto()
    """It waits in the engine."""
    STARTED = auto()
    ENDED = auto()
    """Its terminal event is not acknowledged yet."""


BEFORE_THE_END = (Phase.PREPARING, Phase.SUBMITTED, Phase.QUEUED, Phase.STARTED)
AT_WORK = {Phase.WRITTEN_AHEAD, Phase.PREPARING, Phase.STARTED}
"""A worker that dies may have died of a job in one of these, and if it gives the job up, then there
was an attempt."""
SUSPECT = AT_WORK | {Phase.SUBMITTED}
"""A worker that dies may have died of a job in one of these."""


class AttemptsMachine(RuleBasedStateMachine):
    """Any sequence of verbs, over the lives of several workers that own one partition in turn."""

    def __init__(self) -> None:
        super().__init__()
        self.progress = PartitionProgress()
        self.in_flight = InFlightJobs()
        self.next_offset = 0
        self.jobs: dict[int, InFlightJob] = {}
        """By offset, here and in the next three."""
        self.phases: dict[int, Phase] = {}
        self.on_trial: set[int] = set()
        self.histories: dict[int, AttemptHistory] = {}
        """What each unfinished record has been through with earlier owners."""

    # ---- verbs

    @rule()
    def take(self) -> None:
        self.histories[self.next_offset] = AttemptHistory()
        self._take(self.next_offset, Phase.WAITING)
        self.next_offset += 1

    @precondition(lambda self: self._in(Phase.WRITTEN_AHEAD))
    @rule(index=indices)
    def hold_back(self, index: int) -> None:
        job = self._pick(index, Phase.WAITING, Phase.WRITTEN_AHEAD)
        self.on_trial.discard(job.tracked.record.offset)
        job.held_back()

    @precondition(lambda self: self._in(Phase.WRITTEN_AHEAD, Phase.WAITING))
    @rule(index=indices, on_trial=st.booleans())
    def prepare(self, index: int, on_trial: bool) -> None:
        job = self._pick(index, Phase.PREPARING, Phase.WRITTEN_AHEAD, Phase.WAITING)
        if on_trial or job.tracked.pending.exposure is Exposure.TRIAL:
            self.on_trial.add(job.tracked.record.offset)
            job.on_trial()
        job.preparing()

    @precondition(lambda self: self._in(Phase.PREPARING))
    @rule(index=indices)
    def submit(self, index: int) -> None:
        self._pick(index, Phase.SUBMITTED, Phase.PREPARING).submitted()

    @precondition(lambda self: self._in(Phase.SUBMITTED))
    @rule(index=indices)
    def wait_in_the_engine(self, index: int) -> None:
        job = self._pick(index, Phase.QUEUED, Phase.SUBMITTED)
        self.on_trial.discard(job.tracked.record.offset)
        job.still_waiting()

    @precondition(lambda self: self._in(Phase.PREPARING))
    @rule(index=indices)
    def take_too_long_to_prepare(self, index: int) -> None:
        job = self._pick(index, Phase.PREPARING, Phase.PREPARING)
        self.on_trial.discard(job.tracked.record.offset)
        job.trial_over()

    @precondition(lambda self: self._in(Phase.SUBMITTED, Phase.QUEUED))
    @rule(index=indices)
    def start(self, index: int) -> None:
        job = self._pick(index, Phase.STARTED, Phase.SUBMITTED, Phase.QUEUED)
        job.started()
        job.still_waiting()  # comes when it comes

    @precondition(lambda self: self._in(Phase.STARTED))
    @rule(index=indices)
    def survive(self, index: int) -> None:
        job = self._pick(index, Phase.STARTED, Phase.STARTED)
        offset = job.tracked.record.offset
        job.trial_over()
        if offset in self.on_trial:
            self.on_trial.remove(offset)
            self.histories[offset] = replace(self.histories[offset], trial_crashes=0)

    @precondition(lambda self: self._in(*BEFORE_THE_END))
    @rule(index=indices)
    def end(self, index: int) -> None:
        """Cancelled or failed before its prefill has started, or generated."""
        job = self._pick(index, Phase.ENDED, *BEFORE_THE_END)
        self.on_trial.discard(job.tracked.record.offset)
        job.ended()
        job.started()  # the decision that says so comes late
        job.trial_over()

    @precondition(lambda self: self._in(Phase.ENDED))
    @rule(index=indices)
    def acknowledge(self, index: int) -> None:
        job = self._pick(index, Phase.ENDED, Phase.ENDED)
        job.tracked.finish()
        self._forget(job.tracked.record.offset)

    # ---- changes of owner

    @rule()
    def give_up(self) -> None:
        self._change_owner(crashed=False)

    @rule()
    def die(self) -> None:
        self._change_owner(crashed=True)

    # ---- what always holds

    @invariant()
    def a_commit_says_exactly_what_may_be_to_blame(self) -> None:
        assert _read(self.progress.commit_point()) == self._expected(crashed=True)
        given_up = _read(self.progress.commit_point(crashed=False))
        assert given_up == self._expected(crashed=False)

    @invariant()
    def no_job_that_is_run_has_reached_the_limit(self) -> None:
        for job in self.jobs.values():
            history = job.tracked.pending.history
            assert not LIMIT.is_exhausted(history)
            assert history.trial_crashes <= history.crashes <= history.attempts

    # ---- helpers

    def _take(self, offset: int, phase: Phase) -> None:
        record = FakeRecord(offset=offset)
        pending = self.progress.take(offset)
        assert pending is not None
        assert pending.history == self.histories[offset]
        here = TrackedRecord(record, pending, self.progress)
        if LIMIT.is_exhausted(pending.history):
            here.finish()
            del self.histories[offset]
            return
        if phase is Phase.WRITTEN_AHEAD:
            pending.expose_ahead()
            if pending.history.is_suspect:
                self.on_trial.add(offset)
        job_id = job_id_of_record(record.topic, record.partition, offset)
        attempt = JobAttempt.of(record, job_id, pending.history.attempts + 1)
        self.jobs[offset] = self.in_flight.add(Job(job_id, REQUEST, QOS), here, attempt)
        self.jobs[offset].taken()
        self.phases[offset] = phase

    def _change_owner(self, *, crashed: bool) -> None:
        """Another worker reads the last commit, and everything that it calls unfinished."""
        committed = self.progress.commit_point(crashed=crashed)
        self.histories = self._expected(crashed=crashed)
        self.progress, self.in_flight = PartitionProgress(), InFlightJobs()
        self.progress.merge(committed)
        self.jobs, self.phases, self.on_trial = {}, {}, set()
        for offset in sorted(self.histories):
            self._take(offset, Phase.WRITTEN_AHEAD)

    def _expected(self, *, crashed: bool) -> dict[int, AttemptHistory]:
        return {
            offset: self._history(offset, history, crashed)
            for offset, history in self.histories.items()
        }

    def _history(self, offset: int, history: AttemptHistory, crashed: bool) -> AttemptHistory:
        on_trial = offset in self.on_trial
        if not on_trial and self.phases[offset] not in (SUSPECT if crashed else AT_WORK):
            return history
        return AttemptHistory(
            history.attempts + 1,
            history.crashes + crashed,
            history.trial_crashes + (crashed and on_trial),
        )

    def _in(self, *phases: Phase) -> list[int]:
        return [offset for offset, phase in sorted(self.phases.items()) if phase in phases]

    def _pick(self, index: int, becomes: Phase, *phases: Phase) -> InFlightJob:
        """A job that is in one of `phases`."""
        offsets = self._in(*phases)
        offset = offsets[index % len(offsets)]
        self.phases[offset] = becomes
        return self.jobs[offset]

    def _forget(self, offset: int) -> None:
        self.in_flight.remove(self.jobs.pop(offset))
        del self.phases[offset], self.histories[offset]


def _read(committed: CommitPoint) -> dict[int, AttemptHistory]:
    """What the next owner reads of each unfinished record."""
    progress = PartitionProgress()
    progress.merge(committed)
    taken = {offset: progress.take(offset) for offset in range(committed.offset, progress.position)}
    return {offset: pending.history for offset, pending in taken.items() if pending is not None}


TestAttempts = AttemptsMachine.TestCase
TestAttempts.settings = settings(max_examples=60, stateful_step_count=40)


@pytest.mark.parametrize(
    ("asked", "mebibytes"),
    [
        ({"max_tokens": 10_000}, 0),
        ({"max_tokens": 10_000, "top_logprobs": 20}, 0),  # without `logprobs` there are none
        ({"max_tokens": 10_000, "logprobs": True}, 3),
        ({"max_tokens": 1_000, "logprobs": True, "top_logprobs": 20}, 6),
        ({"max_tokens": 1_000_000, "logprobs": True, "top_logprobs": 20}, 43),
    ],
)
def test_log_probabilities_count_before_they_are_there(
    asked: dict[str, Any], mebibytes: int
) -> None:
    """Those that a result cannot hold never come to be."""
    in_flight, record = InFlightJobs(), FakeRecord(b"x")
    request = JobRequest(model="m", prompt="p", qos="batch-1h", **asked)
    job_id = job_id_of_record(record.topic, record.partition, record.offset)
    attempt = JobAttempt.of(record, job_id, 1)
    job = in_flight.add(Job(job_id, request, QOS), tracked(record), attempt)
    load = in_flight.load(record.topic)
    assert round(load.memory_bytes / 2**20) == mebibytes
    in_flight.remove(job)
    assert load == TopicLoad()
