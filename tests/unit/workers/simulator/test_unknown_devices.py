"""Devices that a scheduler knows nothing of when it begins, and whose laws its model cannot have.

Harder than for a worker, which has run prompts of many sizes before it serves.
"""

import random
from dataclasses import replace

import pytest

from workers.latency.model import NO_CHUNKS
from workers.simulator.devices import FIRST_GUESS_PROFILE, LAWS, exact_profile
from workers.simulator.exact_model import exact_model
from workers.simulator.experiment import Experiment
from workers.simulator.laws import Work
from workers.simulator.traces import Trace
from workers.simulator.workload import Lengths, Tier


def _lengths(count: int = 400) -> tuple[Lengths, ...]:
    """Of the size of Azure Conv's requests: logarithms are normal, means 1,200 and 160 tokens."""
    chance = random.Random(7)
    return tuple(
        Lengths(
            min(8_000, 16 + int(chance.lognormvariate(6.7, 0.9))),
            min(800, 1 + int(chance.lognormvariate(4.6, 0.9))),
        )
        for _ in range(count)
    )


TIERS = (
    Tier.interactive("chat", ttft_s=2.0, tbt_s=0.05),
    Tier.batch("soon", ttlt_s=8.0),
    Tier.batch("later", ttlt_s=12.0),
)
CAPACITY_QPS = {"h100": 16.0, "rtx-pro-6000": 9.0}
"""Near it; the other laws are those of one device."""
A100_QPS = 7.0
DEVICES = Experiment(
    Trace("like conv", _lengths(), None),
    FIRST_GUESS_PROFILE,
    TIERS,
    duration_s=42.0,
    warm_up_s=8.0,
    overlap=True,
)


@pytest.mark.parametrize("name", sorted(LAWS))
def test_no_device_pushes_late_gaps_over_one_percent(name: str) -> None:
    device = replace(DEVICES, law=LAWS[name], learn=True, duration_s=72.0, warm_up_s=20.0)
    run = device.run("niyama", 0.8 * CAPACITY_QPS.get(name, A100_QPS))
    assert run.late_gaps <= 0.01


@pytest.mark.parametrize("name", sorted(LAWS))
def test_what_is_learned_of_a_device_is_nearly_as_good_as_knowing_it(name: str) -> None:
    """Beyond capacity, where time that is planned badly costs requests at once."""
    qps = 1.5 * CAPACITY_QPS.get(name, A100_QPS)
    devices = [replace(DEVICES, law=LAWS[name], seed=seed) for seed in (1, 2, 3)]
    learned = [replace(device, learn=True).run("niyama", qps) for device in devices]
    exact = exact_profile(LAWS[name])
    known = [replace(device, profile=exact).run("niyama", qps) for device in devices]
    assert max(run.late_gaps for run in learned) <= 0.01
    assert sum(r.goodput_qps for r in learned) >= 0.95 * sum(r.goodput_qps for r in known)


def test_the_exact_model_is_the_law_and_its_inverse() -> None:
    form = LAWS["convex"].form
    model = exact_model(form)
    beside = NO_CHUNKS.beside(100, 3_000)
    tokens = model.max_prefill_tokens(0.06, 500, 20, 9_000, beside)
    for more, fits in ((0, True), (1, False)):
        work = Work(beside.beside(tokens + more, 500), 20, 9_000)
        assert (form(work) <= 0.06) is fits
    assert model.iteration_s(300, 40, 20, 9_000) == form(Work(NO_CHUNKS.beside(300, 40), 20, 9_000))
    assert model.max_prefill_tokens(0.001, 0, 0, 0) == 0


def test_an_exact_model_is_corrected_like_any_other() -> None:
    model = exact_model(LAWS["a100"].form)
    assert model.scaled(1.5).iteration_s(300, 40, 20, 9_000) == pytest.approx(
        1.5 * model.iteration_s(300, 40, 20, 9_000)
    )
