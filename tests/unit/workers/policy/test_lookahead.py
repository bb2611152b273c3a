"""The admission cutoff: up to which rank all work can be done in time. 1000 tokens/s throughout."""

import math

from hypothesis import given
from hypothesis import strategies as st

from workers.policy.lookahead import NO_CUTOFF, Decoding, Due, Lookahead
from workers.policy.qos import Kind

THROUGHPUT = 1000.0
PLENTY = 1_000_000


def _lookahead() -> Lookahead:
    return Lookahead(base_s=1000.0, share=1.0)  # all time until the due time is usable


def _add(lookahead: Lookahead, name: str, due_s: float, rank: int, work: float) -> None:
    lookahead.add(name, now_s=0.0, rank=rank, kind=Kind.BATCH, prompt=Due(due_s, work))


def test_work_that_fits_is_all_admitted() -> None:
    lookahead = _lookahead()
    _add(lookahead, "a", due_s=8.0, rank=5, work=6_000)
    lookahead.review(0.0, THROUGHPUT, PLENTY)
    assert lookahead.cutoff == NO_CUTOFF
    assert lookahead.pressure == 0.75


def test_what_is_due_so_far_ahead_that_time_is_left_to_others_is_no_near_pressure() -> None:
    lookahead = Lookahead(base_s=20.0, share=0.5)
    _add(lookahead, "soon", due_s=8.0, rank=5, work=2_000)
    _add(lookahead, "far", due_s=100.0, rank=5, work=40_000)
    lookahead.review(0.0, THROUGHPUT, PLENTY)
    assert lookahead.near_pressure == 0.25
    assert lookahead.pressure > 0.59


def test_the_highest_ranks_are_beyond_the_cutoff_until_the_rest_fits() -> None:
    lookahead = _lookahead()
    _add(lookahead, "small", due_s=8.0, rank=3, work=3_000)
    _add(lookahead, "middle", due_s=8.0, rank=5, work=4_000)
    _add(lookahead, "large", due_s=4.0, rank=9, work=3_000)
    lookahead.review(0.0, THROUGHPUT, PLENTY)
    assert 5 <= lookahead.cutoff < 9


def test_a_later_due_time_does_not_suffer_for_an_earlier_one_that_fits() -> None:
    lookahead = _lookahead()
    _add(lookahead, "soon", due_s=2.0, rank=9, work=1_500)
    _add(lookahead, "later", due_s=8.0, rank=3, work=4_000)
    lookahead.review(0.0, THROUGHPUT, PLENTY)
    assert lookahead.cutoff == NO_CUTOFF


def test_the_cutoff_rises_again_when_work_leaves() -> None:
    lookahead = _lookahead()
    _add(lookahead, "small", due_s=8.0, rank=3, work=6_000)
    _add(lookahead, "large", due_s=8.0, rank=9, work=6_000)
    lookahead.review(0.0, THROUGHPUT, PLENTY)
    assert lookahead.cutoff < 9
    lookahead.remove("small")
    lookahead.review(0.0, THROUGHPUT, PLENTY)
    lookahead.review(0.0, THROUGHPUT, PLENTY)
    assert lookahead.cutoff >= 9


def test_started_work_counts_whatever_the_cutoff_and_shrinks_with_progress() -> None:
    lookahead = _lookahead()
    _add(lookahead, "started", due_s=4.0, rank=9, work=3_500)
    lookahead.start("started")
    _add(lookahead, "small", due_s=4.0, rank=1, work=1_000)
    lookahead.review(0.0, THROUGHPUT, PLENTY)
    assert lookahead.cutoff < 1
    lookahead.progress("started", 1_000)
    lookahead.review(0.0, THROUGHPUT, PLENTY)
    assert lookahead.cutoff >= 1


def test_only_the_usable_share_of_far_time_counts() -> None:
    lookahead = Lookahead(base_s=20.0, share=0.5)
    _add(lookahead, "batch", due_s=1024.0, rank=4, work=600_000)
    lookahead.review(0.0, THROUGHPUT, PLENTY)  # usable: 20 s + 512 s
    assert lookahead.cutoff < 4


