"""What every rank of one scheduler must know alike, taken from the first of them.

Each rank runs its own loop. If plans depended on each rank's own clock or measurements they would
differ, and the collectives of the forward pass would wait for each other forever.
"""

import time
from collections.abc import Callable, Sequence
from typing import ParamSpec, TypeVar

from sglang.srt.distributed.communication_op import attn_cp_tp_broadcast_pyobj
from sglang.srt.runtime_context import get_parallel
from sglang.srt.utils.rank_consensus_checker import rank_consensus

from workers.runtime.scheduler.wall_clock import Instant, WallClock

P = ParamSpec("P")
T = TypeVar("T")


def is_first_rank() -> bool:
    parallel = get_parallel()
    return bool(parallel.attn_tp_rank == 0 and parallel.attn_cp_rank == 0)


def from_first_rank(make: Callable[[], T]) -> T:
    """What `make` returns on the first rank; every rank must call this at the same point."""
    value = [make()] if is_first_rank() else [None]
    shared: T = attn_cp_tp_broadcast_pyobj(value)[0]
    return shared


def same_on_every_rank(function: Callable[P, T]) -> Callable[P, T]:
    """`function`, whose arguments and results SGLang's own checker compares where it is on."""
    checked: Callable[P, T] = rank_consensus(same_params=True, same_results=True)(function)
    return checked


class SharedClock:
    """The first rank's wall clock. Every rank must ask at the same points."""

    def __init__(self) -> None:
        self._clock = WallClock()

    def own_s(self) -> float:
        """This rank's own monotonic time, for measurements."""
        return time.monotonic()

    def share(self, durations_s: Sequence[float]) -> tuple[Instant, list[float]]:
        """The first rank's time, and what it has measured."""
        epoch_s, monotonic_s, *measured_s = attn_cp_tp_broadcast_pyobj(
            [*self._clock.now(), *durations_s]
        )
        return Instant(epoch_s, monotonic_s), measured_s
