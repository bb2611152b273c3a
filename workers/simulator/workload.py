"""Requests of a simulated run: lengths, arrival times and tiers."""

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import NamedTuple, Self, assert_never

from workers.policy.prefixes import key_positions
from workers.policy.qos import Importance, Kind, Owner, RequestQos, Task
from workers.policy.request import PrefixKey, Request


@dataclass(frozen=True, slots=True)
class Tier:
    """One class of service. Durations in seconds."""

    name: str
    kind: Kind
    target_s: float
    """Interactive: the TTFT. Deadline and batch: the TTLT. Task: the time for all of its calls."""
    tbt_s: float = math.inf
    """Interactive: the longest gap allowed between two tokens."""
    calls: float = 1.0
    """Task: how many calls, on average; from 1 to less than twice as many, each number alike."""
    think_s: float = 0.0
    """Task: time between an answer and the next call, on average (exponential)."""
    says_calls_left: bool = False
    """Task: each call says how many are to follow."""

    @classmethod
    def interactive(cls, name: str, *, ttft_s: float, tbt_s: float) -> Self:
        return cls(name, Kind.INTERACTIVE, ttft_s, tbt_s)

    @classmethod
    def deadline(cls, name: str, *, ttlt_s: float) -> Self:
        return cls(name, Kind.DEADLINE, ttlt_s)

    @classmethod
    def task(
        cls,
        name: str,
        *,
        ttlt_s: float,
        calls: float,
        think_s: float = 0.0,
        says_calls_left: bool = False,
    ) -> Self:
        return cls(name, Kind.TASK, ttlt_s, math.inf, calls, think_s, says_calls_left)

    @classmethod
    def batch(cls, name: str, *, ttlt_s: float) -> Self:
        return cls(name, Kind.BATCH, ttlt_s)

    def qos(
        self,
        arrival_s: float,
        importance: Importance = "high",
        *,
        tenant: str = "",
        task: Task | None = None,
        deadline_s: float = math.inf,
    ) -> RequestQos:
        """The QoS of a request that arrives at `arrival_s`; its answer is like its tier's.

        A call of a `task` has that task's `deadline_s`.
        """
        owner: Owner = {
            "importance": importance,
            "tenant": tenant,
            "application": self.name,
        }
        target_s = self.target_s
        match self.kind:
            case Kind.INTERACTIVE:
                return RequestQos.interactive(arrival_s, ttft_s=target_s, tbt_s=self.tbt_s, **owner)
            case Kind.DEADLINE:
                return RequestQos.deadline(arrival_s, ttlt_s=target_s, **owner)
            case Kind.TASK:
                if task is None:
                    task, deadline_s = Task(""), arrival_s + target_s
                return RequestQos.call(arrival_s, task=task, deadline_s=deadline_s, **owner)
            case Kind.BATCH:
                return RequestQos.batch(arrival_s, ttlt_s=target_s, **owner)
            case _:
                assert_never(self.kind)


PAPER_TIERS = (
    Tier.interactive("Q1", ttft_s=6.0, tbt_s=0.05),
    Tier.batch("Q2", ttlt_s=600.0),
    Tier.batch("Q3", ttlt_s=1800.0),
)
"""The evaluation of arXiv 2503.22562: one third of the requests each."""


@dataclass(frozen=True, slots=True)
class Lengths:
    prompt_tokens: int
    output_tokens: int
    blocks: tuple[int, ...] = ()
    """Whole blocks of `BLOCK_TOKENS` of the prompt but for its last token, in order. One is equal
    to another's where the text of both, up to its end, is."""


BLOCK_TOKENS = 512
"""Mooncake's traces have blocks of this size, and so has the simulated prefix cache."""
_MOST_BLOCKS = 1 << 20
"""More than a prompt has."""
_RESULT_TOKENS = 256


class SimCall(NamedTuple):
    """A call of a task: its whole prompt, and the time from the answer before it."""

    size: Lengths
    think_s: float = 0.0


@dataclass(frozen=True, slots=True)
class SimTask:
    """Calls, each of which arrives when the one before it was answered and thought about."""

    name: str
    arrival_s: float
    """Of its first call."""
    deadline_s: float
    """When its last call has to be answered."""
    tier: Tier
    importance: Importance
    calls: tuple[SimCall, ...]
    tenant: str = ""

    def qos(self, call: int, arrival_s: float) -> RequestQos:
        """The QoS of one of its calls, the first of which is 0."""
        left = len(self.calls) - call - 1 if self.tier.says_calls_left else None
        return self.tier.qos(
            arrival_s,
            self.importance,
            tenant=self.tenant,
            task=Task(self.name, call + 1, left),
            deadline_s=self.deadline_s,
        )


