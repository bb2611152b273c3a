"""Learning on devices that nobody made a model for."""

import random
from dataclasses import astuple
from pathlib import Path
from statistics import mean

import pytest

from tests.support.laws import FORMS, long_contexts, noise, sample, serving, warm_up
from workers.latency.learner import LatencyLearner
from workers.latency.model import NO_CHUNKS, Coefficients, LatencyModel
from workers.latency.profiles import Profile, load_profile, save_profile
from workers.simulator.laws import Form, Work

_CHUNK_TOKENS = 8192
_CONTEXT_TOKENS = 100_000


def _regimes(model: LatencyModel) -> list[Coefficients]:
    alone = [model.decode_only] if model.decode_only is not None else []
    return [model.small, model.large, *alone]


def _check(model: LatencyModel, folder: Path) -> None:
    """It can be saved and read, and no more of anything takes less time."""
    save_profile(Profile("device", model, 1000, "a test"), folder / "profile.json")
    assert load_profile(str(folder / "profile.json")).latency == model
    assert all(coefficient >= 0 for regime in _regimes(model) for coefficient in astuple(regime))


@pytest.mark.parametrize("seed", range(20))
def test_every_warm_up_ends_with_a_model_that_can_be_kept(seed: int, tmp_path: Path) -> None:
    rng, law = random.Random(seed), list(FORMS.values())[seed % len(FORMS)]
    learner = LatencyLearner()
    for work in warm_up(_CHUNK_TOKENS, 131_072):
        duration_s = law(work) * noise(rng, heavy_tailed=seed % 2 == 1)
        model = learner.add(sample(work, duration_s))
        if model is not None:
            _check(model, tmp_path)
    known = learner.model()
    assert known is not None
    _check(known, tmp_path)


def _served(law: Form, seed: int, folder: Path, *, heavy_tailed: bool, count: int) -> LatencyModel:
    rng, learner, known = random.Random(seed), LatencyLearner(), None
    for work in serving(rng, _CHUNK_TOKENS, _CONTEXT_TOKENS, count):
        duration_s = law(work) * noise(rng, heavy_tailed=heavy_tailed)
        known = learner.add(sample(work, duration_s)) or known
    assert known is not None
    _check(known, folder)
    return known


@pytest.mark.parametrize("seed", range(24))
def test_every_load_ends_with_a_model_that_can_be_kept(seed: int, tmp_path: Path) -> None:
    law = list(FORMS.values())[seed % len(FORMS)]
    _served(law, seed, tmp_path, heavy_tailed=seed % 2 == 1, count=130)


@pytest.mark.parametrize("heavy_tailed", [False, True], ids=["3% noise", "heavy tails"])
@pytest.mark.parametrize("name", FORMS)
def test_what_is_learned_under_load_predicts_it(
    name: str, heavy_tailed: bool, tmp_path: Path
) -> None:
    law = FORMS[name]
    model = _served(law, 1, tmp_path, heavy_tailed=heavy_tailed, count=520)
    errors = []
    for work in serving(random.Random(99), _CHUNK_TOKENS, _CONTEXT_TOKENS, 300):
        true_s = law(work)
        errors.append(abs(model.iteration_s(*sample(work, true_s).batch) / true_s - 1))
    # Two of the forms grow faster with a batch's tokens than any term of the model does.
    assert mean(errors) < (0.15 if name in ("convex", "power") else 0.05)


def test_a_large_chunk_after_a_long_context_is_predicted(tmp_path: Path) -> None:
    """Without tokens times context it was predicted at less than a third of its time."""
    model = _served(long_contexts, 1, tmp_path, heavy_tailed=False, count=520)
    work = Work(NO_CHUNKS.beside(8192, 100_000), 1, 1000)
    true_s = long_contexts(work)
    assert true_s == pytest.approx(1.37, abs=0.01)
    assert model.iteration_s(*sample(work, true_s).batch) == pytest.approx(true_s, rel=0.05)


@pytest.mark.parametrize("name", [name for name in FORMS if name not in ("convex", "power")])
def test_a_warm_up_says_enough_of_batches_that_it_did_not_have(name: str) -> None:
    """No two prompts were long, and no context was longer than a chunk."""
    rng, law, learner = random.Random(1), FORMS[name], LatencyLearner()
    for work in warm_up(2048, 131_072):
        learner.add(sample(work, law(work) * noise(rng, heavy_tailed=False)))
    model = learner.model()
    assert model is not None
    errors = []
    for work in serving(random.Random(99), 2048, 8_000, 300):
        true_s = law(work)
        errors.append(abs(model.iteration_s(*sample(work, true_s).batch) / true_s - 1))
    assert mean(errors) < 0.30
