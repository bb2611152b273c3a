"""Whatever happens to jobs, the next owner of their records learns which of them to blame."""

from enum import Enum, auto

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from schemas import JobRequest, QosCatalog
from schemas.decode import job_id_of_record
from tests.support.records import FakeRecord, tracked
from workers.execution.executor import CRASH_SUSPECT_S
from workers.execution.in_flight import InFlightJob, InFlightJobs
from workers.execution.job import Job, qos_of
from workers.offsets.attempts import AttemptHistory, CrashLimit
from workers.offsets.tracked_record import TrackedRecord
from workers.offsets.watermark import CommitPoint, PartitionProgress
from workers.reporting.job_attempt import JobAttempt

LIMIT = CrashLimit(max_attempts=3)
REQUEST = JobRequest(model="m", prompt="p", qos="chat")
QOS = qos_of(REQUEST, QosCatalog.shipped().resolve("chat"), 0.0)

indices = st.integers(0, 1_000)


class Phase(Enum):
    """Where a job is, as the test sees it."""

    COUNTED_AHEAD = auto()
    QUEUED = auto()
    PREPARING = auto()
    SUBMITTED = auto()
    STARTED = auto()
    ENDED = auto()
    """Its terminal event is not acknowledged yet."""


TO_BLAME = {Phase.COUNTED_AHEAD, Phase.PREPARING, Phase.STARTED}
"""A worker that dies without a word may have died of a job in one of these."""


