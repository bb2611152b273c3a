"""Somebody sets the machine's clock, forward or back by an hour, while requests are served."""

import pytest

from tests.support.requests import FLAT_MODEL
from tests.support.sglang import FakeEngine, FakeRequest, request
from workers.policy.settings import Settings, TokenTiming
from workers.runtime.messages import RELEASE_KEY

HOUR_S = 3600.0
both_signs = pytest.mark.parametrize("step_s", [HOUR_S, -HOUR_S])
either_schedule = pytest.mark.parametrize("overlap", [False, True])


def make_engine(*, overlap: bool = False, timing: TokenTiming = TokenTiming.PACED) -> FakeEngine:
    settings = Settings(token_timing=timing, max_chunk_tokens=256)
    return FakeEngine(FLAT_MODEL, settings, overlap=overlap, paces=timing is TokenTiming.PACED)


def chat(engine: FakeEngine, name: str, prompt_tokens: int = 100, **qos: float) -> FakeRequest:
    """One that has just been published."""
    wanted = {"arrival_s": engine.clock.now_s, "ttft_ms": 1000, "tbt_ms": 200}
    return request(name, prompt_tokens, 8, **(wanted | qos))


def batch(engine: FakeEngine, name: str, ttlt_s: float = 6.0, **qos: float) -> FakeRequest:
    return request(name, 2000, 4, arrival_s=engine.clock.now_s, ttlt_s=ttlt_s, **qos)


def started(engine: FakeEngine) -> list[str]:
    return [decision.request_id for decision in engine.sender.sent if decision.kind == "started"]


@either_schedule
@both_signs
def test_a_new_deadline_means_after_a_step_what_it_meant_before(
    step_s: float, overlap: bool
) -> None:
    engine = make_engine(overlap=overlap)
    engine.arrive(batch(engine, "before", ttlt_s=600))
    engine.step()
    engine.clock.step(step_s)
    engine.arrive(chat(engine, "late", arrival_s=engine.clock.now_s - 2.0), chat(engine, "timely"))
    engine.run()
    assert "relegated" in engine.reported("late")
    assert engine.reported("timely") == ["started"]
    assert started(engine)[:2] == ["before", "timely"]


@either_schedule
@both_signs
def test_no_token_is_withheld_longer_than_its_schedule_allows(step_s: float, overlap: bool) -> None:
    """The clock is set in every step of the way of a chat under load."""
    for steps in range(6):
        engine = make_engine(overlap=overlap)
        a = chat(engine, "a", prompt_tokens=400)
        engine.arrive(a, *(batch(engine, f"b{number}") for number in range(20)))
        for _ in range(steps):
            engine.step()
        engine.clock.step(step_s)
        engine.run()
        for sent in a.sent_info:
            if sent is not None:
                ((first_s, pace_s),) = sent[RELEASE_KEY]
                assert first_s <= 100.0 + 1.0  # it arrived at 100 by the monotonic clock
                assert pace_s <= 0.2


@either_schedule
@both_signs
def test_running_decodes_keep_their_pace(step_s: float, overlap: bool) -> None:
    """With decodes on a schedule, prompts get as much of an iteration after a step as before."""
    stepped, undisturbed = make_engine(overlap=overlap), make_engine(overlap=overlap)
    for engine in (stepped, undisturbed):
        engine.arrive(chat(engine, "a"), *(batch(engine, f"b{number}") for number in range(20)))
        for _ in range(4):
            engine.step()
    stepped.clock.step(step_s)
    for engine in (stepped, undisturbed):
        for _ in range(4):
            engine.step()
    tokens = [[sum(each.values()) for each in engine.launched] for engine in (stepped, undisturbed)]
    assert tokens[0] == tokens[1]


@both_signs
def test_who_waited_before_a_step_is_not_served_after_all_who_come_later(step_s: float) -> None:
    """A deadline that the step has moved away by an hour would put it behind everybody."""
    engine = make_engine(timing=TokenTiming.GAPS)
    engine.arrive(batch(engine, "running", ttlt_s=600))
    engine.step()
    engine.arrive(chat(engine, "waiting", ttft_ms=7_300_000))
    engine.clock.step(step_s)
    for number in range(30):
        engine.arrive(chat(engine, f"later-{number}", ttft_ms=7_300_000 + 1000 * number))
        engine.step()
    order = started(engine)
    assert order.index("waiting") < order.index("later-1")


@both_signs
def test_what_expires_expires_as_soon_as_it_should(step_s: float) -> None:
    engine = make_engine()
    engine.arrive(batch(engine, "running", ttlt_s=600))
    engine.step()
    engine.arrive(batch(engine, "other", ttlt_s=86_400, expire_after_s=3))
    engine.arrive(*(chat(engine, f"chat-{n}", 250, ttft_ms=60_000) for n in range(300)))
    engine.clock.step(step_s)
    start_s = engine.clock.own_s()
    while "other" not in engine.dropped and not engine.is_idle:
        engine.step()
    assert "other" in engine.dropped
    assert engine.clock.own_s() - start_s <= 3.2


@either_schedule
@both_signs
def test_iterations_are_measured_as_if_nothing_had_happened(step_s: float, overlap: bool) -> None:
    engine = make_engine(overlap=overlap)
    for number in range(40):
        if number % 10 == 5:
            engine.clock.step(step_s)
        engine.arrive(chat(engine, f"{number}", prompt_tokens=20 * (number % 12 + 1)))
        engine.step()
    engine.run()
    durations_s = [sample.duration_s for sample in engine.driver._learner.samples]
    assert durations_s
    assert all(0 < duration_s <= 2 * engine.step_s for duration_s in durations_s)


def test_a_producer_whose_clock_is_ahead_is_served_like_the_others() -> None:
    engine = make_engine(timing=TokenTiming.GAPS)
    engine.arrive(batch(engine, "running", ttlt_s=600))
    engine.step()
    engine.arrive(chat(engine, "ahead", arrival_s=engine.clock.now_s + HOUR_S))
    engine.step()
    engine.arrive(chat(engine, "later"))
    engine.run()
    order = started(engine)
    assert order.index("ahead") < order.index("later")
