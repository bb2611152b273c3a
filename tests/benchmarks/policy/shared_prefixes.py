"""What it is worth that prompts which begin alike follow each other.

    python -m tests.benchmarks.policy.shared_prefixes [--trace MOONCAKE.jsonl.gz]

Documents with many questions each, mixed at random, as an evaluation or a retrieval pipeline sends
them; with `--trace`, conversations with the blocks that their prompts share, too.
"""

import argparse
import math
import random
from dataclasses import dataclass
from pathlib import Path

from workers.latency.profiles import load_profile
from workers.simulator.cluster import RoundRobin, run_cluster
from workers.simulator.experiment import Experiment
from workers.simulator.outcome import Outcome
from workers.simulator.settings import parse_tiers
from workers.simulator.traces import Trace, read_trace
from workers.simulator.workload import BLOCK_TOKENS, Lengths

POLICIES = ("niyama", "niyama/no-shared-prefixes", "edf")
BATCH = "Q2=600,Q3=1200"
MIXED = f"Q1=6/0.05,{BATCH}"
DOCUMENTS, QUESTIONS, BLOCKS = 200, 50, 16


@dataclass(frozen=True, slots=True)
class Load:
    name: str
    trace: Trace
    slo: str
    qps: float


def documents(seed: int = 1) -> Trace:
    """`DOCUMENTS` of 8,192 tokens, `QUESTIONS` of 50 to 200 about each, in a random order."""
    rng = random.Random(seed)
    order = [document for document in range(DOCUMENTS) for _ in range(QUESTIONS)]
    rng.shuffle(order)
    return Trace(
        "documents",
        tuple(
            Lengths(
                BLOCKS * BLOCK_TOKENS + rng.randint(50, 200),
                rng.randint(5, 60),
                tuple(range(document * BLOCKS, (document + 1) * BLOCKS)),
            )
            for document in order
        ),
        None,
    )


def measure(load: Load, policy: str, seed: int) -> str:
    """A line of the table: the share of prompt tokens found in the cache, and what was missed."""
    experiment = Experiment(
        trace=load.trace,
        profile=load_profile("a100-llama3-8b"),
        tiers=parse_tiers(load.slo),
        duration_s=2_700.0,
        warm_up_s=300.0,
        seed=seed,
    )
    replica = experiment.replica(policy)
    outcomes = run_cluster(
        experiment.requests(load.qps), [replica], RoundRobin(), until_s=experiment.duration_s
    )
    start_s, end_s = experiment.window_s
    scored = [o for o in outcomes if start_s <= o.sim.request.qos.arrival_s < end_s]
    engine = replica.engine
    hits = engine.cached_tokens / (engine.cached_tokens + engine.computed_tokens)
    interactive = [o for o in scored if o.sim.request.qos.limits_gaps]
    batch = [o for o in scored if not o.sim.request.qos.limits_gaps]
    missed = " / ".join(f"{_missed(each):6.2%}" for each in (interactive, batch))
    gaps = sum(o.late_gaps for o in interactive) / max(1, sum(o.gaps for o in interactive))
    return f"| {load.name} | {load.qps:g} | {policy} | {hits:.1%} | {missed} | {gaps:.2%} |"


def _missed(outcomes: list[Outcome]) -> float:
    if not outcomes:
        return math.nan
    return sum(outcome.missed_envelope() for outcome in outcomes) / len(outcomes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trace", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    asked = documents()
    loads = [Load("documents, batch", asked, BATCH, 2.0), Load("documents", asked, MIXED, 1.5)]
    if arguments.trace is not None:
        conversations = read_trace(arguments.trace)
        loads.append(Load("conversations", conversations, f"Q1=30/0.1,{BATCH}", 0.45))
    print(
        "| load | requests/s | policy | found in cache | missed, interactive / batch | late gaps |"
    )
    print("|---|---|---|---|---|---|")
    for load in loads:
        for policy in POLICIES:
            print(measure(load, policy, arguments.seed), flush=True)


if __name__ == "__main__":
    main()
