"""How long an iteration may take, by worked arithmetic."""

import math

import pytest

from tests.support.requests import FLAT_MODEL
from workers.latency.fit import Sample
from workers.latency.model import Coefficients, LatencyModel
from workers.policy.calibration import Calibration
from workers.policy.decodes import DecodeLoad, MostUrgent
from workers.policy.settings import Alternation, Settings
from workers.policy.time_limit import Situation, time_limit_s

NOTHING_RUNS = Situation(
    now_s=10.0,
    decodes=DecodeLoad(0, 0),
    urgent=None,
    gap_due_s=math.inf,
    waiting_work=0.0,
    prefill_context=0,
)


def _due_in(slack_s: float, *, tokens_to_come: float, waiting_work: float = 0.0) -> Situation:
    """One decode with a token every 50 ms."""
    return NOTHING_RUNS._replace(
        decodes=DecodeLoad(1, 100),
        urgent=MostUrgent(10.0 + slack_s, 0.05, tokens_to_come),
        waiting_work=waiting_work,
    )


def _limit_s(at: Situation, settings: Settings | None = None, bias: float = 1.0) -> float:
    calibration = Calibration(FLAT_MODEL)
    if bias != 1.0:
        calibration.observe(Sample(100, 0, 0, 0, bias * 0.020))
    return time_limit_s(at, calibration, settings or Settings())


def test_without_decodes_there_is_no_limit() -> None:
    assert _limit_s(NOTHING_RUNS) == math.inf


def test_slack_is_spread_over_the_tokens_to_come() -> None:
    assert _limit_s(_due_in(1.0, tokens_to_come=50.0)) == pytest.approx(0.05 + 1.0 / 50)


def test_slack_is_spread_over_no_more_tokens_than_the_setting_says() -> None:
    settings = Settings(slack_spread_tokens=20)
    assert _limit_s(_due_in(1.0, tokens_to_come=50.0), settings) == pytest.approx(0.05 + 1.0 / 20)


def test_no_iteration_plans_to_use_the_slack_beyond_its_margin() -> None:
    assert _limit_s(_due_in(0.06, tokens_to_come=2.0)) == pytest.approx(0.06 / 1.2)


def test_slack_can_be_spent_on_one_iteration() -> None:
    settings = Settings(slack_spread_tokens=0)
    assert _limit_s(_due_in(1.2, tokens_to_come=50.0), settings) == pytest.approx(1.0)


def test_slack_is_the_same_however_slow_the_device() -> None:
    limit_s = _limit_s(_due_in(1.0, tokens_to_come=50.0), bias=2.0)
    assert limit_s == pytest.approx(0.05 + 1.0 / 50)


def test_a_gap_is_kept_by_the_margin_of_recent_errors() -> None:
    gap = NOTHING_RUNS._replace(decodes=DecodeLoad(1, 100), gap_due_s=10.06)
    assert _limit_s(gap) == pytest.approx(0.06 / 1.2)  # nothing has run yet
    seen = Calibration(FLAT_MODEL)
    for _ in range(256):
        seen.observe(Sample(100, 0, 0, 0, 2 * 0.020))
    assert time_limit_s(gap, seen, Settings()) == pytest.approx(0.06 / 1.02)  # all were alike


def test_the_shorter_of_slack_and_gap_counts() -> None:
    both = _due_in(1.0, tokens_to_come=50.0)._replace(gap_due_s=10.06)
    assert _limit_s(both) == pytest.approx(0.06 / 1.2)


@pytest.mark.parametrize(
    # With the decode, 513 tokens are large: 61.3 ms, and 30.1 ms for the decode alone. 50 ms and
    # a hundredth of the slack lie between them.
    ("slack_s", "limit_s"),
    [(0.06, 0.0), (0.10, 0.0613)],
)
def test_large_batches_wait_until_the_slack_affords_them(slack_s: float, limit_s: float) -> None:
    small = Coefficients(0.030, 0.0001, 0.0, 0.0, 0.0, 0.0)
    calibration = Calibration(LatencyModel(small, FLAT_MODEL.large, 512))
    at = _due_in(slack_s, tokens_to_come=100.0, waiting_work=5_000.0)
    predicted = Settings(alternation=Alternation.PREDICTED)
    assert time_limit_s(at, calibration, predicted) == pytest.approx(limit_s, abs=1e-4)


