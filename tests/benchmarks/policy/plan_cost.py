"""What planning costs, and how it grows: `python -m tests.benchmarks.policy.plan_cost`.

CPU time of every plan, and of what is reported to the policy between two of them, of a replica on
which a number of requests wait and 64 decode: as they come one by one, and in bursts that ask for
many decisions at the same time. Python's garbage collector is off: its pauses depend on what else a
process holds. The last line has the memory of a waiting request.
"""

import gc
import random
import sys
import time
import tracemalloc
from collections.abc import Callable
from typing import NamedTuple

from tests.support.requests import either
from workers.latency.profiles import A100_LLAMA3_8B
from workers.policy.plan import IterationResult
from workers.policy.policy import NiyamaPolicy

SIZES = (200, 2_000, 20_000)
_RUNNING = 64
_PLANS = 1_500
_FREE_KV_TOKENS = 10_000_000
_TARGETS = ((6.0, 0.05), (600.0, None), (1_800.0, None), (86_400.0, None))


class Cost(NamedTuple):
    """Milliseconds: of plans, and of observing what became of each."""

    plan_ms: list[float]
    observe_ms: list[float]


class Replica:
    """A policy whose plans are carried out exactly as predicted."""

    def __init__(self, running: int = _RUNNING) -> None:
        self.policy = NiyamaPolicy(A100_LLAMA3_8B.latency)
        self.now_s = 0.0
        self.cost = Cost([], [])
        self._rng = random.Random(7)
        self._added = 0
        for index in range(running):
            self.add(target_s=600.0, tbt_s=0.05 if index % 2 else None, prompt_tokens=200)
        while self.policy.decodes < running:
            self.step()
        self.cost = Cost([], [])

    def add(
        self,
        *,
        target_s: float | None = None,
        tbt_s: float | None = None,
        prompt_tokens: int | None = None,
        expire_after_s: float | None = None,
    ) -> str:
        """A request, like any other where nothing is said, arrives; returns its id."""
        if target_s is None:
            target_s, tbt_s = self._rng.choice(_TARGETS)
        name = f"r{self._added:07d}"
        self._added += 1
        tokens = prompt_tokens or int(self._rng.lognormvariate(7.2, 1.0)) + 1
        request = either(
            name,
            tokens,
            arrival_s=self.now_s,
            target_s=target_s,
            tbt_s=tbt_s,
            expire_after_s=expire_after_s,
        )
        self.policy.add(request, self.now_s)
        return name

    def step(self, late_s: float = 0.0) -> None:
        """Plan an iteration, which takes `late_s` longer than predicted, and observe it."""
        before = time.thread_time()
        plan = self.policy.plan(self.now_s, _FREE_KV_TOKENS)
        planned = time.thread_time()
        duration_s = plan.predicted_s + late_s
        self.now_s += duration_s
        self.policy.observe(IterationResult(self.now_s, duration_s, plan.chunks))
        self.cost.plan_ms.append(1000 * (planned - before))
        self.cost.observe_ms.append(1000 * (time.thread_time() - planned))

    def steps(self, plans: int = _PLANS) -> None:
        """One request arrives before each plan."""
        for _ in range(plans):
            self.add()
            self.step()


def one_by_one(replica: Replica, waiting: int) -> None:
    for _ in range(waiting):
        replica.add()
    replica.steps()


def tiny_prompts(replica: Replica, waiting: int) -> None:
    """As many prompts as fit the tokens of an iteration, and far more."""
    for _ in range(waiting):
        replica.add(target_s=600.0, prompt_tokens=5)
    replica.steps()


def shared_deadline(replica: Replica, waiting: int) -> None:
    """Everything becomes too late within an iteration or two."""
    for _ in range(waiting):
        replica.add(target_s=30.0, tbt_s=0.05)
    replica.steps(100)
    replica.now_s += 30.0
    replica.steps()


def shared_expiry(replica: Replica, waiting: int) -> None:
    for _ in range(waiting):
        replica.add(target_s=600.0, expire_after_s=10.0)
    replica.steps(100)
    replica.now_s += 10.0
    replica.steps()


def late_arrivals(replica: Replica, waiting: int) -> None:
    """The jobs of a log that nobody read for a while: their deadlines have passed, at all times."""
    now_s, replica.now_s = replica.now_s + 3_600.0, replica.now_s
    for index in range(waiting):
        replica.now_s = index * 3_500.0 / waiting
        replica.add(target_s=6.0, tbt_s=0.05)
    replica.now_s = now_s
    replica.steps()


def arrivals(replica: Replica, waiting: int) -> None:
    """All at once, between two plans; they cannot all be met."""
    replica.steps(100)
    for _ in range(waiting):
        replica.add(target_s=30.0, tbt_s=0.05)
    replica.steps()


def cancellations(replica: Replica, waiting: int) -> None:
    """Everything that waits is cancelled between two plans, four times."""
    for _ in range(4):
        names = [replica.add() for _ in range(waiting)]
        replica.steps(_PLANS // 8)
        for name in names:
            replica.policy.abort(name)
        replica.steps(_PLANS // 8)


def light_requests(replica: Replica, waiting: int) -> None:
    """They come and go for a long time; then there is more work than can be done."""
    for _ in range(waiting // 100):
        for _ in range(500):
            replica.policy.abort(replica.add(prompt_tokens=5, target_s=600.0))
        replica.step()
    for _ in range(200):
        replica.add(target_s=20.0, tbt_s=0.05, prompt_tokens=20_000)
    replica.steps()


def late_decodes(replica: Replica, waiting: int) -> None:
    """Every iteration takes longer than every gap allows."""
    for _ in range(waiting):
        replica.add()
    for _ in range(_PLANS):
        replica.add()
        replica.step(late_s=1.0)


SCENARIOS: tuple[Callable[[Replica, int], None], ...] = (
    one_by_one,
    tiny_prompts,
    shared_deadline,
    shared_expiry,
    late_arrivals,
    arrivals,
    cancellations,
    light_requests,
    late_decodes,
)


def bytes_per_waiting(waiting: int = 20_000) -> float:
    replica = Replica(running=1)
    tracemalloc.start()
    for _ in range(waiting):
        replica.add()
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return used / waiting


def _quantile(values: list[float], share: float) -> float:
    return sorted(values)[int(share * (len(values) - 1))]


def main() -> None:
    wanted = sys.argv[1:]
    print(f"{'waiting':>7}  {'scenario':15}  plan p50   p99.9     max  observe p50     max  (ms)")
    for waiting in SIZES:
        for scenario in SCENARIOS:
            if wanted and scenario.__name__ not in wanted:
                continue
            gc.collect()
            gc.disable()
            replica = Replica()
            scenario(replica, waiting)
            plan_ms, observe_ms = replica.cost
            print(
                f"{waiting:7}  {scenario.__name__:15}  {_quantile(plan_ms, 0.5):8.3f}"
                f" {_quantile(plan_ms, 0.999):7.3f} {max(plan_ms):7.3f}"
                f"  {_quantile(observe_ms, 0.5):11.3f} {max(observe_ms):7.3f}",
                flush=True,
            )
    print(f"{bytes_per_waiting():.0f} bytes per waiting request")


if __name__ == "__main__":
    main()
