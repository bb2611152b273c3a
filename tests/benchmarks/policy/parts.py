"""What the benchmark measures: named parts, each a few runs."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from tests.benchmarks.policy.bounds import least_missed, throughput_limit_qps
from tests.benchmarks.policy.busy_hour import (
    BURST_S,
    LOADS,
    POOLS,
    bursts_of,
    busy_hour,
    pool_capacities,
)
from tests.benchmarks.policy.held_out import LONG_CONTEXT_TIERS, mixture
from tests.benchmarks.policy.jitserve import goodput, jitserve_runs
from tests.benchmarks.policy.learned import learned_pairs, run_pair
from workers.latency.profiles import A100_LLAMA3_8B
from workers.simulator.capacity import SCORINGS, capacity_of, find_capacity, gpus_for
from workers.simulator.cluster import TierAware
from workers.simulator.experiment import Experiment, SquareWave
from workers.simulator.summary import Summary
from workers.simulator.traces import read_trace
from workers.simulator.workload import PAPER_TIERS, Tier

FILES = {
    "code": "azure_llm_2023_code.csv.gz",
    "conv": "azure_llm_2023_conv.csv.gz",
    "sharegpt": "sharegpt_8k_llama2_lengths.csv.gz",
    "mooncake": "mooncake_fast25_conversation.jsonl.gz",
}
REFERENCE_QPS = {"code": 4.69, "conv": 5.45, "sharegpt": 2.03}
"""Requests/s that overload is counted from: near the envelope capacity of niyama-paper."""
OVERLOADS = (1.3, 1.6, 2.0)
OVERLOAD_SEEDS = (1, 2)
OVERLOAD_BASELINES = (
    "niyama-paper", "niyama-paper/artifact", "srpf", "srpf-shed", "edf-shed", "edf",
)  # fmt: skip
CAPACITY_POLICIES = (
    "niyama", "niyama-paper", "niyama/no-alternation", "niyama/gaps", "edf", "edf-512", "edf-2048",
    "srpf", "fcfs", "fcfs-2048",
)  # fmt: skip
START = {
    "niyama/gaps": 0.93, "edf": 0.84, "edf-512": 0.8, "edf-2048": 0.5, "srpf": 0.6, "fcfs": 0.63,
    "fcfs-2048": 0.5,
}  # fmt: skip
"""Where a search starts, as a share of the reference; a guess that saves runs."""
ABLATIONS = (
    "niyama", "niyama/no-spread", "niyama/no-alternation", "niyama/chunk-256", "niyama/gaps",
    "niyama/envelope", "niyama/no-cutoff", "niyama/hybrid", "niyama/no-park", "niyama/no-history",
    "niyama/size-bias-50", "niyama/size-bias-0",
)  # fmt: skip

DIURNAL_POLICIES = (
    "niyama", "niyama/strict-importance", "niyama/no-importance", "niyama-paper",
    "niyama-paper/artifact", "srpf-shed", "edf-shed", "srpf", "edf", "fcfs",
)  # fmt: skip
BURSTS_FROM = {"sharegpt": "conv"}
"""ShareGPT has no arrival times."""


@dataclass(frozen=True, slots=True)
class Part:
    """One line of results: a name and how to get it."""

    name: str
    run: Callable[[], dict[str, Any]]


def parts(traces: Path, duration_s: float = 10_800.0, warm_up_s: float = 3_600.0) -> list[Part]:
    """All parts, on the traces in a folder."""
    paper_setting = partial(
        Experiment, profile=A100_LLAMA3_8B, duration_s=duration_s, warm_up_s=warm_up_s
    )
    experiments = {name: paper_setting(read_trace(traces / file)) for name, file in FILES.items()}
    paper = {name: experiments[name] for name in REFERENCE_QPS}
    return [
        *_bound_parts(paper),
        *_overload_parts(paper),
        *_capacity_parts(paper),
        *_predictor_parts(paper),
        *_nonnegative_parts(paper["conv"]),
        *_cluster_parts(paper["conv"]),
        *_diurnal_parts(paper["code"]),
        *_fairness_parts(paper["conv"]),
        *_burst_parts(paper["code"]),
        *_little_kv_parts(paper),
        *_ablation_parts(paper),
        *_cache_parts(experiments["mooncake"]),
        *_silo_parts(paper),
        *_busy_hour_parts(paper),
        *_minute_parts(paper["code"]),
        *_held_out_parts(experiments["mooncake"]),
        *_jitserve_parts(paper),
        *_learned_parts(paper),
    ]


def _bound_parts(experiments: dict[str, Experiment]) -> list[Part]:
    return [Part(f"bound {name}", partial(_bounds, name, e)) for name, e in experiments.items()]


def _bounds(dataset: str, experiment: Experiment) -> dict[str, Any]:
    model, (start_s, end_s) = experiment.profile.latency, experiment.window_s
    missed = {}
    for times in OVERLOADS:
        requests = experiment.requests(times * REFERENCE_QPS[dataset])
        inside = [sim for sim in requests if start_s <= sim.request.qos.arrival_s < end_s]
        missed[str(times)] = round(least_missed(model, inside, end_s - start_s), 5)
    limit_qps = throughput_limit_qps(model, experiment.trace.lengths)
    return {"throughput_limit_qps": round(limit_qps, 3), "least_missed": missed}


def _overload_parts(experiments: dict[str, Experiment]) -> list[Part]:
    asked = [("niyama", seed) for seed in OVERLOAD_SEEDS]
    asked += [(policy, 1) for policy in OVERLOAD_BASELINES]
    return [
        _run_part(
            f"overload {dataset} {times} {policy} seed {seed}",
            replace(experiment, seed=seed),
            policy,
            times * REFERENCE_QPS[dataset],
        )
        for policy, seed in asked
        for dataset, experiment in experiments.items()
        for times in OVERLOADS
    ]


def _capacity_parts(experiments: dict[str, Experiment]) -> list[Part]:
    return [
        _capacity_part(f"capacity {dataset} {policy}", experiment, policy, dataset)
        for policy in CAPACITY_POLICIES
        for dataset, experiment in experiments.items()
    ]


def _predictor_parts(experiments: dict[str, Experiment]) -> list[Part]:
    """Policies believe that iterations take 0.8 of what they take."""
    mistaken = {name: replace(e, predictor_factor=0.8) for name, e in experiments.items()}
    return [
        _capacity_part(
            f"predictor 25% too fast {dataset} {policy}", mistaken[dataset], policy, dataset
        )
        for dataset in ("conv", "code")
        for policy in ("niyama", "niyama/no-calibration", "niyama-paper")
    ]


def _nonnegative_parts(conv: Experiment) -> list[Part]:
    """The released predictor makes large batches cheaper the more decodes are in them: without."""
    model = conv.profile.latency
    large = replace(model.large, decode_token_s=model.small.decode_token_s)
    profile = replace(conv.profile, latency=replace(model, large=large))
    return [
        _run_part(
            f"nonnegative predictor conv 1.6 {policy}",
            replace(conv, profile=profile),
            policy,
            1.6 * REFERENCE_QPS["conv"],
        )
        for policy in ("niyama", "niyama/no-alternation", "niyama-paper")
    ]


def _capacity_part(name: str, experiment: Experiment, policy: str, dataset: str) -> Part:
    start_qps = START.get(policy, 1.0) * REFERENCE_QPS[dataset]
    return Part(name, partial(_capacity, experiment, policy, start_qps))


def _capacity(experiment: Experiment, policy: str, start_qps: float) -> dict[str, Any]:
    """By each way of scoring; what one search has run, the next need not."""
    runs: list[Summary] = []
    capacity = {}
    for scoring in SCORINGS:
        capacity[scoring], runs = find_capacity(
            partial(experiment.run, policy), scoring, start_qps=start_qps, growth=1.1, known=runs
        )
    return {**capacity, "runs": [_brief(run) for run in runs]}


def _cluster_parts(conv: Experiment) -> list[Part]:
    """Four replicas; the rates are where the searches start."""
    four = replace(conv, replicas=4)
    tier_aware = replace(four, router=partial(TierAware, interactive=2))
    placements = (("round robin", four, 24.0), ("tier aware", tier_aware, 25.0))
    return [
        Part(
            f"cluster of four conv {name} {policy}",
            partial(_cluster_capacity, experiment, policy, start_qps * share),
        )
        for policy, share in (("niyama", 1.0), ("niyama/no-alternation", 0.95))
        for name, experiment, start_qps in placements
    ]


def _cluster_capacity(experiment: Experiment, policy: str, start_qps: float) -> dict[str, Any]:
    capacity, runs = find_capacity(
        partial(experiment.run, policy), "gaps", start_qps=start_qps, growth=1.03
    )
    return {"capacity_qps": capacity, "runs": [_brief(run) for run in runs]}


def _diurnal_parts(code: Experiment) -> list[Part]:
    """2 <-> 5 requests/s every 15 min for 1.5 h, 20% low importance; and 1.3 times that."""
    return [
        _run_part(
            f"diurnal {times} {policy}",
            replace(
                code,
                duration_s=5_400.0 + 1_800.0,
                warm_up_s=0.0,
                low_importance=0.2,
                square_wave=SquareWave(2.0 * times, 5.0 * times),
            ),
            policy,
            3.5 * times,
        )
        for times in (1.3, 1.0)
        for policy in DIURNAL_POLICIES
    ]


def _fairness_parts(conv: Experiment) -> list[Part]:
    """One of four tenants sends 70% of the requests, and chance spares one request in ten."""
    tenants = (("flood", 7.0), ("a", 1.0), ("b", 1.0), ("c", 1.0))
    flooded, qps = replace(conv, tenants=tenants), 1.6 * REFERENCE_QPS["conv"]
    policies = ("niyama", "niyama/no-fairness", "niyama/strict-fairness", "niyama/size-bias-90")
    return [_run_part(f"fairness conv 1.6 {policy}", flooded, policy, qps) for policy in policies]


def _burst_parts(code: Experiment) -> list[Part]:
    """Azure Code's own arrival times, TTFT 1 s, KV for 60,000 tokens; and for 16,000."""
    tiers = (Tier.interactive("Q1", ttft_s=1.0, tbt_s=0.05), *PAPER_TIERS[1:])
    names = (
        "niyama", "niyama/no-reclaim", "niyama/no-kv-growth", "niyama/no-park", "niyama-paper",
        "edf",
    )  # fmt: skip
    burst = replace(code, tiers=tiers, trace_arrivals=True)
    return [
        _run_part(f"burst kv {kv} {policy}", replace(burst, kv_tokens=kv), policy, 2.566)
        for kv in (60_000, 16_000)
        for policy in names
    ]


