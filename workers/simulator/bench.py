"""Every figure of docs/scheduler.md: `python -m workers.simulator.bench --traces DIR`.

DIR holds the public traces under their usual names (gzipped): azure_llm_2023_code.csv.gz,
azure_llm_2023_conv.csv.gz, sharegpt_8k_llama2_lengths.csv.gz. Results go to a JSON file after each
run; what is already there is not run again.
"""

import json
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import Field

from niyama.settings import CommandSettings
from workers.simulator.capacity import capacity_of, find_capacity, gpus_for
from workers.simulator.cluster import TierAware
from workers.simulator.experiment import Experiment, SquareWave
from workers.simulator.profiles import A100_LLAMA3_8B
from workers.simulator.summary import Summary
from workers.simulator.traces import read_trace
from workers.simulator.workload import PAPER_TIERS, Tier

FILES = {
    "code": "azure_llm_2023_code.csv.gz",
    "conv": "azure_llm_2023_conv.csv.gz",
    "sharegpt": "sharegpt_8k_llama2_lengths.csv.gz",
}
#: Brackets of the capacity searches, by what is searched for.
BRACKETS = {
    "niyama": {"code": (4.2, 5.0), "conv": (5.0, 6.2), "sharegpt": (1.7, 2.3)},
    "edf": {"code": (3.0, 3.8), "conv": (4.2, 5.0), "sharegpt": (1.7, 2.2)},
    "fcfs": {"code": (2.0, 2.8), "conv": (3.4, 4.2), "sharegpt": (1.1, 1.6)},
    "srpf": {"code": (2.0, 2.8), "conv": (3.2, 4.0), "sharegpt": (1.1, 1.6)},
    "niyama-paper gaps": {"code": (0.2, 1.0), "conv": (0.4, 1.2), "sharegpt": (0.2, 0.8)},
    "niyama-paper mistaken": {"code": (1.8, 4.8), "conv": (2.4, 5.6), "sharegpt": (1.0, 2.2)},
}
#: Envelope capacity of niyama-paper, requests/s: the unit of the overload runs.
REFERENCE = {"code": 4.69, "conv": 5.45, "sharegpt": 2.03}
OVERLOADS = (1.3, 1.6, 2.0)


class BenchSettings(CommandSettings):
    """Measure what docs/scheduler.md reports."""

    traces: Path = Field(description="Folder with the public traces")
    out: Path = Field(
        default=Path("bench-scheduler.json"), description="Results, kept and added to"
    )
    only: str = Field(default="", description="Run the parts whose name matches this expression")


@dataclass(frozen=True, slots=True)
class Part:
    """One line of results: a name and how to get it."""

    name: str
    run: Callable[[], dict[str, Any]]


def parts(traces: Path) -> list[Part]:
    experiments = {
        name: Experiment(read_trace(traces / file), A100_LLAMA3_8B) for name, file in FILES.items()
    }
    return [
        *_capacity_parts(experiments),
        *_overload_parts(experiments),
        *_diurnal_parts(experiments["code"]),
        *_predictor_parts(experiments),
        *_burst_parts(experiments["code"]),
        *_silo_parts(experiments),
        *_cluster_parts(experiments["conv"]),
        *_ablation_parts(experiments),
    ]


def _capacity(experiment: Experiment, policy: str, scoring: str, dataset: str) -> dict[str, Any]:
    low, high = _bracket(experiment, policy, scoring)[dataset]
    capacity, runs = find_capacity(partial(experiment.run, policy), scoring, low=low, high=high)
    return {"capacity_qps": capacity, "runs": [_brief(run) for run in runs]}


def _bracket(experiment: Experiment, policy: str, scoring: str) -> dict[str, tuple[float, float]]:
    if policy == "niyama-paper" and scoring == "gaps":
        return BRACKETS["niyama-paper gaps"]
    mistaken = experiment.predictor_factor != 1.0
    if mistaken and policy in ("niyama-paper", "niyama/no-calibration"):
        return BRACKETS["niyama-paper mistaken"]
    return BRACKETS[policy] if policy in BRACKETS else BRACKETS["niyama"]


def _capacity_part(
    name: str, experiment: Experiment, policy: str, scoring: str, dataset: str
) -> Part:
    return Part(name, partial(_capacity, experiment, policy, scoring, dataset))


def _capacity_parts(experiments: dict[str, Experiment]) -> list[Part]:
    # What niyama meets by gaps it meets by the envelope: tokens are shown ahead of it.
    asked = [("niyama", "gaps"), ("niyama-paper", "envelope")]
    asked += [("niyama/envelope", "envelope"), ("edf", "envelope"), ("fcfs", "envelope")]
    asked += [("niyama/gaps", "gaps"), ("niyama-paper", "gaps"), ("srpf", "envelope")]
    return [
        _capacity_part(
            f"capacity {dataset} {policy} {scoring}", experiment, policy, scoring, dataset
        )
        for policy, scoring in asked
        for dataset, experiment in experiments.items()
    ]