def prefix_keys(size: Lengths) -> tuple[PrefixKey, ...]:
    """What a policy is told of the blocks of a prompt."""
    positions = key_positions(size.prompt_tokens, BLOCK_TOKENS)
    whole = takewhile(lambda tokens: tokens // BLOCK_TOKENS <= len(size.blocks), positions)
    return tuple(PrefixKey(tokens, size.blocks[tokens // BLOCK_TOKENS - 1]) for tokens in whole)


@dataclass(frozen=True, slots=True)
class SimRequest:
    """A request and what only the simulator knows: how long the answer will be."""

    request: Request
    output_tokens: int
    tier: int
    blocks: tuple[int, ...] = ()
    """See `Lengths`."""
    task: SimTask | None = None
    """What it is a call of."""
    call: int = 0
    """Which of its calls, from 0."""

    @property
    def arrival_s(self) -> float:
        """When the request arrived, or the first call of its task."""
        return self.request.qos.arrival_s if self.task is None else self.task.arrival_s

    @property
    def calls_left(self) -> int:
        """Calls of its task that follow."""
        return 0 if self.task is None else len(self.task.calls) - self.call - 1

    @property
    def tokens(self) -> int:
        """Tokens of its answer, and of those to the calls before it."""
        if self.task is None:
            return self.output_tokens
        return sum(each.size.output_tokens for each in self.task.calls[: self.call + 1])

    def next_call(self, answered_s: float) -> "SimRequest | None":
        """The call that follows an answer at `answered_s`; None after the last one."""
        if self.task is None or not self.calls_left:
            return None
        call = self.call + 1
        size, think_s = self.task.calls[call]
        request = Request(
            f"{self.task.name}.{call}",
            self.task.qos(call, answered_s + think_s),
            size.prompt_tokens,
            prefix_keys=prefix_keys(size),
        )
        return replace(
            self,
            request=request,
            output_tokens=size.output_tokens,
            blocks=size.blocks,
            call=call,
        )


def square_wave_times(
    low: float, high: float, half_period_s: float, duration_s: float, rng: random.Random
) -> list[float]:
    """Arrival times of a Poisson process that alternates between two rates, low first."""
    times, now_s = [], 0.0
    while now_s < duration_s:
        phase = int(now_s / half_period_s)
        rate = high if phase % 2 else low
        now_s += rng.expovariate(rate)
        if now_s >= (phase + 1) * half_period_s:  # memoryless: start again at the border
            now_s = (phase + 1) * half_period_s
            continue
        times.append(now_s)
    return [time_s for time_s in times if time_s < duration_s]


def poisson_times(rate: float, duration_s: float, rng: random.Random) -> list[float]:
    times, now_s = [], 0.0
    while (now_s := now_s + rng.expovariate(1.0) / rate) < duration_s:
        times.append(now_s)
    return times


def make_requests(
    times_s: Sequence[float],
    lengths: Sequence[Lengths],
    tiers: Sequence[Tier],
    *,
    rng: random.Random,
    low_importance: float = 0.0,
    tenants: Sequence[tuple[str, float]] = (),
    in_order: bool = False,
) -> list[SimRequest]:
    """One request per arrival time; of a task, its first call.

    Lengths are drawn at random with replacement, or taken `in_order` (arrival times that belong
    to the lengths). `low_importance` is the share of requests that may be relegated first.
    `tenants` are names and how many requests each has beside the others.
    """
    requests = []
    owners = _draw_tenants(tenants, random.Random(len(times_s)))
    for index, time_s in enumerate(times_s):
        size = lengths[index % len(lengths)] if in_order else rng.choice(lengths)
        tier = rng.randrange(len(tiers))
        importance: Importance = "high" if rng.random() >= low_importance else "low"
        name, tenant = f"{index:07d}", next(owners)
        task = None
        if tiers[tier].kind is Kind.TASK:
            calls = tuple(task_calls(size, tiers[tier], rng, index))
            deadline_s = time_s + tiers[tier].target_s
            task = SimTask(name, time_s, deadline_s, tiers[tier], importance, calls, tenant)
            size = calls[0].size
        if task is not None:
            qos = task.qos(0, time_s)
        else:
            qos = tiers[tier].qos(time_s, importance, tenant=tenant)
        request = Request(name, qos, size.prompt_tokens, prefix_keys=prefix_keys(size))
        requests.append(SimRequest(request, size.output_tokens, tier, size.blocks, task))
    return requests


def _draw_tenants(tenants: Sequence[tuple[str, float]], rng: random.Random) -> Iterator[str]:
    """Of a stream of its own, so that other draws are the same with and without tenants."""
    names, shares = [name for name, _ in tenants], [share for _, share in tenants]
    while True:
        yield rng.choices(names, shares)[0] if tenants else ""


def task_calls(first: Lengths, tier: Tier, rng: random.Random, index: int) -> Iterator[SimCall]:
    """The calls of one task; each prompt is the one before it, its answer and a tool's result.

    Answers are as long as the first one, more or less; results 256 tokens on average
    (exponential). Prompts of one task begin alike, and, but for blocks of the trace, like no
    others: `index` tells tasks apart.
    """
    size, own = first, -(index + 1) * _MOST_BLOCKS
    yield SimCall(_with_blocks(size, own))
    for _ in range(rng.randint(1, max(1, round(2 * tier.calls - 1))) - 1):
        result_tokens = 1 + int(rng.expovariate(1 / _RESULT_TOKENS))
        size = Lengths(
            size.prompt_tokens + size.output_tokens + result_tokens,
            max(1, int(first.output_tokens * rng.uniform(0.5, 1.5))),
            first.blocks,
        )
        think_s = rng.expovariate(1 / tier.think_s) if tier.think_s else 0.0
        yield SimCall(_with_blocks(size, own), think_s)


def _with_blocks(size: Lengths, own: int) -> Lengths:
    """All blocks of a prompt: those that it has from the trace, and then the task's own."""
    whole = (size.prompt_tokens - 1) // BLOCK_TOKENS
    return replace(size, blocks=(*size.blocks, *range(own + len(size.blocks), own + whole)))
