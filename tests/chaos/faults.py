"""Faults from outside: what there is, and when each one comes."""

import random
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from tests.chaos.stack import GATEWAYS

WARM_UP_S = 10.0
"""Without faults, to learn what normal latency is."""
CALM_END_S = 10.0
QUIET_S = 15.0
QUIET_SHARE = 0.15
"""After so many of the faults comes a pause of QUIET_S, in which recovery can be measured."""


@dataclass(frozen=True, slots=True)
class FaultKind:
    """A way to break something."""

    name: str
    part: str
    """What it hits: worker, gateway, kafka or postgres."""
    weight: int
    """How often it comes, against the others."""
    duration_s: tuple[float, float] = (0.0, 0.0)
    """Least and most."""
    engine: str | None = None
    """Only with this engine."""


KINDS = {
    kind.name: kind
    for kind in (
        FaultKind("worker-kill", "worker", 4),
        FaultKind("worker-term", "worker", 2),
        FaultKind("worker-freeze-short", "worker", 2, (0.5, 4)),
        FaultKind("worker-freeze-long", "worker", 2, (8, 14)),  # the session ends meanwhile
        FaultKind("gateway-kill", "gateway", 3),
        FaultKind("gateway-term", "gateway", 1),
        FaultKind("gateway-freeze-short", "gateway", 2, (0.5, 4)),
        FaultKind("gateway-freeze-long", "gateway", 1, (12, 16)),  # and so does its lease
        FaultKind("kafka-kill", "kafka", 1),
        FaultKind("kafka-freeze", "kafka", 1, (1, 12)),
        FaultKind("postgres-kill", "postgres", 2),
        FaultKind("postgres-freeze", "postgres", 2, (1, 12)),
        FaultKind("postgres-read-only", "postgres", 1, (2, 8)),
        FaultKind("rebalance-storm", "worker", 1, (8, 12)),
        FaultKind("disk-full", "postgres", 1, (2, 6)),
        FaultKind("delete-reply-topic", "kafka", 1, (3, 10)),
        FaultKind("delete-tokens-topic", "kafka", 1, (3, 10)),
        FaultKind("engine-kill", "worker", 3, engine="sglang"),
        FaultKind("engine-freeze", "worker", 2, (5, 20), "sglang"),  # some beyond the hang limit
    )
}


def kinds_for(engine: str) -> list[str]:
    return [kind.name for kind in KINDS.values() if kind.engine in (None, engine)]


@dataclass(frozen=True, slots=True)
class PlannedFault:
    at_s: float
    """From the start of the load."""
    kind: str
    target: str
    duration_s: float
    choice: float
    """In [0, 1): which of several, where the target has several."""


@dataclass(frozen=True, slots=True)
class InjectedFault:
    """A fault as it happened, in UTC epoch seconds."""

    kind: str
    target: str
    started_at_s: float
    ended_at_s: float
    skipped: str = ""
    """Why it did not happen, if it did not."""


def plan_faults(
    seed: int,
    duration_s: float,
    kinds: Collection[str],
    workers: Collection[str],
    mean_gap_s: float,
) -> list[PlannedFault]:
    """Faults over `duration_s`, one every `mean_gap_s`, with some pauses between them.

    They may overlap, and end before the load does. The same arguments give the same faults.
    """
    choose = random.Random(f"{seed}/faults")
    drawn = [KINDS[name] for name in KINDS if name in kinds]  # in one order, however named
    return list(_planned(choose, drawn, duration_s, sorted(workers), mean_gap_s))


def _planned(
    choose: random.Random,
    kinds: list[FaultKind],
    duration_s: float,
    workers: list[str],
    mean_gap_s: float,
) -> Iterator[PlannedFault]:
    at_s = WARM_UP_S
    while kinds:
        at_s += choose.uniform(0.3, 1.7) * mean_gap_s
        kind = choose.choices(kinds, [each.weight for each in kinds])[0]
        lasts_s = choose.uniform(*kind.duration_s)
        target = choose.choice(_targets(kind, workers))
        choice = choose.random()
        quiet_s = lasts_s + QUIET_S if choose.random() < QUIET_SHARE else 0.0
        if at_s > duration_s - CALM_END_S:
            return
        if at_s + lasts_s <= duration_s:
            yield PlannedFault(at_s, kind.name, target, lasts_s, choice)
            at_s += quiet_s


def _targets(kind: FaultKind, workers: list[str]) -> list[str]:
    if kind.name == "rebalance-storm":
        return ["worker-extra"]
    return {"worker": workers, "gateway": list(GATEWAYS)}.get(kind.part, [kind.part])
