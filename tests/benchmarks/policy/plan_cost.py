"""What planning costs, and how it grows: `python -m tests.benchmarks.policy.plan_cost [SCENARIO…]`.

CPU time of every plan, and of what is reported to the policy between two of them, of a replica on
which a number of requests wait and 64 decode: as they come one by one, and in bursts that ask for
many decisions at the same time. `adapter` rows are the whole of what Niyama does in SGLang to make
a batch, reports, refits of the latency model and the plan included, on a stand-in for SGLang whose
own part of it is left out. Python's garbage collector is off: its pauses depend on what else a
process holds. The last line has the memory of a waiting request.
"""

import argparse
import gc
import random
import time
import tracemalloc
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import NamedTuple, Unpack

from tests.support.requests import either
from tests.support.sglang import FakeEngine, FakeRequest, FakeSamplingParams
from workers.latency.profiles import A100_LLAMA3_8B
from workers.policy.custom_params import to_custom_params
from workers.policy.plan import IterationResult
from workers.policy.policy import NiyamaPolicy
from workers.policy.qos import Owner
from workers.policy.request import Request
from workers.policy.settings import Settings, TokenTiming
from workers.runtime.scheduler.batch_maker import Build
from workers.runtime.scheduler.seams import Batch, NextBatch

SIZES = (200, 2_000, 20_000)
_RUNNING = 64
_PLANS = 1_500
_FREE_KV_TOKENS = 10_000_000
_TARGETS = ((6.0, 0.05), (600.0, None), (1_800.0, None), (86_400.0, None))


class Cost(NamedTuple):
    """Milliseconds: of plans, and of observing what became of each."""

    plan_ms: list[float]
    observe_ms: list[float]


class Replica(ABC):
    """Something that plans, with requests that decode."""

    most_plans = _PLANS

    def __init__(self) -> None:
        self.cost = Cost([], [])
        self._rng = random.Random(7)
        self._added = 0
        for index in range(_RUNNING):
            self.add(target_s=600.0, tbt_s=0.05 if index % 2 else None, prompt_tokens=200)
        while self.decodes < _RUNNING:
            self.step()
        self.cost = Cost([], [])

    @property
    @abstractmethod
    def decodes(self) -> int: ...

    @property
    @abstractmethod
    def now_s(self) -> float: ...

    @abstractmethod
    def wait_until(self, now_s: float) -> None: ...

    @abstractmethod
    def arrive(self, request: Request) -> None: ...

    @abstractmethod
    def abort(self, name: str) -> None: ...

    @abstractmethod
    def step(self, late_s: float = 0.0) -> None:
        """Plan an iteration, which takes `late_s` longer than predicted, and carry it out."""

    def add(
        self,
        *,
        target_s: float | None = None,
        tbt_s: float | None = None,
        prompt_tokens: int | None = None,
        age_s: float = 0.0,
        **owner: Unpack[Owner],
    ) -> str:
        """A request, like any other where nothing is said, arrives; returns its id."""
        if target_s is None:
            target_s, tbt_s = self._rng.choice(_TARGETS)
        name = f"r{self._added:07d}"
        self._added += 1
        request = either(
            name,
            prompt_tokens or int(self._rng.lognormvariate(7.2, 1.0)) + 1,
            arrival_s=self.now_s - age_s,
            target_s=target_s,
            tbt_s=tbt_s,
            **owner,
        )
        self.arrive(request)
        return name

    def steps(self, plans: int = _PLANS) -> None:
        """One request arrives before each plan."""
        for _ in range(min(plans, self.most_plans)):
            self.add()
            self.step()


class Policy(Replica):
    """The policy alone, whose plans are carried out exactly."""

    def __init__(self) -> None:
        self._policy = NiyamaPolicy(A100_LLAMA3_8B.latency)
        self._now_s = 0.0
        super().__init__()

    @property
    def decodes(self) -> int:
        return self._policy.decodes

    @property
    def now_s(self) -> float:
        return self._now_s

    def wait_until(self, now_s: float) -> None:
        self._now_s = now_s

    def arrive(self, request: Request) -> None:
        self._policy.add(request, self._now_s)

    def abort(self, name: str) -> None:
        self._policy.abort(name)

    def step(self, late_s: float = 0.0) -> None:
        before = time.thread_time()
        plan = self._policy.plan(self._now_s, _FREE_KV_TOKENS)
        planned = time.thread_time()
        duration_s = plan.predicted_s + late_s
        self._now_s += duration_s
        self._policy.observe(IterationResult(self._now_s, duration_s, plan.chunks))
        self.cost.plan_ms.append(1000 * (planned - before))
        self.cost.observe_ms.append(1000 * (time.thread_time() - planned))