def _little_kv_parts(experiments: dict[str, Experiment]) -> list[Part]:
    """Where memory runs out before time does; short, with short deadlines."""
    tiers = (PAPER_TIERS[0], Tier.batch("Q2", ttlt_s=60.0), Tier.batch("Q3", ttlt_s=120.0))
    return [
        _run_part(
            f"little kv {dataset} {policy}",
            replace(
                experiments[dataset], tiers=tiers, kv_tokens=kv, duration_s=600.0, warm_up_s=150.0
            ),
            policy,
            qps,
        )
        for dataset, kv, qps in (("sharegpt", 24_000, 2.0), ("conv", 16_000, 4.0))
        for policy in ("niyama", "niyama/no-kv-growth", "srpf-shed", "edf-shed")
    ]


def _ablation_parts(experiments: dict[str, Experiment]) -> list[Part]:
    """In overload, and on Conv where only the whole policy still meets everything."""
    at = (("conv", 1.6), ("code", 1.6), ("conv", 1.08))
    return [
        _run_part(
            f"ablation {dataset} {times} {policy}",
            experiments[dataset],
            policy,
            times * REFERENCE_QPS[dataset],
        )
        for dataset, times in at
        for policy in ABLATIONS
    ]


def _cache_parts(mooncake: Experiment) -> list[Part]:
    """Prompts whose prefix is cached, in overload: 37% of the tokens."""
    return [
        _run_part(f"cached prefixes {policy}", mooncake, policy, 1.6)
        for policy in ("niyama", "niyama/no-cached-prefixes")
    ]


