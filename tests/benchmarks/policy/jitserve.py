"""Against JITServe (arXiv 2504.20068) on its kind of workload, and on ours.

The workload is that of its artifact's end-to-end experiments as far as public traces go: chats
(TTFT 1 s, TBT 0.1 s), whole answers (10 s) and tasks of four calls (40 s), of each as many calls;
the times of a quarter each are once, twice, three and four times these. Its prompts are LMSYS
chats, which have no lengths here that may be kept; ours are the traces' own.
"""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from workers.simulator.experiment import Experiment
from workers.simulator.workload import Tier

POLICIES = (
    "niyama", "jitserve-512", "jitserve-512/batch-32", "jitserve/artifact", "jitserve", "srpf-512",
)  # fmt: skip
RATES = {"code": 3.5, "conv": 4.0, "sharegpt": 1.3}
"""Arrivals per second of requests and tasks: about what can be carried."""
MULTIPLES = (1.0, 1.5, 0.8)
"""In multiples of these, as they are run."""
SEEDS = (1, 2)
OWN_POLICIES = ("niyama", "jitserve", "jitserve-512")
OWN_RATES = {"code": 6.1, "conv": 7.1, "sharegpt": 2.6}
"""Requests per second: 1.3 times the capacity of niyama-paper."""
_CALLS = 4
_SCALES = (1, 2, 3, 4)


def jitserve_tiers() -> tuple[Tier, ...]:
    """As many calls of each kind: a task has `_CALLS` on average."""
    chats = [Tier.interactive(f"chat-{x}", ttft_s=1.0 * x, tbt_s=0.1 * x) for x in _SCALES]
    answers = [Tier.deadline(f"answer-{x}", ttlt_s=10.0 * x) for x in _SCALES]
    tasks = [Tier.task(f"task-{x}", ttlt_s=40.0 * x, calls=_CALLS) for x in _SCALES]
    return (*(_CALLS * [*chats, *answers]), *tasks)


@dataclass(frozen=True, slots=True)
class Run:
    """One run of the comparison."""

    name: str
    experiment: Experiment
    policy: str
    qps: float


def jitserve_runs(experiments: Mapping[str, Experiment]) -> Iterator[Run]:
    """Ten minutes each, of which the first two do not count; bursts 20, ours an hour."""
    theirs = {
        name: replace(experiments[name], tiers=jitserve_tiers(), duration_s=600.0, warm_up_s=120.0)
        for name in RATES
    }
    for seed, load, policy in itertools.product(SEEDS, MULTIPLES, POLICIES):
        for dataset, qps in RATES.items():
            name = f"jitserve {dataset} {load} {policy} seed {seed}"
            yield Run(name, replace(theirs[dataset], seed=seed), policy, load * qps)
    for dataset, experiment in theirs.items():
        if experiment.trace.arrivals_s is not None:
            bursty = replace(experiment, trace_arrivals=True, duration_s=1_200.0, warm_up_s=300.0)
            for policy in POLICIES:
                yield Run(f"jitserve {dataset} bursty {policy}", bursty, policy, RATES[dataset])
        # A batch request has 30 minutes.
        ours = replace(experiments[dataset], duration_s=3_600.0, warm_up_s=600.0)
        for policy in OWN_POLICIES:
            yield Run(f"jitserve own {dataset} {policy}", ours, policy, OWN_RATES[dataset])


def goodput(run: Run) -> dict[str, object]:
    """Requests and tasks, and tokens of answers, per second that were in time; shares missed."""
    summary = run.experiment.run(run.policy, run.qps)
    missed: dict[str, list[tuple[int, float]]] = {}
    for tier in summary.tiers:
        kind = tier.tier.partition("-")[0]
        missed.setdefault(kind, []).append((tier.requests, tier.missed_envelope))
    return {
        "qps": summary.qps,
        "goodput_qps": round(summary.goodput_qps, 4),
        "goodput_tokens_per_s": round(summary.goodput_tokens_per_s, 2),
        "missed": round(summary.missed, 5),
        "late_gaps": round(summary.late_gaps, 5),
        "missed_by_kind": {
            kind: round(sum(n * share for n, share in each) / max(1, sum(n for n, _ in each)), 5)
            for kind, each in missed.items()
        },
    }
