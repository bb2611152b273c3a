"""Whatever the order in which jobs finish, a restart loses none and repeats only what it must."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.offsets.attempts import AttemptHistory, Exposure, PendingRecord
from workers.offsets.watermark import METADATA_BYTES, CommitPoint, PartitionProgress

LOGS = st.lists(
    st.tuples(st.integers(1, 300), st.booleans(), st.booleans()), min_size=1, max_size=300
)
"""For each record: the gap before its offset, as compaction and transaction markers leave them,
whether it finishes, and whether its attempt counts."""


def _take(progress: PartitionProgress, offset: int) -> PendingRecord:
    pending = progress.take(offset)
    assert pending is not None
    return pending


def _run(log: list[tuple[int, bool, bool]]) -> tuple[PartitionProgress, set[int], set[int]]:
    """Progress after reading the log, its unfinished offsets, and those whose attempt counts."""
    progress = PartitionProgress()
    offset, unfinished, attempted = 0, set(), set()
    for gap, finishes, attempts in log:
        offset += gap
        pending = _take(progress, offset)
        pending.exposure = Exposure.SHARED if attempts else Exposure.NONE
        if finishes:
            assert progress.finish(offset, pending)
        else:
            unfinished.add(offset)
            attempted |= {offset} if attempts else set()
    return progress, unfinished, attempted


def _restored(committed: CommitPoint) -> PartitionProgress:
    """The progress of a worker that has read nothing but the commit."""
    progress = PartitionProgress()
    progress.merge(committed)
    return progress


def _offsets(log: list[tuple[int, bool, bool]]) -> list[int]:
    offsets, offset = [], 0
    for gap, _, _ in log:
        offset += gap
        offsets.append(offset)
    return offsets


@given(LOGS)
def test_never_commits_past_an_unfinished_offset(log: list[tuple[int, bool, bool]]) -> None:
    progress, unfinished, _ = _run(log)
    expected = min(unfinished) if unfinished else progress.position
    assert progress.commit_point().offset == expected


@given(LOGS)
def test_a_restart_takes_exactly_what_is_unfinished(log: list[tuple[int, bool, bool]]) -> None:
    progress, unfinished, attempted = _run(log)
    committed = progress.commit_point()
    assert progress.fits
    restored = _restored(committed)
    assert restored.resume_at == committed.offset
    taken = {}
    for offset in _offsets(log):
        if offset >= committed.offset:
            pending = restored.take(offset)
            if pending is not None:
                taken[offset] = pending.history
    assert taken == {
        o: AttemptHistory(1, 1) if o in attempted else AttemptHistory() for o in unfinished
    }


@given(LOGS)
def test_giving_up_alive_counts_the_attempt_but_no_crash(
    log: list[tuple[int, bool, bool]],
) -> None:
    progress, unfinished, attempted = _run(log)
    restored = _restored(progress.commit_point(crashed=False))
    for offset in sorted(unfinished):
        pending = restored.take(offset)
        assert pending is not None
        assert pending.history == AttemptHistory(int(offset in attempted), 0)


@given(st.integers(0, 2**40), st.lists(st.integers(1, 100_000), min_size=1, max_size=6000))
def test_metadata_is_bounded_and_what_does_not_fit_runs_again(start: int, gaps: list[int]) -> None:
    progress = PartitionProgress()
    taken_here = {}
    for gap in gaps:
        start += gap
        taken_here[start] = _take(progress, start)
        taken_here[start].exposure = Exposure.TRIAL
    offsets = list(taken_here)
    finished = set(offsets[1::3])
    for offset in finished:
        progress.finish(offset, taken_here[offset])
    committed = progress.commit_point()
    assert len(committed.metadata.encode()) <= METADATA_BYTES
    restored = _restored(committed)
    taken = {offset for offset in offsets if offset >= restored.resume_at and restored.take(offset)}
    assert taken >= set(offsets) - finished
    assert progress.fits == (taken == set(offsets) - finished)


@given(LOGS, st.randoms(use_true_random=False))
def test_any_number_of_crashes_at_any_point_ends_with_everything_done_once_known(
    log: list[tuple[int, bool, bool]], rng: random.Random
) -> None:
    """Each life commits at random moments and dies; no offset below a commit is left undone."""
    offsets = _offsets(log)
    committed = CommitPoint(0)
    done: set[int] = set()
    for _ in range(5):
        progress = _restored(committed)
        for offset in [o for o in offsets if o >= progress.resume_at]:
            pending = progress.take(offset)
            if pending is not None and rng.random() < 0.6:
                progress.finish(offset, pending)
                done.add(offset)
            if rng.random() < 0.2:
                committed = progress.commit_point()
                assert all(o in done for o in offsets if o < committed.offset)
            if rng.random() < 0.02:
                break  # the crash
    progress = _restored(committed)
    done |= {o for o in offsets if o >= progress.resume_at and progress.take(o)}
    assert done == set(offsets)


@given(LOGS, LOGS)
def test_merging_joins_what_either_side_knows_to_be_finished(
    mine: list[tuple[int, bool, bool]], others: list[tuple[int, bool, bool]]
) -> None:
    here, my_unfinished, _ = _run(mine)
    there, their_unfinished, _ = _run(others)
    my_position, their_position = here.position, there.position
    here.merge(there.commit_point())
    unfinished = {
        o
        for o in my_unfinished | their_unfinished
        if (o in my_unfinished or o >= my_position)
        and (o in their_unfinished or o >= their_position)
    }
    assert here.position == max(my_position, their_position)
    assert here.watermark == min(unfinished, default=here.position)
    assert set(here.in_flight()) == unfinished & my_unfinished
    assert here.resume_at == min(unfinished - my_unfinished, default=here.position)


@pytest.mark.parametrize(
    "metadata",
    [
        "",
        "x",
        "checkpoint=17",
        "niyama1:",
        "niyama1:\u00e9",
        "niyama1:00000",
        "niyama1:~~~~~",
        "niyama2:~",
    ],
)
def test_foreign_or_broken_metadata_means_just_the_offset(metadata: str) -> None:
    progress = _restored(CommitPoint(42, metadata))
    assert (progress.position, progress.resume_at) == (42, 42)
    assert progress.take(42) is not None


@given(st.text(max_size=60), st.integers(0, 2**50))
def test_no_metadata_whatever_skips_an_offset_that_it_does_not_cover(
    garbage: str, offset: int
) -> None:
    progress = _restored(CommitPoint(offset, garbage))
    assert progress.position >= offset


def test_offsets_that_no_longer_exist_do_not_hold_the_watermark() -> None:
    progress = PartitionProgress()
    _, finished, _ = (_take(progress, offset) for offset in (3, 4, 5))
    progress.finish(4, finished)
    restored = _restored(progress.commit_point())
    assert restored.resume_at == 3
    assert restored.take(5) is not None  # 3 was compacted away
    assert restored.watermark == 5


def test_a_record_read_twice_is_taken_once() -> None:
    progress = PartitionProgress()
    pending = _take(progress, 7)
    assert progress.take(7) is None
    assert progress.finish(7, pending)
    assert progress.take(7) is None
    assert not progress.finish(7, pending)
    assert progress.commit_point() == CommitPoint(8, progress.commit_point().metadata)


def test_ten_thousand_jobs_behind_a_stuck_one_cost_a_few_bytes() -> None:
    progress = PartitionProgress()
    for offset in range(10_000):
        pending = _take(progress, offset)
        if offset:
            progress.finish(offset, pending)
    point = progress.commit_point()
    assert point.offset == 0
    assert len(point.metadata) < 20
    assert progress.fits


def test_commits_of_earlier_versions_are_read() -> None:
    restored = _restored(CommitPoint(42, "niyama1:2mu2E1_c2D"))
    histories = {o: p.history for o in range(42, 50) if (p := restored.take(o)) is not None}
    assert histories == {42: AttemptHistory(3, 2), 45: AttemptHistory(), 47: AttemptHistory(1, 1)}


def test_earlier_versions_can_read_commits_without_crashes_in_trials() -> None:
    progress = PartitionProgress()
    pending = progress.take(42)
    assert pending is not None
    pending.history = AttemptHistory(3, 2, 0)
    assert progress.commit_point().metadata.startswith("niyama1:")
    pending.history = AttemptHistory(3, 2, 1)
    point = progress.commit_point()
    assert point.metadata.startswith("niyama2:")
    restored = _restored(point).take(42)
    assert restored is not None
    assert restored.history == pending.history


def test_what_another_worker_has_finished_or_owns_is_superseded() -> None:
    progress = PartitionProgress()
    finished_here, finished_there, moved = (_take(progress, offset) for offset in (0, 1, 2))
    progress.finish(0, finished_here)
    theirs = PartitionProgress()
    _, finished, _ = (_take(theirs, offset) for offset in (0, 1, 2))
    theirs.finish(1, finished)
    progress.merge(theirs.commit_point())
    assert [p.is_superseded for p in (finished_here, finished_there, moved)] == [False, True, False]
    progress.give_away()
    assert moved.is_superseded


def test_the_end_of_a_job_whose_record_was_cut_off_finishes_no_other_at_its_offset() -> None:
    progress = PartitionProgress()
    kept, gone = _take(progress, 0), _take(progress, 1)
    progress.truncate(1)
    new = _take(progress, 1)
    assert (kept.is_orphan, gone.is_orphan, new.is_orphan) == (False, True, False)
    progress.finish(0, kept)
    assert not progress.finish(1, gone)
    assert progress.commit_point().offset == 1
    assert progress.finish(1, new)


def test_what_is_put_back_is_unfinished_without_an_attempt_and_is_read_again() -> None:
    progress = PartitionProgress()
    first, second, third = (_take(progress, offset) for offset in (3, 5, 8))
    for pending in (first, second, third):
        pending.expose_ahead()
    progress.put_back(8, third)
    progress.put_back(5, second)
    assert progress.resume_at == 5
    assert list(progress.in_flight()) == [3]
    after = _restored(progress.commit_point())
    crashes = [_take(after, offset).history.crashes for offset in (3, 5, 8)]
    assert crashes == [1, 0, 0]
    assert [progress.take(offset) for offset in (5, 8)] == [second, third]
    assert progress.resume_at == progress.position == 9


def test_what_was_put_back_may_be_cut_off_or_deleted_like_what_was_not_read() -> None:
    progress = PartitionProgress()
    pendings = [_take(progress, offset) for offset in range(4)]
    for offset in (1, 2, 3):
        progress.put_back(offset, pendings[offset])
    progress.truncate(3)
    assert progress.deleted_below(2) == range(1, 2)
    assert progress.resume_at == 2
    assert [progress.take(offset) for offset in (0, 2)] == [None, pendings[2]]
