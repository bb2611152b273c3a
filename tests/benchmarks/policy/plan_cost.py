"""What planning costs, and how it grows: `python -m tests.benchmarks.policy.plan_cost`.

CPU time of every plan of a loaded replica with a given number of waiting and running requests, one
of which has just arrived, and the memory per waiting request.
"""

import random
import time
import tracemalloc
from typing import NamedTuple

from tests.support.requests import either
from workers.latency.profiles import A100_LLAMA3_8B
from workers.policy.plan import IterationResult
from workers.policy.policy import NiyamaPolicy
from workers.policy.request import Request
from workers.simulator.summary import percentile

SIZES = ((200, 64), (2_000, 64), (20_000, 64), (200, 256))
_TARGETS = ((6.0, 0.05), (600.0, None), (1_800.0, None), (86_400.0, None))


class Cost(NamedTuple):
    """Milliseconds per plan, and bytes per waiting request."""

    waiting: int
    running: int
    plan_p50_ms: float
    plan_p99_ms: float
    observe_p50_ms: float
    bytes_per_waiting: float


def measure(waiting: int, running: int, plans: int = 400) -> Cost:
    """One arrival per plan keeps the queue at its length; every plan looks ahead."""
    rng = random.Random(7)
    policy = NiyamaPolicy(A100_LLAMA3_8B.latency)
    now_s = _fill_decodes(policy, running)
    tracemalloc.start()
    for index in range(waiting):
        policy.add(_request(f"w{index:06d}", now_s, rng), now_s)
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    plan_ms, observe_ms = [], []
    for index in range(plans):
        policy.add(_request(f"x{index:06d}", now_s, rng), now_s)
        before = time.thread_time()
        plan = policy.plan(now_s, 10_000_000)
        planned = time.thread_time()
        now_s += plan.predicted_s
        policy.observe(IterationResult(now_s, plan.predicted_s, plan.chunks))
        plan_ms.append(1000 * (planned - before))
        observe_ms.append(1000 * (time.thread_time() - planned))
    return Cost(
        waiting,
        running,
        percentile(plan_ms, 50),
        percentile(plan_ms, 99),
        percentile(observe_ms, 50),
        used / max(1, waiting),
    )


def _fill_decodes(policy: NiyamaPolicy, running: int) -> float:
    now_s = 0.0
    for index in range(running):
        tbt_s = 0.05 if index % 2 else None
        policy.add(either(f"d{index:04d}", 200, arrival_s=0.0, target_s=600.0, tbt_s=tbt_s), 0.0)
    for _ in range(running):
        plan = policy.plan(now_s, 10_000_000)
        if not plan.chunks:
            break
        now_s += plan.predicted_s
        policy.observe(IterationResult(now_s, plan.predicted_s, plan.chunks))
    return now_s


def _request(name: str, now_s: float, rng: random.Random) -> Request:
    target_s, tbt_s = rng.choice(_TARGETS)
    prompt_tokens = int(rng.lognormvariate(7.2, 1.0)) + 1
    return either(name, prompt_tokens, arrival_s=now_s, target_s=target_s, tbt_s=tbt_s)


def main() -> None:
    print("waiting running  plan p50  plan p99  observe p50  bytes/waiting")
    for size in SIZES:
        cost = measure(*size)
        print(
            f"{cost.waiting:7} {cost.running:7}  {cost.plan_p50_ms:5.3f} ms  "
            f"{cost.plan_p99_ms:5.3f} ms  {cost.observe_p50_ms:8.3f} ms  "
            f"{cost.bytes_per_waiting:13.0f}"
        )


if __name__ == "__main__":
    main()
