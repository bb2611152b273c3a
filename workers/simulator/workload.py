"""Requests of a simulated run: lengths, arrival times and tiers."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self, assert_never

from workers.policy.qos import Importance, Kind, Owner, RequestQos
from workers.policy.request import Request


@dataclass(frozen=True, slots=True)
class Tier:
    """One class of service. Durations in seconds."""

    name: str
    kind: Kind
    target_s: float
    """Interactive: the TTFT. Batch: the TTLT."""
    tbt_s: float = math.inf
    """Interactive: the longest gap allowed between two tokens."""

    @classmethod
    def interactive(cls, name: str, *, ttft_s: float, tbt_s: float) -> Self:
        return cls(name, Kind.INTERACTIVE, ttft_s, tbt_s)

    @classmethod
    def batch(cls, name: str, *, ttlt_s: float) -> Self:
        return cls(name, Kind.BATCH, ttlt_s)

    def qos(self, arrival_s: float, importance: Importance = "high") -> RequestQos:
        """The QoS of a request that arrives at `arrival_s`; its answer is like its tier's."""
        owner: Owner = {"importance": importance, "application": self.name}
        target_s = self.target_s
        match self.kind:
            case Kind.INTERACTIVE:
                return RequestQos.interactive(arrival_s, ttft_s=target_s, tbt_s=self.tbt_s, **owner)
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


@dataclass(frozen=True, slots=True)
class SimRequest:
    """A request and what only the simulator knows: how long the answer will be."""

    request: Request
    output_tokens: int
    tier: int
    blocks: tuple[int, ...] = ()
    """See `Lengths`."""


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
    in_order: bool = False,
) -> list[SimRequest]:
    """One request per arrival time.

    Lengths are drawn at random with replacement, or taken `in_order` (arrival times that belong
    to the lengths). `low_importance` is the share of requests that may be relegated first.
    """
    requests = []
    for index, time_s in enumerate(times_s):
        size = lengths[index % len(lengths)] if in_order else rng.choice(lengths)
        tier = rng.randrange(len(tiers))
        importance: Importance = "high" if rng.random() >= low_importance else "low"
        requests.append(
            SimRequest(
                Request(
                    request_id=f"{index:07d}",
                    qos=tiers[tier].qos(time_s, importance),
                    prompt_tokens=size.prompt_tokens,
                ),
                size.output_tokens,
                tier,
                size.blocks,
            )
        )
    return requests