class AttemptsMachine(RuleBasedStateMachine):
    """Any sequence of verbs, over the lives of several workers that own one partition in turn."""

    def __init__(self) -> None:
        super().__init__()
        self.progress = PartitionProgress()
        self.in_flight = InFlightJobs()
        self.now_s = 100.0
        self.next_offset = 0
        self.jobs: dict[int, InFlightJob] = {}
        """By offset, here and in the next three."""
        self.phases: dict[int, Phase] = {}
        self.submitted_s: dict[int, float] = {}
        self.histories: dict[int, AttemptHistory] = {}
        """What each unfinished record has been through with earlier owners."""

    # ---- verbs

    @rule()
    def take(self) -> None:
        self.histories[self.next_offset] = AttemptHistory()
        self._take(self.next_offset, Phase.QUEUED)
        self.next_offset += 1

    @precondition(lambda self: self._in(Phase.COUNTED_AHEAD))
    @rule(index=indices)
    def queue(self, index: int) -> None:
        self._pick(index, Phase.QUEUED, Phase.COUNTED_AHEAD).queued()

    @precondition(lambda self: self._in(Phase.QUEUED, Phase.PREPARING))
    @rule(index=indices)
    def prepare(self, index: int) -> None:
        """Again for a job that runs exclusively: it counts from before its commit."""
        self._pick(index, Phase.PREPARING, Phase.QUEUED, Phase.PREPARING).preparing()

    @precondition(lambda self: self._in(Phase.PREPARING))
    @rule(index=indices)
    def submit(self, index: int) -> None:
        job = self._pick(index, Phase.SUBMITTED, Phase.PREPARING)
        job.submitted(self.now_s)
        self.submitted_s[job.tracked.record.offset] = self.now_s

    @precondition(lambda self: self._in(Phase.SUBMITTED))
    @rule(index=indices)
    def start(self, index: int) -> None:
        self._pick(index, Phase.STARTED, Phase.SUBMITTED).started()

    @precondition(lambda self: self._in(Phase.PREPARING, Phase.SUBMITTED, Phase.STARTED))
    @rule(index=indices)
    def end(self, index: int) -> None:
        """Cancelled or failed before its prefill has started, or generated."""
        job = self._pick(index, Phase.ENDED, Phase.PREPARING, Phase.SUBMITTED, Phase.STARTED)
        job.ended()
        self.submitted_s.pop(job.tracked.record.offset, None)

    @precondition(lambda self: self._in(Phase.ENDED))
    @rule(index=indices)
    def acknowledge(self, index: int) -> None:
        job = self._pick(index, Phase.ENDED, Phase.ENDED)
        job.tracked.finish()
        self._forget(job.tracked.record.offset)

    @rule(after_s=st.floats(0.1, 2 * CRASH_SUSPECT_S))
    def wait(self, after_s: float) -> None:
        self.now_s += after_s

    # ---- changes of owner

    @rule()
    def give_up(self) -> None:
        self._change_owner(self._to_blame(), crashed=False)

    @rule()
    def worker_dies(self) -> None:
        self._change_owner(self._to_blame(), crashed=True)

    @rule()
    def engine_dies(self) -> None:
        since_s = self.now_s - CRASH_SUSPECT_S
        for job in self.jobs.values():
            job.may_have_crashed(since_s)
        suspects = {offset for offset, at_s in self.submitted_s.items() if at_s >= since_s}
        self._change_owner(self._to_blame() | suspects, crashed=True)

    # ---- what always holds

    @invariant()
    def a_commit_blames_exactly_what_may_be_to_blame(self) -> None:
        assert _read(self.progress.commit_point()) == self._expected(self._to_blame(), True)
        given_up = _read(self.progress.commit_point(crashed=False))
        assert given_up == self._expected(self._to_blame(), False)

    @invariant()
    def no_job_crashes_more_workers_than_it_may(self) -> None:
        for job in self.jobs.values():
            history = job.tracked.pending.history
            assert history.crashes < LIMIT.max_attempts
            assert history.crashes <= history.attempts

    @invariant()
    def a_job_has_started_once_its_prefill_has(self) -> None:
        for offset, phase in self.phases.items():
            if phase is not Phase.ENDED:
                assert self.jobs[offset].has_started == (phase is Phase.STARTED)

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
        if phase is Phase.COUNTED_AHEAD:
            pending.count_ahead(LIMIT)
            phase = Phase.QUEUED if LIMIT.is_last_chance(pending.history) else phase
        job_id = job_id_of_record(record.topic, record.partition, offset)
        attempt = JobAttempt.of(record, job_id, pending.history.attempts + 1)
        self.jobs[offset] = self.in_flight.add(Job(job_id, REQUEST, QOS), here, attempt)
        self.phases[offset] = phase

    def _change_owner(self, blamed: set[int], *, crashed: bool) -> None:
        """Another worker reads the last commit, and everything that it calls unfinished."""
        committed = self.progress.commit_point(crashed=crashed)
        self.histories = self._expected(blamed, crashed)
        self.progress, self.in_flight = PartitionProgress(), InFlightJobs()
        self.progress.merge(committed)
        self.jobs, self.phases, self.submitted_s = {}, {}, {}
        for offset in sorted(self.histories):
            self._take(offset, Phase.COUNTED_AHEAD)

    def _expected(self, blamed: set[int], crashed: bool) -> dict[int, AttemptHistory]:
        return {
            offset: AttemptHistory(history.attempts + 1, history.crashes + crashed)
            if offset in blamed
            else history
            for offset, history in self.histories.items()
        }

    def _to_blame(self) -> set[int]:
        return {offset for offset, phase in self.phases.items() if phase in TO_BLAME}

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


@pytest.mark.parametrize(("submitted_s", "counts"), [(94.9, False), (95.0, True), (99.0, True)])
def test_a_dead_engine_blames_what_was_submitted_lately(submitted_s: float, counts: bool) -> None:
    job = _job()
    job.preparing()
    job.submitted(submitted_s)
    job.may_have_crashed(since_s=95.0)
    assert job.tracked.pending.attempt_counts is counts


def test_a_dead_engine_does_not_blame_what_has_ended_or_was_never_submitted() -> None:
    ended, queued = _job(), _job()
    ended.preparing()
    ended.submitted(99.0)
    ended.ended()
    queued.queued()
    for job in (ended, queued):
        job.may_have_crashed(since_s=95.0)
        assert not job.tracked.pending.attempt_counts


def _job() -> InFlightJob:
    record = tracked(FakeRecord())
    job_id = job_id_of_record(FakeRecord.topic, FakeRecord.partition, FakeRecord.offset)
    attempt = JobAttempt.of(record.record, job_id, 1)
    return InFlightJobs().add(Job(job_id, REQUEST, QOS), record, attempt)


TestAttempts = AttemptsMachine.TestCase
TestAttempts.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
