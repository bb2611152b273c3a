"""A scheduler that learns its device as it serves, against one that knows its law.

It begins with what a worker believes of a device that it does not know. Both are offered more than
they can carry, so that time that is planned badly costs requests at once. Deadlines are short, so
that minutes are enough.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace

from workers.simulator.devices import FIRST_GUESS_PROFILE, LAWS, exact_profile
from workers.simulator.experiment import Experiment
from workers.simulator.laws import Law
from workers.simulator.workload import Tier

SEEDS = (1, 2)
TIERS = (
    Tier.interactive("Q1", ttft_s=6.0, tbt_s=0.05),
    Tier.batch("Q2", ttlt_s=15.0),
    Tier.batch("Q3", ttlt_s=30.0),
)
RATES = {"code": 8.0, "conv": 10.0, "sharegpt": 2.6}
"""Requests/s: more than the A100 of the laws can carry."""
SPEED = {"h100": 2.5, "rtx-pro-6000": 1.6}
"""The rates of other devices, in those of the A100."""


@dataclass(frozen=True, slots=True)
class Pair:
    """One law and the requests of one seed."""

    name: str
    device: Experiment
    law: Law
    qps: float


def learned_pairs(experiments: Mapping[str, Experiment]) -> Iterator[Pair]:
    """Three minutes each, of which those count that arrive between 90 and 150 s."""
    for seed in SEEDS:
        for law in LAWS.values():
            for dataset, qps in RATES.items():
                device = replace(
                    experiments[dataset],
                    tiers=TIERS,
                    duration_s=180.0,
                    warm_up_s=90.0,
                    overlap=True,
                    law=law,
                    seed=seed,
                )
                name = f"learned {law.name} {dataset} seed {seed}"
                yield Pair(name, device, law, qps * SPEED.get(law.name, 1.0))


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of both: requests/s that met everything, and the share of gaps that were late."""

    qps: float
    learned_qps: float
    known_qps: float
    learned_late_gaps: float
    known_late_gaps: float


def run_pair(pair: Pair) -> dict[str, float]:
    learning = replace(pair.device, profile=FIRST_GUESS_PROFILE, learn=True)
    knowing = replace(pair.device, profile=exact_profile(pair.law))
    learned, known = (each.run("niyama", pair.qps) for each in (learning, knowing))
    return asdict(
        Outcome(
            pair.qps,
            round(learned.goodput_qps, 4),
            round(known.goodput_qps, 4),
            round(learned.late_gaps, 5),
            round(known.late_gaps, 5),
        )
    )