class Adapter(Replica):
    """The adapter and the policy, with a stand-in for SGLang, which takes longer than they do."""

    most_plans = 400

    def __init__(self) -> None:
        settings = Settings(token_timing=TokenTiming.GAPS)
        self._engine = FakeEngine(A100_LLAMA3_8B.latency, settings, kv_tokens=_FREE_KV_TOKENS)
        self._next = self._engine.niyama.batches.next
        self._building_ms = 0.0
        self._engine.niyama.batches.next = self._timed_next  # type: ignore[method-assign]
        super().__init__()

    @property
    def decodes(self) -> int:
        return len(self._engine.running.reqs)

    @property
    def now_s(self) -> float:
        return self._engine.clock.now_s

    def wait_until(self, now_s: float) -> None:
        self._engine.clock.now_s = now_s

    def arrive(self, request: Request) -> None:
        params = to_custom_params(request.qos)
        req = FakeRequest(
            request.request_id, [0] * request.prompt_tokens, FakeSamplingParams(params, 100_000)
        )
        self._engine.arrive(req)

    def abort(self, name: str) -> None:
        self._engine.abort(name)

    def step(self, late_s: float = 0.0) -> None:
        self._engine.step_s = 0.05 + late_s
        self._engine.step()

    def _timed_next(self, running: Batch, build: Build) -> NextBatch:
        def timed_build(running: Batch) -> NextBatch:
            before = time.thread_time()
            batch = build(running)
            self._building_ms += 1000 * (time.thread_time() - before)
            return batch

        self._building_ms, before = 0.0, time.thread_time()
        batch = self._next(running, timed_build)
        self.cost.plan_ms.append(1000 * (time.thread_time() - before) - self._building_ms)
        return batch


def one_by_one(replica: Replica, waiting: int) -> None:
    for _ in range(waiting):
        replica.add()
    replica.steps()


def many_ranks(replica: Replica, waiting: int) -> None:
    """Forty tenants, two importances, and prompts over ten octaves."""
    rng = random.Random(11)
    for _ in range(waiting):
        replica.add(
            prompt_tokens=int(2 ** rng.uniform(6, 16)),
            importance="high" if rng.random() < 0.5 else "low",
            tenant=f"t{rng.randrange(40)}",
        )
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
    replica.wait_until(replica.now_s + 30.0)
    replica.steps()


def shared_expiry(replica: Replica, waiting: int) -> None:
    for _ in range(waiting):
        replica.add(target_s=600.0, expire_after_s=10.0)
    replica.steps(100)
    replica.wait_until(replica.now_s + 10.0)
    replica.steps()


def late_arrivals(replica: Replica, waiting: int) -> None:
    """The jobs of a log that nobody read for a while: their deadlines have passed, at all times."""
    for index in range(waiting):
        replica.add(target_s=6.0, tbt_s=0.05, age_s=10.0 + 3_600.0 * index / waiting)
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
            replica.abort(name)
        replica.steps(_PLANS // 8)


def light_requests(replica: Replica, waiting: int) -> None:
    """They come and go for a long time; then there is more work than can be done."""
    for _ in range(waiting // 100):
        for _ in range(500):
            replica.abort(replica.add(prompt_tokens=5, target_s=600.0))
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
    many_ranks,
    tiny_prompts,
    shared_deadline,
    shared_expiry,
    late_arrivals,
    arrivals,
    cancellations,
    light_requests,
    late_decodes,
)


_POLICY_ONLY = (cancellations, light_requests)
"""The stand-in for SGLang looks through its queue for each request that is aborted."""


def bytes_per_waiting(waiting: int = 20_000) -> float:
    replica = Policy()
    tracemalloc.start()
    for _ in range(waiting):
        replica.add()
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return used / waiting


def _row(kind: type[Replica], scenario: Callable[[Replica, int], None], waiting: int) -> str:
    gc.collect()
    gc.disable()
    replica = kind()
    scenario(replica, waiting)
    plan_ms, observe_ms = replica.cost
    row = (
        f"{waiting:7}  {kind.__name__.lower():7}  {scenario.__name__:15}"
        f"  {_quantile(plan_ms, 0.5):8.3f} {_quantile(plan_ms, 0.999):7.3f} {max(plan_ms):7.3f}"
    )
    if observe_ms:
        row += f"  {_quantile(observe_ms, 0.5):11.3f} {max(observe_ms):7.3f}"
    return row


def _quantile(values: list[float], share: float) -> float:
    return sorted(values)[int(share * (len(values) - 1))]


def _chosen(arguments: Sequence[str] | None) -> Sequence[str]:
    """The names of the scenarios to run."""
    names = [scenario.__name__ for scenario in SCENARIOS]
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("scenario", nargs="*", help=f"{', '.join(names)} (default: all)")
    chosen: list[str] = parser.parse_args(arguments).scenario
    if unknown := [name for name in chosen if name not in names]:
        parser.error(f"unknown: {', '.join(unknown)}; choose from {', '.join(names)}")
    return chosen or names


def main(arguments: Sequence[str] | None = None) -> None:
    names = _chosen(arguments)
    print(f"{'waiting':>7}  {'':7}  {'':15}  plan p50   p99.9     max  observe p50     max  (ms)")
    for kind in (Policy, Adapter):
        for waiting in SIZES:
            for scenario in SCENARIOS:
                if scenario.__name__ in names and (kind is Policy or scenario not in _POLICY_ONLY):
                    print(_row(kind, scenario, waiting), flush=True)
    print(f"{bytes_per_waiting():.0f} bytes per waiting request")


if __name__ == "__main__":
    main()
