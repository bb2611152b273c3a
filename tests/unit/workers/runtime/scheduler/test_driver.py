"""The policy's side of the engine's loop, on virtual time."""

import pytest

from tests.support import requests
from tests.support.requests import FLAT_MODEL, batch
from workers.latency.fit import Sample
from workers.latency.learner import LatencyLearner
from workers.latency.model import LatencyModel, Regime
from workers.policy.decision import DecisionKind
from workers.policy.policy import NiyamaPolicy
from workers.policy.request import Request
from workers.policy.settings import Settings, TokenTiming
from workers.runtime.scheduler.driver import Computed, Launched, PolicyDriver

PLENTY = 100_000
MANY = 1_000
"""Prompts that the engine takes."""


def driver() -> PolicyDriver:
    settings = Settings(token_timing=TokenTiming.GAPS, max_chunk_tokens=256)
    return PolicyDriver(NiyamaPolicy(FLAT_MODEL, settings), LatencyLearner())


def chat(name: str, prompt: int, arrival_s: float = 0.0) -> Request:
    return requests.chat(name, prompt, arrival_s=arrival_s, ttft_s=1.0, tbt_s=0.1)


def planned(driver: PolicyDriver, now_s: float, free: int = PLENTY) -> list[tuple[str, int]]:
    return [tuple(chunk) for chunk in driver.plan(now_s, now_s, free, MANY).chunks]


def launch(driver: PolicyDriver, *chunks: Computed, decodes: int = 0) -> None:
    driver.launched(Launched(chunks, decodes, 100 * decodes))


def test_a_prompt_continues_where_the_iteration_in_flight_leaves_it() -> None:
    """The next plan is made before anything is known of how the last one went."""
    d = driver()
    d.arrived(batch("b", 600), 0.0)
    assert planned(d, 0.0) == [("b", 256)]
    launch(d, Computed("b", 256, 0, 600))
    assert planned(d, 0.1) == [("b", 256)]
    launch(d, Computed("b", 256, 256, 344))
    assert planned(d, 0.2) == [("b", 88)]


def test_a_longer_cached_prefix_ends_a_prompt_early() -> None:
    d = driver()
    d.arrived(batch("b", 600), 0.0)
    assert planned(d, 0.0) == [("b", 256)]
    launch(d, Computed("b", 100, 500, 100))
    assert planned(d, 0.1) == []  # it decodes


def test_what_the_engine_did_not_take_is_planned_again() -> None:
    d = driver()
    d.arrived(chat("a", 100), 0.0)
    d.arrived(batch("b", 100), 0.0)
    assert planned(d, 0.0) == [("a", 100), ("b", 100)]
    launch(d, Computed("b", 100, 0, 100))
    assert planned(d, 0.1) == [("a", 100)]
    assert planned(d, 0.2) == [("a", 100)]


def test_what_the_engine_took_by_itself_is_not_planned_again() -> None:
    d = driver()
    d.arrived(chat("a", 200), 0.0)
    d.arrived(batch("b", 100), 0.0)
    assert planned(d, 0.0) == [("a", 200), ("b", 56)]
    launch(d, Computed("b", 100, 0, 100))
    assert planned(d, 0.1) == [("a", 200)]


def test_a_retracted_request_waits_again_with_what_it_generated() -> None:
    d = driver()
    d.arrived(chat("a", 100), 0.0)
    planned(d, 0.0)
    launch(d, Computed("a", 100, 0, 100))
    planned(d, 0.1)
    launch(d, decodes=1)
    d.retracted("a", 0.2)
    assert planned(d, 0.2) == [("a", 102)]


def test_a_prompt_in_progress_whose_kv_was_taken_starts_over() -> None:
    d = driver()
    d.arrived(batch("b", 600), 0.0)
    planned(d, 0.0)
    launch(d, Computed("b", 256, 0, 600))
    d.retracted("b", 0.1)
    launch(d)
    assert planned(d, 0.1) == [("b", 256)]
    launch(d, Computed("b", 256, 200, 400))  # the cache had kept some of it
    assert planned(d, 0.2) == [("b", 144)]


