"""What prompts cost the requests that decode beside them or wait for them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.policy.account import Account
from workers.policy.interference import Gap, GapCause, Interference


class Engine:
    """Runs iterations one after the other, from second 0."""

    def __init__(self) -> None:
        self.interference = Interference()
        self.now_s = 0.0

    def run(self, seconds: float, *, prompts: bool = False, decodes: bool = True) -> None:
        self.begin(prompts=prompts, decodes=decodes)
        self.now_s += seconds
        self.interference.ended(self.now_s)

    def begin(self, *, prompts: bool = False, decodes: bool = True, idle: bool = False) -> None:
        """Decodes alone take 10 ms."""
        self.interference.started(
            self.now_s, prompts=prompts, decodes=decodes, decode_s=0.01, after_idle=idle
        )

    def gap(self, since_s: float) -> Gap | None:
        return self.interference.largest_gap(since_s, self.now_s)


def test_decodes_lose_whole_turns_of_prompts_and_what_chunks_beside_them_add() -> None:
    engine = Engine()
    engine.run(0.012)
    engine.run(0.5, prompts=True)
    engine.run(2.0, prompts=True, decodes=False)
    assert engine.interference.lost_s(engine.now_s) == pytest.approx(0.49 + 2.0)


def test_an_iteration_that_runs_counts_for_who_asks_meanwhile() -> None:
    engine = Engine()
    engine.begin(prompts=True)
    assert engine.interference.lost_s(0.005) == 0
    assert engine.interference.lost_s(0.3) == pytest.approx(0.29)


def test_an_answer_of_20_s_beside_prompts_decoded_for_one() -> None:
    engine = Engine()
    account = Account(0.0, engine.interference)
    account.launched(0.0)
    account.generated(1, 0.0)
    for _ in range(100):
        engine.run(0.209, prompts=True)

    times = account.ended(engine.now_s)

    assert times.ended_s == pytest.approx(20.9)
    assert times.decode_beside_s == pytest.approx(19.9)
    assert times.gap_cause == "shared"


def test_a_chunk_beside_others_takes_longer_than_alone() -> None:
    account = Account(0.0, Interference())
    account.launched(0.0, 0.1)
    account.launched(0.5, 0.2)
    account.launched(0.7)
    account.generated(1, 1.0)

    times = account.ended(1.0)

    assert times.computing_s == pytest.approx(1.0)
    assert times.computing_beside_s == pytest.approx(0.4)


def test_the_largest_gap_says_what_it_was() -> None:
    engine = Engine()
    engine.run(0.01)
    engine.run(0.1, prompts=True)
    assert engine.gap(0.0) == (pytest.approx(0.1), GapCause.SHARED)
    engine.run(0.3, prompts=True, decodes=False)
    engine.run(0.01)
    assert engine.gap(0.0) == (pytest.approx(0.31), GapCause.TURN)
    since_s = engine.now_s
    engine.run(0.02)
    assert engine.gap(since_s) == (pytest.approx(0.02), GapCause.DECODES)


def test_a_gap_begins_with_a_requests_own_first_token() -> None:
    engine = Engine()
    engine.run(0.01)
    engine.run(1.0, prompts=True, decodes=False)
    since_s = engine.now_s
    engine.run(0.01)
    engine.run(0.05, prompts=True)
    assert engine.gap(since_s) == (pytest.approx(0.05), GapCause.SHARED)


def test_an_idle_engine_is_no_gap() -> None:
    engine = Engine()
    engine.run(0.01)
    engine.now_s += 60
    engine.begin(idle=True)
    assert engine.gap(0.0) is None


@given(st.lists(st.floats(0.001, 10), min_size=1, max_size=600), st.integers(0, 599))
def test_no_gap_since_any_moment_was_larger(durations_s: list[float], start: int) -> None:
    engine = Engine()
    since_s = 0.0
    for index, seconds in enumerate(durations_s):
        if index == min(start, len(durations_s) - 1):
            since_s = engine.now_s
        engine.run(seconds)

    gap, later = engine.gap(since_s), durations_s[min(start, len(durations_s) - 1) :]

    if gap is not None:
        assert gap.seconds <= max(later) + 1e-6
        if len(later) <= 256:
            assert gap.seconds == pytest.approx(max(later if start else durations_s[1:]), abs=1e-6)