def test_equal_batches_stay_where_too_little_waits_for_a_large_one() -> None:
    small = Coefficients(0.030, 0.0001, 0.0, 0.0, 0.0, 0.0)
    calibration = Calibration(LatencyModel(small, FLAT_MODEL.large, 512))
    at = _due_in(0.10, tokens_to_come=100.0, waiting_work=400.0)
    predicted = Settings(alternation=Alternation.PREDICTED)
    assert time_limit_s(at, calibration, predicted) == pytest.approx(0.05 + 0.001)


def _measured(true: LatencyModel, *, spread: float) -> Calibration:
    """A model that believes in large batches, and 64 iterations of each kind on a device."""
    small = Coefficients(0.030, 0.0001, 0.0, 0.0, 0.0, 0.0)
    calibration = Calibration(LatencyModel(small, FLAT_MODEL.large, 512))
    for number in range(64):
        factor = 1 + spread * (number % 5 - 2)
        for tokens in (0, 200, 600):
            true_s = true.iteration_s(tokens, 0, 1, 100)
            calibration.observe(Sample(tokens, 0, 1, 100, factor * true_s))
    return calibration


@pytest.mark.parametrize(
    # As the model believes; as equal batches are as fast; as it believes, with too much noise.
    ("small_s", "spread", "limit_s"),
    [(0.030, 0.01, 0.0619), (0.010, 0.01, 0.051), (0.030, 0.15, 0.051)],
)
def test_large_batches_alternate_by_themselves_only_where_measurements_say_so(
    small_s: float, spread: float, limit_s: float
) -> None:
    true = LatencyModel(
        Coefficients(small_s, 0.0001, 0.0, 0.0, 0.0, 0.0), FLAT_MODEL.large, split_tokens=512
    )
    at = _due_in(0.10, tokens_to_come=100.0, waiting_work=5_000.0)
    calibration = _measured(true, spread=spread)
    assert time_limit_s(at, calibration, Settings()) == pytest.approx(limit_s, abs=2e-4)
    off = Settings(alternation=Alternation.OFF)
    assert time_limit_s(at, calibration, off) == pytest.approx(0.051)
    assert time_limit_s(at, Calibration(calibration.model), Settings()) == pytest.approx(0.051)


def test_under_load_decodes_alone_are_tried_now_and_then_until_they_are_measured() -> None:
    calibration = Calibration(FLAT_MODEL)
    at = _due_in(0.10, tokens_to_come=100.0, waiting_work=5_000.0)
    trials = 0
    for number in range(1_000):
        alone = time_limit_s(at, calibration, Settings()) == 0.0
        trials += alone
        tokens = 0 if alone else 600 if number % 3 else 200
        ran_s = FLAT_MODEL.iteration_s(tokens, 0, 1, 100)
        calibration.observe(Sample(tokens, 0, 1, 100, ran_s))
        assert not alone or time_limit_s(at, calibration, Settings()) > 0.0, "one at a time"
    assert trials == 16


def test_decodes_alone_are_not_tried_where_nothing_hangs_on_it() -> None:
    calibration = Calibration(FLAT_MODEL)
    for _ in range(100):
        calibration.observe(Sample(600, 0, 1, 100, FLAT_MODEL.iteration_s(600, 0, 1, 100)))
    due = _due_in(0.10, tokens_to_come=100.0, waiting_work=5_000.0)
    assert time_limit_s(due, calibration, Settings()) == 0.0
    assert time_limit_s(due, calibration, Settings(alternation=Alternation.OFF)) > 0.0
    assert time_limit_s(due._replace(waiting_work=100.0), calibration, Settings()) > 0.0