def test_finished_and_aborted_requests_are_forgotten() -> None:
    d = driver()
    d.arrived(chat("a", 10), 0.0)
    d.arrived(chat("b", 10), 0.0)
    d.arrived(batch("c", 10), 0.0)
    planned(d, 0.0)
    launch(d, *(Computed(name, 10, 0, 10) for name in "abc"))
    planned(d, 0.1)
    d.finished("a")
    d.aborted("b")
    d.aborted("unknown")
    planned(d, 0.2)
    assert d.policy.decodes == 1
    d.finished("a")  # an overlapped engine says so twice
    d.finished("c")
    planned(d, 0.3)
    assert d.policy.decodes == 0
    assert d.idle


def test_parked_prompts_continue_after_the_chat() -> None:
    d = driver()
    d.arrived(batch("b", 600), 0.0)
    planned(d, 0.0)
    launch(d, Computed("b", 256, 0, 600))
    d.arrived(chat("a", 300, 0.1), 0.1)
    plan = d.plan(0.1, 0.1, PLENTY, MANY)
    assert [tuple(chunk) for chunk in plan.chunks] == [("a", 256)]
    assert DecisionKind.PARKED in {d.kind for d in plan.decisions if d.request_id == "b"}
    launch(d, Computed("a", 256, 0, 300))
    assert planned(d, 0.2) == [("a", 44), ("b", 212)]
    launch(d, Computed("a", 44, 256, 44), Computed("b", 212, 256, 344))
    assert planned(d, 0.3) == [("b", 132)]


def test_durations_go_to_the_iterations_in_order() -> None:
    """Iterations that take twice what the model says: the policy scales it."""
    d = driver()
    d.arrived(batch("b", 10_000), 0.0)
    for number in range(3):
        planned(d, number)
        launch(d, Computed("b", 256, 256 * number, 10_000 - 256 * number))
    d.measured([2 * (0.010 + 0.0256)])
    d.measured([])
    d.measured([2 * (0.010 + 0.0256)] * 2)
    assert round(d.policy.calibration.bias(Regime.SMALL), 6) == 2.0


def test_a_new_model_is_used_from_then_on() -> None:
    d = driver()
    d.arrived(batch("b", 10_000_000), 0.0)
    models = []
    for number in range(40):
        planned(d, number)
        tokens = 2 ** (number % 8)
        launch(d, Computed("b", tokens, 0, 10_000_000))
        models.append(d.measured([0.02 + 0.001 * tokens]))
    assert [n > 32 for n, model in enumerate(models, 1) if model is not None] == [True]
    assert round(d.policy.calibration.model.iteration_s(100, 0, 0, 0), 3) == 0.12


def test_learning_that_fails_leaves_the_model_and_is_not_logged_each_time(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class BrokenLearner(LatencyLearner):
        def add(self, sample: Sample) -> LatencyModel | None:
            raise ArithmeticError("no such number")

    d = PolicyDriver(NiyamaPolicy(FLAT_MODEL), BrokenLearner())
    d.arrived(batch("b", 10_000), 0.0)
    for number in range(3):
        planned(d, number)
        launch(d, Computed("b", 256, 256 * number, 10_000 - 256 * number))
    assert d.measured([0.1] * 3) is None
    assert d.policy.calibration.model == FLAT_MODEL
    assert caplog.text.count("could not be learned from") == 1


def test_two_ranks_with_the_same_reports_decide_alike() -> None:
    plans = []
    for _ in range(2):
        d = driver()
        seen = []
        for number in range(30):
            if number % 3 == 0:
                d.arrived(chat(f"c{number}", 40 + number, number / 10), number / 10)
            if number % 5 == 0:
                d.arrived(batch(f"b{number}", 500), number / 10)
            plan = d.plan(number / 10, number / 10, 3000, MANY)
            seen.append(plan)
            launch(d, *(Computed(c.request_id, c.tokens, 0, c.tokens) for c in plan.chunks))
            d.measured([0.03])
        plans.append(seen)
    assert plans[0] == plans[1]
