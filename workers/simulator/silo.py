"""Separate pools for interactive and batch requests: how clusters are run without co-scheduling."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from workers.simulator.experiment import Experiment
from workers.simulator.summary import ClassSummary, Summary

SILO = "silo"


@dataclass(frozen=True, slots=True)
class SiloPool:
    """Replicas that serve some of the tiers: `share` of the load, by a policy of their own."""

    name: str
    experiment: Experiment
    policy: str
    share: float


def silo_pools(experiment: Experiment) -> list[SiloPool]:
    """Interactive tiers with chunk 256, batch with chunk 2048; first come first served."""
    interactive = tuple(tier for tier in experiment.tiers if tier.qos(0.0).is_interactive)
    batch = tuple(tier for tier in experiment.tiers if tier not in interactive)
    pools = (("interactive", interactive, "fcfs"), ("batch", batch, "fcfs-2048"))
    return [
        SiloPool(
            name,
            replace(experiment, tiers=tiers, replicas=1),
            policy,
            len(tiers) / len(experiment.tiers),
        )
        for name, tiers, policy in pools
        if tiers
    ]


def run_silo(
    experiment: Experiment,
    capacities_qps: Sequence[float],
    qps: float,
    progress: Callable[[float], None] | None = None,
) -> Summary:
    """All pools under `qps` requests/s, with GPUs in proportion to what each pool needs.

    `capacities_qps` are those of one replica of each pool, above zero. Every pool is then used to
    the same share of its capacity, as if replicas could be divided.
    """
    pools = silo_pools(experiment)
    needs = [pool.share / each for pool, each in zip(pools, capacities_qps, strict=True)]
    used = qps / experiment.replicas * sum(needs)
    runs = []
    for index, (pool, capacity_qps) in enumerate(zip(pools, capacities_qps, strict=True)):
        runs.append(pool.experiment.run(pool.policy, used * capacity_qps))
        if progress is not None:
            progress((index + 1) / len(pools))
    gpus = [experiment.replicas * need / sum(needs) for need in needs]
    return _combined(experiment, pools, runs, gpus, qps)


def _combined(
    experiment: Experiment,
    pools: Sequence[SiloPool],
    runs: Sequence[Summary],
    gpus: Sequence[float],
    qps: float,
) -> Summary:
    """One summary of runs whose pools have `share` of the requests and `gpus` GPUs each."""

    def mean(share_of: Callable[[Summary], float]) -> float:
        return sum(pool.share * share_of(run) for pool, run in zip(pools, runs, strict=True))

    tiers = {tier.tier: tier for run in runs for tier in run.tiers}
    return Summary(
        policy=SILO,
        qps=qps,
        tiers=tuple(tiers[tier.name] for tier in experiment.tiers),
        missed=mean(lambda run: run.missed),
        interactive=_together([run.interactive for run in runs]),
        batch=_together([run.batch for run in runs]),
        missed_by_size=tuple(
            sum(pool.share * share for pool, share in zip(pools, shares, strict=True))
            for shares in zip(*(run.missed_by_size for run in runs), strict=True)
        ),
        missed_important=mean(lambda run: run.missed_important),
        missed_unimportant=mean(lambda run: run.missed_unimportant),
        late_gaps=max(run.late_gaps for run in runs),  # only one pool has gaps that count
        longest_gap_p99_s=max(run.longest_gap_p99_s for run in runs),
        relegated=0.0,
        goodput_qps=sum(gpu * run.goodput_qps for gpu, run in zip(gpus, runs, strict=True)),
        goodput_tokens_per_s=sum(
            gpu * run.goodput_tokens_per_s for gpu, run in zip(gpus, runs, strict=True)
        ),
        replicas=experiment.replicas,
        retractions=sum(run.retractions for run in runs),
        seed=experiment.seed,
    )


def _together(classes: Sequence[ClassSummary]) -> ClassSummary:
    requests = sum(each.requests for each in classes)

    def mean(share_of: Callable[[ClassSummary], float]) -> float:
        return sum(each.requests * share_of(each) for each in classes) / max(1, requests)

    return ClassSummary(requests, mean(lambda c: c.missed), mean(lambda c: c.relegated))
