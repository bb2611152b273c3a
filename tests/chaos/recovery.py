"""How long after a fault chats are served as fast as before. Pure: no I/O, no clock."""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from tests.chaos.faults import InjectedFault

IN_A_ROW = 8
"""So many chats have to be fast: the partitions of a dead worker are not hit by each."""
SLOWER = 1.3
"""An event loop that shares its processor sleeps somewhat longer than it was asked to."""
MIN_NORMAL_OVERHEAD_S = 0.5


@dataclass(frozen=True, slots=True)
class ServedChat:
    """A chat, in UTC epoch seconds."""

    asked_at_s: float
    finished_at_s: float
    """Infinite when it never ended well."""
    service_s: float
    """What its generation takes by itself."""

    @property
    def overhead_s(self) -> float:
        """What it took beyond its generation."""
        return self.finished_at_s - self.asked_at_s - SLOWER * self.service_s


@dataclass(frozen=True, slots=True)
class Recovery:
    """Of one kind of fault, in seconds from its end."""

    kind: str
    median_s: float
    max_s: float
    measured: int
    overtaken: int
    """Times that the next fault, or the end, came before chats were fast again; not counted."""


def normal_overhead_s(chats: Sequence[ServedChat], until_s: float) -> float:
    """Twice the worst overhead of the chats that were asked before `until_s`, without faults."""
    calm = [each.overhead_s for each in chats if each.asked_at_s < until_s]
    return max([MIN_NORMAL_OVERHEAD_S, *(2 * each for each in calm if math.isfinite(each))])


def recoveries(
    faults: Sequence[InjectedFault], chats: Sequence[ServedChat], normal_s: float
) -> list[Recovery]:
    """For each kind of fault, the time until IN_A_ROW chats took at most `normal_s` longer."""
    ordered = sorted(chats, key=lambda each: each.asked_at_s)
    happened = [fault for fault in faults if not fault.skipped]
    measured: defaultdict[str, list[float]] = defaultdict(list)
    overtaken: defaultdict[str, int] = defaultdict(int)
    for fault in happened:
        again_s = _fast_again_s(ordered, fault.ended_at_s, normal_s)
        others = [other for other in happened if other is not fault]
        if math.isinf(again_s) or any(
            other.started_at_s <= again_s and other.ended_at_s >= fault.started_at_s
            for other in others
        ):
            overtaken[fault.kind] += 1
        else:
            measured[fault.kind].append(again_s - fault.ended_at_s)
    kinds = sorted(measured.keys() | overtaken.keys())
    return [_summary(kind, sorted(measured[kind]), overtaken[kind]) for kind in kinds]


def _fast_again_s(ordered: Sequence[ServedChat], since_s: float, normal_s: float) -> float:
    """When the first of IN_A_ROW fast chats was asked; infinite when there are none."""
    run: list[ServedChat] = []
    for chat in ordered:
        if chat.asked_at_s < since_s:
            continue
        run = [*run, chat] if chat.overhead_s <= normal_s else []
        if len(run) == IN_A_ROW:
            break
    return run[0].asked_at_s if len(run) == IN_A_ROW else math.inf


def _summary(kind: str, times_s: list[float], overtaken: int) -> Recovery:
    if not times_s:
        return Recovery(kind, math.nan, math.nan, 0, overtaken)
    return Recovery(kind, times_s[len(times_s) // 2], times_s[-1], len(times_s), overtaken)