def _run_part(name: str, experiment: Experiment, policy: str, qps: float) -> Part:
    return Part(name, lambda: _brief(experiment.run(policy, qps)))


def _overload_parts(experiments: dict[str, Experiment]) -> list[Part]:
    return [
        _run_part(
            f"overload {dataset} {times} {policy}", experiment, policy, times * REFERENCE[dataset]
        )
        for policy in (
            "niyama",
            "niyama/envelope",
            "niyama-paper",
            "niyama-paper/answers",
            "niyama/hybrid",
            "edf",
        )
        for dataset, experiment in experiments.items()
        for times in OVERLOADS
    ]


def _diurnal_parts(code: Experiment) -> list[Part]:
    """2 <-> 5 requests/s every 15 min for 4 h, 20% low importance; then 1.3 times that."""
    return [
        _run_part(
            f"diurnal {times} {policy}",
            replace(
                code,
                duration_s=14_400.0 + 1_800.0,
                warm_up_s=0.0,
                low_importance=0.2,
                square_wave=SquareWave(2.0 * times, 5.0 * times),
            ),
            policy,
            3.5 * times,
        )
        for times in (1.3, 1.0)
        for policy in ("niyama", "niyama/hybrid", "niyama-paper", "edf", "fcfs")
    ]


def _predictor_parts(experiments: dict[str, Experiment]) -> list[Part]:
    asked = (("niyama", "gaps"), ("niyama/no-calibration", "gaps"), ("niyama-paper", "envelope"))
    return [
        _capacity_part(
            f"predictor 25% too fast {dataset} {policy}",
            replace(experiments[dataset], predictor_factor=0.8),
            policy,
            scoring,
            dataset,
        )
        for dataset in ("conv", "code")
        for policy, scoring in asked
    ]


def _burst_parts(code: Experiment) -> list[Part]:
    """Azure Code's own arrival times, TTFT 1 s, KV for 60,000 tokens; and for 16,000."""
    tiers = (Tier("Q1", 1.0, 0.05), *PAPER_TIERS[1:])
    names = ("niyama", "niyama/no-give-back", "niyama/no-kv-growth", "niyama-paper", "edf")
    burst = replace(code, tiers=tiers, trace_arrivals=True)
    return [
        _run_part(f"burst kv {kv} {policy}", replace(burst, kv_tokens=kv), policy, 2.566)
        for kv in (60_000, 16_000)
        for policy in names
    ]


def _cluster_parts(conv: Experiment) -> list[Part]:
    four = replace(conv, replicas=4)
    placements = {
        "round robin": four,
        "tier aware": replace(four, router=lambda: TierAware(interactive=2)),
    }
    return [
        Part(f"cluster of four conv {name}", partial(_cluster_capacity, experiment))
        for name, experiment in placements.items()
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


def _cluster_capacity(experiment: Experiment) -> dict[str, Any]:
    capacity, runs = find_capacity(partial(experiment.run, "niyama"), "gaps", low=20.0, high=26.0)
    return {"capacity_qps": capacity, "runs": [_brief(run) for run in runs]}


def _ablation_parts(experiments: dict[str, Experiment]) -> list[Part]:
    names = ["niyama/no-spread", "niyama/no-cut", "niyama/no-park", "niyama/chunk-256"]
    names += ["niyama/size-bias-50", "niyama/size-bias-0", "niyama/gaps"]
    return [
        _run_part(
            f"ablation {dataset} {times} {policy}",
            experiments[dataset],
            policy,
            times * REFERENCE[dataset],
        )
        for times in (1.0, 1.6)
        for policy in names
        for dataset in ("conv", "code")
    ]


def _brief(summary: Summary) -> dict[str, Any]:
    return {
        "qps": round(summary.qps, 4),
        "missed": round(summary.missed, 5),
        "tiers_first": [round(tier.missed_first_or_last, 5) for tier in summary.tiers],
        "tiers_envelope": [round(tier.missed_envelope, 5) for tier in summary.tiers],
        "late_gaps": round(summary.late_gaps, 5),
        "longest_prompts": round(summary.missed_longest_prompts, 4),
        "important": round(summary.missed_important, 5),
        "ttft_s": [round(value, 3) for value in summary.tiers[0].latency_s],
        "retractions": summary.retractions,
    }


def main(arguments: list[str]) -> int:
    settings = BenchSettings.from_command_line(arguments, "bench-scheduler")
    results = json.loads(settings.out.read_text()) if settings.out.exists() else {}
    for part in parts(settings.traces):
        if re.search(settings.only, part.name) and part.name not in results:
            results[part.name] = part.run()
            settings.out.write_text(json.dumps(results, indent=1))
            shown = {k: v for k, v in results[part.name].items() if k != "runs"}
            print(part.name, json.dumps(shown), flush=True)  # noqa: T201
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