def _silo_parts(experiments: dict[str, Experiment]) -> list[Part]:
    return [
        Part(f"silo {dataset}", partial(_silo, experiment))
        for dataset, experiment in experiments.items()
    ]


def _silo(experiment: Experiment) -> dict[str, Any]:
    silo = capacity_of(experiment, "silo", "envelope")
    pools = {pool.name: round(pool.capacity_qps, 3) for pool in silo.pools}
    return {"qps_per_gpu": round(silo.qps_per_gpu, 3), "pools": pools, "gpus": gpus_for(35.0, silo)}


def _busy_hour_parts(experiments: dict[str, Experiment]) -> list[Part]:
    """What a day's GPUs are counted by."""
    return [
        Part(
            f"busy hour {dataset} {load} {pool}",
            partial(_busy_hour, dataset, experiments, load, pool),
        )
        for load in LOADS
        for dataset in experiments
        for pool in POOLS
    ]


def _busy_hour(
    dataset: str, experiments: dict[str, Experiment], load: str, pool: str
) -> dict[str, float]:
    timed = experiments[BURSTS_FROM.get(dataset, dataset)].trace.arrivals_s
    bursts = bursts_of(timed) if load == "bursts" and timed is not None else (1.0,)
    experiment = experiments[dataset]
    hour = busy_hour(experiment, bursts)
    return pool_capacities(hour, pool, POOLS[pool] * REFERENCE_QPS[dataset])


