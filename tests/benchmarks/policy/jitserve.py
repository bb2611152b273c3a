"""Against JITServe (arXiv 2504.20068) on its kind of workload, and on ours.

The workload is that of its artifact's end-to-end experiments as far as public traces go: chats
(TTFT 1 s, TBT 0.1 s), whole answers (10 s) and tasks of four calls (40 s), of each as many calls;
the times of a quarter each are once, twice, three and four times these. Its prompts are LMSYS
chats, which have no lengths here that may be kept; ours are the traces' own.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from workers.simulator.experiment import Experiment
from workers.simulator.workload import Tier

POLICIES = (
    "niyama", "jitserve-512", "jitserve", "jitserve/artifact", "srpf-512", "edf-512",
    "niyama-paper",
)  # fmt: skip
LOADS = {"code": (3.5, 4.5, 6.0), "conv": (3.0, 4.0, 5.5), "sharegpt": (1.0, 1.5, 2.2)}
"""Arrivals per second of requests and tasks: within capacity, near it, and in overload."""
OWN_POLICIES = ("niyama", "jitserve", "jitserve-512")
OWN_LOADS = {"code": (4.0, 6.1), "conv": (4.9, 7.1), "sharegpt": (1.8, 2.6)}
"""Requests per second: below capacity, and 1.3 times as much as it."""
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
    """Half an hour each, of which the first five minutes do not count; ours an hour and a half."""
    for dataset, loads in LOADS.items():
        short = replace(experiments[dataset], duration_s=1_800.0, warm_up_s=300.0)
        theirs = replace(short, tiers=jitserve_tiers())
        for qps in loads:
            for policy in POLICIES:
                yield Run(f"jitserve {dataset} {qps} {policy}", theirs, policy, qps)
        if short.trace.arrivals_s is not None:
            bursty = replace(theirs, trace_arrivals=True)
            for policy in POLICIES:
                yield Run(f"jitserve {dataset} bursty {policy}", bursty, policy, loads[1])
        # A batch request has 30 minutes.
        ours = replace(experiments[dataset], duration_s=5_400.0, warm_up_s=1_800.0)
        for qps in OWN_LOADS[dataset]:
            for policy in OWN_POLICIES:
                yield Run(f"jitserve own {dataset} {qps} {policy}", ours, policy, qps)


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
