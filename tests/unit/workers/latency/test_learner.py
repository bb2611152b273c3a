"""The latency model that an engine learns from its own iterations."""

import pytest

from tests.support.latency import sample, taught
from workers.latency.fit import Sample
from workers.latency.learner import LatencyLearner


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
    assert fitted == [32, 64, 128, 256]


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