def _minute_parts(code: Experiment) -> list[Part]:
    """Ten times 2.5 requests/s for a minute, all tiers at once."""
    quiet, minute = round(900 / BURST_S), round(60 / BURST_S)
    bursts = (1.0,) * quiet + (10.0,) * minute + (1.0,) * round(3_600 / BURST_S)
    hour = busy_hour(code, bursts, together=True)
    return [
        _run_part(f"minute tenfold {policy}", hour, policy, 2.5)
        for policy in ("niyama", "niyama-paper", "edf-shed", "srpf-shed", "srpf", "edf", "fcfs")
    ]


def _held_out_parts(mooncake: Experiment) -> list[Part]:
    """In overload: Mooncake's conversations at their own times, and a mixture of lengths."""
    conversations = replace(mooncake, tiers=LONG_CONTEXT_TIERS, trace_arrivals=True)
    mixed = replace(mooncake, trace=mixture())
    limit_qps = throughput_limit_qps(mixed.profile.latency, mixed.trace.lengths)
    loads = (("mooncake", conversations, 1.6), ("mixture", mixed, 1.3 * limit_qps))
    return [
        _run_part(f"held-out {name} {policy}", experiment, policy, qps)
        for name, experiment, qps in loads
        for policy in ("niyama", "niyama-paper", "srpf-shed", "edf-shed", "srpf", "edf")
    ]


def _jitserve_parts(experiments: dict[str, Experiment]) -> list[Part]:
    return [Part(run.name, partial(goodput, run)) for run in jitserve_runs(experiments)]


def _learned_parts(experiments: dict[str, Experiment]) -> list[Part]:
    return [Part(pair.name, partial(run_pair, pair)) for pair in learned_pairs(experiments)]


def _run_part(name: str, experiment: Experiment, policy: str, qps: float) -> Part:
    return Part(name, lambda: _brief(experiment.run(policy, qps)))


def _brief(summary: Summary) -> dict[str, Any]:
    return {
        "qps": round(summary.qps, 4),
        "missed": round(summary.missed, 5),
        "tiers_first": [round(tier.missed_first_or_last, 5) for tier in summary.tiers],
        "tiers_envelope": [round(tier.missed_envelope, 5) for tier in summary.tiers],
        "interactive": round(summary.interactive.missed, 5),
        "batch": round(summary.batch.missed, 5),
        "relegated": [round(each.relegated, 5) for each in (summary.interactive, summary.batch)],
        "late_gaps": round(summary.late_gaps, 5),
        "by_size": [round(share, 4) for share in summary.missed_by_size],
        "important": round(summary.missed_important, 5),
        "value_kept": round(summary.value_kept, 5),
        "fairness": round(summary.fairness, 5),
        "tenants": {name: round(share, 5) for name, share in summary.missed_by_tenant.items()},
        "ttft_s": [round(value, 3) for value in summary.tiers[0].latency_s],
        "retractions": summary.retractions,
    }