def test_an_answer_has_time_until_its_last_token_is_due() -> None:
    lookahead = _lookahead()
    prompt, answer = Due(1.0, 800), Due(10.0, 3_000)
    lookahead.add("chat", now_s=0.0, rank=9, kind=Kind.BATCH, prompt=prompt, answer=answer)
    lookahead.review(0.0, THROUGHPUT, PLENTY)
    assert lookahead.cutoff == NO_CUTOFF
    assert lookahead.pressure == 0.8
    lookahead.add("more", now_s=0.0, rank=5, kind=Kind.BATCH, prompt=Due(10.0, 7_000))
    lookahead.review(0.0, THROUGHPUT, PLENTY)
    assert 5 <= lookahead.cutoff < 9


def test_running_decodes_take_their_share_of_the_time_until_they_end() -> None:
    for work, fits in ((700, True), (900, False)):
        lookahead = _lookahead()
        _add(lookahead, "soon", due_s=1.0, rank=5, work=work)
        lookahead.review(0.0, THROUGHPUT, PLENTY, Decoding(2_000, per_s=200))
        assert (lookahead.cutoff == NO_CUTOFF) is fits
    lookahead = _lookahead()
    _add(lookahead, "later", due_s=20.0, rank=5, work=17_500)  # the decodes take no more than 2 s
    lookahead.review(0.0, THROUGHPUT, PLENTY, Decoding(2_000, per_s=200))
    assert lookahead.cutoff == NO_CUTOFF


def test_decodes_alone_press_nobody() -> None:
    lookahead = _lookahead()
    _add(lookahead, "gone", due_s=1.0, rank=5, work=100)
    lookahead.remove("gone")
    lookahead.review(0.0, THROUGHPUT, PLENTY, Decoding(2_000, per_s=400))
    assert lookahead.pressure == 0.0


def test_what_is_spare_makes_no_due_time_late() -> None:
    lookahead = _lookahead()
    lookahead.review(0.0, THROUGHPUT, PLENTY)
    assert lookahead.spare == math.inf
    _add(lookahead, "soon", due_s=8.0, rank=5, work=6_000)
    _add(lookahead, "later", due_s=16.0, rank=5, work=9_000)
    lookahead.review(0.0, THROUGHPUT, PLENTY)
    assert lookahead.spare == 1_000
    lookahead.review(0.0, THROUGHPUT, PLENTY, Decoding(500, per_s=100))
    assert lookahead.spare == 500


def test_nothing_is_spare_beside_a_cutoff_or_what_has_just_become_late() -> None:
    lookahead = _lookahead()
    _add(lookahead, "small", due_s=8.0, rank=3, work=100)
    _add(lookahead, "large", due_s=8.0, rank=5, work=8_000)
    lookahead.review(0.0, THROUGHPUT, PLENTY)
    assert lookahead.cutoff < 5
    assert lookahead.spare == 0
    lookahead.remove("large")
    for _ in range(2):
        lookahead.review(0.0, THROUGHPUT, PLENTY)
    assert lookahead.spare == 7_900
    _add(lookahead, "passed", due_s=0.5, rank=3, work=100)
    lookahead.review(1.0, THROUGHPUT, PLENTY)
    assert lookahead.spare == 0
    lookahead.remove("passed")
    lookahead.review(1.0, THROUGHPUT, PLENTY)
    assert lookahead.spare == 6_900


def test_overdue_work_is_forgotten() -> None:
    lookahead = _lookahead()
    _add(lookahead, "gone", due_s=1.0, rank=4, work=5_000)
    lookahead.review(10.0, THROUGHPUT, PLENTY)
    assert lookahead.work == 0
    lookahead.remove("gone")
    assert lookahead.work == 0


@given(
    st.lists(
        st.tuples(st.integers(0, 40), st.floats(1, 500), st.integers(0, 12), st.floats(1, 9_000)),
        max_size=40,
    )
)
def test_sums_stay_exact_through_any_history(
    steps: list[tuple[int, float, int, float]],
) -> None:
    lookahead = Lookahead(base_s=20.0, share=0.5)
    alive: dict[str, float] = {}
    for index, (action, due_s, rank, work) in enumerate(steps):
        name = str(index)
        if action < 25 or not alive:
            prompt, answer = Due(1_000 + due_s, work), Due(1_100 + due_s, work / 2)
            lookahead.add(name, now_s=0.0, rank=rank, kind=Kind.BATCH, prompt=prompt, answer=answer)
            alive[name] = prompt.work + answer.work
        elif action < 32:
            lookahead.start(next(iter(alive)))
        else:
            gone = next(iter(alive))
            lookahead.remove(gone)
            del alive[gone]
        lookahead.review(0.0, THROUGHPUT, PLENTY)
        assert abs(lookahead.work - sum(alive.values())) < 1e-3
