"""How much one plan does, however much there is to do."""

import sys
from dataclasses import dataclass
from typing import Self

ANY_PROMPTS = sys.maxsize
"""The engine takes as many prompts as there is KV for."""


@dataclass(frozen=True, slots=True)
class PlanLimits:
    """What is left over is done by the plans that follow; nothing is forgotten, or done twice.

    The defaults bound the time of a plan; `tests/benchmarks/policy/plan_cost.py` measures it.
    """

    chunks: int = 20
    """Prompts in one iteration."""
    decisions: int = 5
    """Requests that expire, that are found to be too late, and that the cutoff relegates: of each
    as many."""
    set_aside: int = 50
    """Waiting requests that are passed over because they have expired or are too late."""
    blocked: int = 8
    """Prompts that find no memory while those behind them are considered."""
    siblings: int = 16
    """Prompts that wait for what another computes while those behind them are considered."""
    sums: int = 1_000
    """Sums of the look-ahead that are changed or compared to find the cutoff."""
    in_progress: int = 64
    """Prompts in progress; beyond that, none is parked for another."""

    def further_expiries(self, chunks: int) -> int:
        """Beyond `decisions`, in a plan of so few prompts: one for three that are not in it."""
        return max(0, self.chunks - chunks) // 3

    @classmethod
    def none(cls) -> Self:
        """A plan does everything that is due."""
        return cls(*[sys.maxsize] * 7)
