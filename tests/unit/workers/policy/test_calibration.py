"""Correcting the latency model by what iterations take."""

import pytest

from workers.latency.fit import Sample
from workers.latency.model import Coefficients, LatencyModel, Regime
from workers.policy.calibration import Calibration

_SMALL = Coefficients(0.010, 0.0, 1e-4, 1e-4, 0.0, 0.0)
MODEL = LatencyModel(_SMALL, Coefficients(0.005, 0.0, 2e-4, 1e-4, 0.0, 0.0), split_tokens=512)
DECODES, SMALL, LARGE = (0, 0, 8, 800), (100, 0, 8, 800), (1000, 0, 8, 800)


def _observe(
    calibration: Calibration, factor: float, batch: tuple[int, int, int, int] = SMALL
) -> None:
    calibration.observe(Sample(*batch, factor * MODEL.iteration_s(*batch)))


def test_a_constant_error_is_learned() -> None:
    calibration = Calibration(MODEL)
    for _ in range(256):
        _observe(calibration, 1.25)
    expected_s = 1.25 * MODEL.iteration_s(*SMALL)
    assert calibration.corrected.iteration_s(*SMALL) == pytest.approx(expected_s)
    assert calibration.margin(0.995) == pytest.approx(1.02)  # nothing but bias: the minimum


def test_each_regime_has_an_error_of_its_own() -> None:
    """Decodes run a hundred times as often; they say nothing about prompts."""
    calibration = Calibration(MODEL)
    for number in range(2_000):
        _observe(calibration, 0.5, DECODES)
        if number % 100 == 0:
            _observe(calibration, 1.0, SMALL)
            _observe(calibration, 3.0, LARGE)
    for batch, factor in ((DECODES, 0.5), (SMALL, 1.0), (LARGE, 3.0)):
        expected_s = factor * MODEL.iteration_s(*batch)
        assert calibration.corrected.iteration_s(*batch) == pytest.approx(expected_s)


def test_a_regime_that_was_not_seen_is_as_wrong_as_the_others() -> None:
    calibration = Calibration(MODEL)
    for _ in range(20):
        _observe(calibration, 100.0)
    assert calibration.bias(Regime.LARGE) == pytest.approx(100.0)
    _observe(calibration, 400.0, LARGE)  # the first of them may have been a stall
    assert 100.0 < calibration.bias(Regime.LARGE) < 120.0


def test_the_margin_is_a_high_quantile_of_what_is_left() -> None:
    calibration = Calibration(MODEL)
    for number in range(256):
        _observe(calibration, 1.3 if number % 20 == 10 else 1.0)
    assert calibration.bias(Regime.SMALL) == pytest.approx(1.0)
    assert calibration.margin(0.99) == pytest.approx(1.3)
    assert calibration.margin(0.5) == pytest.approx(1.02)


def test_the_margin_is_what_was_assumed_until_enough_was_seen() -> None:
    calibration = Calibration(MODEL)
    margins = []
    for _ in range(201):
        margins.append(calibration.margin(0.995))
        _observe(calibration, 1.0)
    assert margins == [1.2] * 200 + [1.02]


def test_decodes_alone_say_nothing_about_the_margin_of_prompts() -> None:
    calibration = Calibration(MODEL)
    for number in range(20_000):
        _observe(calibration, 1.0, DECODES)
        if number % 100 == 0:
            _observe(calibration, 1.3 if number % 1_000 == 500 else 1.0)
    assert calibration.margin(0.995) == pytest.approx(1.3)


def test_stalls_do_not_make_iterations_ever_shorter() -> None:
    calibration = Calibration(MODEL)
    for number in range(256):
        _observe(calibration, 8.0 if number % 50 == 10 else 1.0)
    assert calibration.margin(0.995) == pytest.approx(1.5)


def test_another_model_has_the_same_spread_until_more_is_known() -> None:
    calibration = Calibration(MODEL)
    for number in range(256):
        _observe(calibration, 1.3 if number % 20 == 10 else 1.0)
    other = calibration.refitted(MODEL.scaled(2.0))
    assert other.bias(Regime.SMALL) == 1.0
    assert other.margin(0.99) == pytest.approx(1.3)


def test_a_stall_right_after_a_fit_is_no_slow_device() -> None:
    calibration = Calibration(MODEL).refitted(MODEL)
    _observe(calibration, 10.0)
    assert calibration.bias(Regime.SMALL) < 1.2
    assert calibration.bias(Regime.LARGE) == 1.0


TURN = (400, 0, 0, 0)
"""The prompts of `SHARED` without its decodes."""
SHARED = (400, 0, 8, 800)


def _refitted_where_shared_iterations_take_five_times_as_long() -> tuple[Calibration, LatencyModel]:
    """To a model that is right about everything else, and has half the split."""
    calibration, model = Calibration(MODEL), LatencyModel(_SMALL, MODEL.large, split_tokens=256)
    for _ in range(20):
        for ran, factor in ((SHARED, 5.0), (TURN, 1.0)):
            calibration.observe(Sample(*ran, factor * model.iteration_s(*ran)))
    return calibration.refitted(model), model


def test_another_model_is_as_wrong_about_shared_iterations_as_these_say() -> None:
    """A fit whose form cannot tell them from others would be believed until they ran again."""
    calibration, model = _refitted_where_shared_iterations_take_five_times_as_long()
    together, apart = calibration.together_and_apart()
    assert together.iteration_s(*SHARED) == pytest.approx(5.0 * model.iteration_s(*SHARED))
    assert apart.iteration_s(*TURN) == pytest.approx(model.iteration_s(*TURN))


def test_a_fit_is_no_reason_to_share_iterations_again() -> None:
    calibration, _ = _refitted_where_shared_iterations_take_five_times_as_long()
    for _ in range(20):
        calibration.takes_turn(*SHARED[:1], *SHARED[2:])
    assert not calibration.sharing.should_probe(in_time=True)


def test_what_left_the_window_is_forgotten() -> None:
    calibration = Calibration(MODEL)
    for factor in [2.0] * 300 + [1.0] * 64:
        _observe(calibration, factor)
    assert calibration.bias(Regime.SMALL) == pytest.approx(1.0)


def test_without_correction_the_model_stays() -> None:
    calibration = Calibration(MODEL, correct=False)
    for _ in range(64):
        _observe(calibration, 1.4)
    assert calibration.corrected == MODEL
    assert calibration.margin(0.5) == pytest.approx(1.4)
