"""What every rank of one scheduler must know alike, taken from the first of them.

Each rank runs its own loop. A plan that depends on a clock or a measurement of its own would differ
from the others', and the collectives of the forward pass would wait for each other for ever.
"""

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from sglang.srt.distributed.communication_op import attn_cp_tp_broadcast_pyobj
from sglang.srt.runtime_context import get_parallel

T = TypeVar("T")


def is_first_rank() -> bool:
    parallel = get_parallel()
    return bool(parallel.attn_tp_rank == 0 and parallel.attn_cp_rank == 0)


def from_first_rank(make: Callable[[], T]) -> T:
    """What `make` returns on the first rank; every rank must call this at the same point."""
    value = [make()] if is_first_rank() else [None]
    shared: T = attn_cp_tp_broadcast_pyobj(value)[0]
    return shared


class SharedClock:
    """UTC epoch seconds that never step back. Every rank must ask at the same points."""

    def __init__(self) -> None:
        self._epoch_s = time.time() - time.monotonic()

    def own_s(self) -> float:
        """This rank's own clock, for measurements."""
        return self._epoch_s + time.monotonic()

    def now_s(self) -> float:
        return self.share(())[0]

    def share(self, durations_s: Sequence[float]) -> tuple[float, list[float]]:
        """The first rank's time, and what it has measured."""
        now_s, *measured_s = attn_cp_tp_broadcast_pyobj([self.own_s(), *durations_s])
        return now_s, measured_s
