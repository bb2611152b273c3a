"""The latency model that an engine learns from its own iterations."""

import pytest

from tests.support.latency import sample, taught
from workers.latency.fit import Sample, fit, fitting
from workers.latency.learner import LatencyLearner
from workers.latency.least_squares import Sums


def test_learns_what_iterations_take() -> None:
    model = taught(LatencyLearner()).model()
    assert model is not None
    assert model.iteration_s(512, 0, 8, 800) == pytest.approx(0.0652, rel=0.02)


def test_a_single_size_teaches_nothing_about_others() -> None:
    learner = LatencyLearner()
    assert [learner.add(sample(0, 4)) for _ in range(200)] == [None] * 200


def test_hours_of_decodes_do_not_wash_out_prompts() -> None:
    learner = taught(LatencyLearner())
    for _ in range(5000):
        learner.add(sample(0, 4))
    model = learner.model()
    assert model is not None
    assert model.iteration_s(1024, 0, 1, 100) == pytest.approx(0.1129, rel=0.02)


def test_fits_often_at_first_then_rarely() -> None:
    learner = LatencyLearner()
    fitted = [n for n in range(1, 300) if learner.add(sample(2 ** (n % 10), n % 7)) is not None]
    assert len(fitted) == 4
    assert all(n < at <= n + n // 4 for n, at in zip((32, 64, 128, 256), fitted, strict=True))


def test_a_model_that_was_made_in_slices_is_that_of_its_samples() -> None:
    learner = LatencyLearner()
    made, samples = None, []
    for number in range(1, 100):
        made = learner.add(sample(2 ** (number % 10), number % 7)) or made
        if number == 32:
            samples = learner.samples
        if made is not None:
            break
    assert made == fit(samples)


def test_no_slice_of_a_fit_looks_at_many_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    added = []
    add = Sums.add
    monkeypatch.setattr(Sums, "add", lambda *args: added.append(1) or add(*args))
    most, before = 0, 0
    for _ in fitting([sample(2 ** (n % 12), n % 9) for n in range(1, 1_000)]):
        most, before = max(most, len(added) - before), len(added)
    assert 0 < most <= 16


def test_an_iteration_without_a_duration_is_ignored() -> None:
    learner = LatencyLearner()
    for duration_s in (0.0, -1.0, float("inf"), float("nan")):
        learner.add(Sample(1, 0, 0, 0, duration_s))
    learner.add(Sample(-1, 0, 0, 0, 0.01))
    assert learner.samples == []


def test_the_kinds_that_ran_last_are_kept() -> None:
    learner = LatencyLearner()
    batches = [
        Sample(2**tokens, 2**context, 2**decodes, 0, 0.01)
        for tokens in range(10)
        for context in range(0, 20, 2)
        for decodes in range(5)
    ]
    for each in batches:
        learner.add(each)
    assert learner.samples == batches[-256:]
