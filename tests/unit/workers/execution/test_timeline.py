"""Where the time of an attempt goes."""

from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import JobTimes, TimeParts
from workers.engine.port import FinishReason, GenerationUpdate
from workers.execution.timeline import Timeline, waited
from workers.policy.account import EngineTimes

PUBLISHED = {"publish_s": 0.5}


def update(
    tokens: int, ready_s: float | None = None, engine: EngineTimes | None = None
) -> GenerationUpdate:
    finish = None if engine is None else FinishReason.STOP
    return GenerationUpdate(
        "a" * tokens,
        (1,) * tokens,
        *(9, tokens, 0, finish),
        ready_s=ready_s,
        engine_times=engine,
    )


def seconds(parts: TimeParts | None) -> float:
    assert parts is not None
    return sum(parts.model_dump(exclude_none=True).values())


def total_s(times: JobTimes) -> float:
    before = 0.0 if times.until_first_token is None else seconds(times.until_first_token)
    return before + seconds(times.until_end)


@pytest.mark.parametrize(
    ("reading_since_s", "attempt", "expected"),
    [
        (900.0, 1, {"publish_s": 2.5}),
        (1001.0, 1, {"queue_s": 2.5}),
        (900.0, 2, {"queue_s": 2.5}),
    ],
)
def test_a_record_waits_in_kafka_while_nobody_reads_its_partition(
    reading_since_s: float, attempt: int, expected: dict[str, float]
) -> None:
    assert waited(1000.0, 1002.5, reading_since_s, attempt) == expected


def test_a_producer_whose_clock_is_ahead_waits_for_no_time() -> None:
    assert waited(1000.0, 999.0, 0.0, 1) == {"publish_s": 0.0}


def test_every_part_of_a_paced_answer() -> None:
    timeline = Timeline(PUBLISHED, read_s=10.0)
    timeline.submitted(10.1)
    timeline.shown(update(1, ready_s=13.0), 13.5)
    engine = EngineTimes(10.2, 1.0, 1.2, 0.5, 12.9, 0.25, 15.9)
    timeline.shown(update(1, ready_s=16.0, engine=engine), 16.5)

    times = timeline.times(16.6)

    assert times.until_first_token == TimeParts(
        publish_s=0.5,
        preparing_s=0.1,
        waiting_s=1.1,  # with its way into the engine
        computing_s=1.2,
        parked_s=0.5,
        delivery_s=0.1,
        paced_s=0.5,
    )
    assert times.until_end == TimeParts(
        decode_s=2.15, retracted_s=0.25, delivery_s=0.2, paced_s=0.5
    )


def test_an_answer_that_was_complete_before_its_first_token_was_due_was_held_back() -> None:
    timeline = Timeline(PUBLISHED, read_s=10.0)
    timeline.submitted(10.0)
    timeline.shown(update(1, ready_s=11.0), 12.0)
    engine = EngineTimes(10.0, 0.0, 1.0, 0.0, 11.0, 0.0, 11.5)
    timeline.shown(update(1, ready_s=11.5, engine=engine), 12.4)

    times = timeline.times(12.4)

    assert times.until_end == TimeParts(paced_s=0.4)


def test_a_request_that_expired_in_the_engine_only_waited() -> None:
    timeline = Timeline(PUBLISHED, read_s=10.0)
    timeline.submitted(10.0)
    engine = EngineTimes(10.0, 30.0, 0.0, 0.0, None, 0.0, 40.0)
    timeline.shown(update(0, engine=engine), 40.0)

    times = timeline.times(40.0)

    assert times == JobTimes(until_end=TimeParts(publish_s=0.5, waiting_s=30.0))


def test_a_job_that_ends_before_the_engine_has_it_was_being_prepared() -> None:
    times = Timeline(PUBLISHED, read_s=10.0).times(12.0)

    assert times == JobTimes(until_end=TimeParts(publish_s=0.5, preparing_s=2.0))


moments = st.floats(0, 100)
engines = st.none() | st.builds(
    EngineTimes,
    *(moments, moments, moments, moments, st.none() | moments, moments, moments),
    *(moments, moments, moments, st.sampled_from(["", "turn"])),
)


@given(
    steps_s=st.lists(st.floats(0, 10), min_size=5, max_size=5),
    tokens=st.integers(0, 2),
    has_first=st.booleans(),
    is_submitted=st.booleans(),
    engine=engines,
)
def test_whatever_the_engine_says_the_parts_are_the_whole(
    steps_s: list[float],
    tokens: int,
    has_first: bool,
    is_submitted: bool,
    engine: EngineTimes | None,
) -> None:
    _, read_s, submitted_s, first_s, last_s, ended_s = accumulate(steps_s, initial=20.0)
    timeline = Timeline(PUBLISHED, read_s)
    if is_submitted:
        timeline.submitted(submitted_s)
        if has_first:
            timeline.shown(update(1, ready_s=first_s - 1), first_s)
        timeline.shown(update(tokens, engine=engine), last_s)

    times = timeline.times(ended_s)

    assert total_s(times) == pytest.approx(0.5 + ended_s - read_s, abs=1e-5)
    if times.until_first_token is not None:
        shown_s = first_s if has_first else last_s
        assert seconds(times.until_first_token) == pytest.approx(0.5 + shown_s - read_s, abs=1e-5)
