"""When each hostile record comes."""

import random
from collections.abc import Collection, Iterator
from dataclasses import dataclass

MEAN_GAP_S = 1.5


@dataclass(frozen=True, slots=True)
class PlannedRecord:
    at_s: float
    """From the start of the load."""
    kind: str
    salt: str
    """Seeds the record's own choices."""


def plan_records(seed: int, duration_s: float, kinds: Collection[str]) -> list[PlannedRecord]:
    """One record every MEAN_GAP_S or so; the same for the same arguments."""
    return list(_planned(random.Random(f"{seed}/hostile"), seed, duration_s, sorted(kinds)))


def _planned(
    choose: random.Random, seed: int, duration_s: float, kinds: list[str]
) -> Iterator[PlannedRecord]:
    at_s = choose.expovariate(1 / MEAN_GAP_S)
    while kinds and at_s < duration_s:
        yield PlannedRecord(at_s, choose.choice(kinds), f"{seed}/{at_s}")
        at_s += choose.expovariate(1 / MEAN_GAP_S)
