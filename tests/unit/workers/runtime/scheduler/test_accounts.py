"""Where a request's time in the scheduler goes, as its last output says."""

import pytest

from tests.support.requests import FLAT_MODEL
from tests.support.sglang import FakeEngine, FakeRequest, request
from workers.policy.account import EngineTimes
from workers.policy.settings import Settings
from workers.runtime.scheduler import accounts

STEP_S = 0.05
"""What an iteration of the fake engine takes."""


@pytest.fixture(params=[False, True], ids=["in step", "overlapped"])
def engine(request: pytest.FixtureRequest) -> FakeEngine:
    return FakeEngine(FLAT_MODEL, Settings(max_chunk_tokens=256), overlap=request.param)


def chat(name: str, prompt_tokens: int, max_new_tokens: int = 4) -> FakeRequest:
    return request(name, prompt_tokens, max_new_tokens, ttft_ms=1000, tbt_ms=200)


def batch(name: str, prompt_tokens: int, **qos: float) -> FakeRequest:
    return request(name, prompt_tokens, **{"ttlt_s": 600, **qos})


def times_of(req: FakeRequest) -> EngineTimes:
    assert req.times is not None
    return req.times


def check_sum(times: EngineTimes) -> None:
    first_s = times.ended_s if times.first_token_s is None else times.first_token_s
    prompt_s = times.waiting_s + times.computing_s + times.parked_s
    assert prompt_s == pytest.approx(first_s - times.entered_s)


def test_a_prompt_computes_for_as_long_as_its_chunks_and_then_decodes(engine: FakeEngine) -> None:
    chunks, one = 4, chat("one", 1000)
    entered_s = engine.clock.own_s()
    engine.arrive(one)
    engine.run()

    times = times_of(one)

    lag = STEP_S if engine.enable_overlap else 0.0  # a result is processed a step later
    assert times.entered_s == entered_s
    assert times.waiting_s == times.parked_s == times.retracted_s == 0
    assert times.computing_s == pytest.approx(chunks * STEP_S + lag)
    assert times.first_token_s == pytest.approx(entered_s + times.computing_s)
    assert times.ended_s == pytest.approx(times.first_token_s + 3 * STEP_S + lag)
    check_sum(times)


def test_a_prompt_that_yields_is_parked_and_one_behind_it_waits(engine: FakeEngine) -> None:
    long, behind = batch("long", 1000), batch("behind", 2000)
    engine.arrive(long)
    engine.step()
    engine.arrive(chat("chat", 300), behind)
    engine.run()

    parked, waited = times_of(long), times_of(behind)

    assert parked.parked_s > STEP_S / 2
    assert parked.waiting_s <= STEP_S  # decodes may have a turn between its chunks
    assert waited.waiting_s > STEP_S / 2
    assert waited.parked_s == 0
    check_sum(parked)
    check_sum(waited)


def test_a_retracted_decode_is_so_until_its_next_token(engine: FakeEngine) -> None:
    one = chat("one", 100, max_new_tokens=8)
    engine.arrive(one)
    for _ in range(3):
        engine.step()
    engine.retract("one")
    engine.run()

    times = times_of(one)

    assert times.first_token_s is not None
    assert STEP_S / 2 < times.retracted_s < times.ended_s - times.first_token_s
    check_sum(times)


def test_a_request_that_is_aborted_while_it_waits_only_waited(engine: FakeEngine) -> None:
    first, second = chat("first", 100), batch("second", 100)
    engine.not_ready = {"second"}
    engine.arrive(first, second)
    engine.step()
    engine.abort("second")

    times = times_of(second)

    assert (times.computing_s, times.first_token_s) == (0, None)
    assert times.waiting_s == pytest.approx(STEP_S)


def test_an_expired_request_waited_to_its_end(engine: FakeEngine) -> None:
    late = batch("late", 100, expire_after_s=0.5)
    engine.not_ready = {"late"}
    engine.arrive(late)
    engine.clock.now_s += 1.0
    engine.step()

    assert times_of(late).waiting_s == pytest.approx(1.0)


def test_the_clock_of_the_machine_may_be_set_meanwhile(engine: FakeEngine) -> None:
    one = chat("one", 1000)
    engine.arrive(one)
    engine.step()
    engine.clock.step(3600.0)
    engine.run()

    times = times_of(one)

    assert times.ended_s - times.entered_s < 1
    check_sum(times)


def test_an_answer_that_decodes_beside_prompts_lost_what_they_took(engine: FakeEngine) -> None:
    engine.step_s = None
    alone, beside = chat("alone", 100, max_new_tokens=40), chat("beside", 100, max_new_tokens=40)
    engine.arrive(alone)
    engine.run()
    engine.arrive(beside, *(batch(f"b{number}", 2000) for number in range(4)))
    engine.run()

    slow, fast = times_of(beside), times_of(alone)

    assert fast.decode_beside_s == pytest.approx(0.0, abs=1e-9)
    assert decode_s(slow) - slow.decode_beside_s == pytest.approx(decode_s(fast), rel=0.05)
    assert slow.decode_beside_s > decode_s(fast) / 2


def decode_s(times: EngineTimes) -> float:
    assert times.first_token_s is not None
    return times.ended_s - times.first_token_s - times.retracted_s


def test_the_largest_gap_of_a_retracted_decode_was_that(engine: FakeEngine) -> None:
    one = chat("one", 600, max_new_tokens=8)
    engine.arrive(one)
    for _ in range(5):
        engine.step()
    engine.retract("one")
    engine.cached.clear()
    engine.run()

    assert times_of(one).gap_cause == "retracted"
    assert times_of(one).gap_s >= times_of(one).retracted_s


def test_a_retraction_is_reported(engine: FakeEngine) -> None:
    one = chat("one", 100, max_new_tokens=8)
    engine.arrive(one)
    for _ in range(3):
        engine.step()
    engine.retract("one")
    engine.run()

    assert engine.reported("one") == ["started", "retracted"]


def test_the_account_of_a_long_answer_has_no_entry_per_token(engine: FakeEngine) -> None:
    one = chat("one", 100, max_new_tokens=2000)
    engine.arrive(one)
    engine.run(3000)

    told = accounts.with_account_of(one, {"type": "length"}, engine.clock.own_s())

    assert len(str(told)) < 500
    assert all(info is None for info in one.sent_info)
