"""What a replica asks of a scheduler, beside its plans."""

from dataclasses import dataclass
from typing import Protocol

from workers.latency.fit import Sample
from workers.latency.model import LatencyModel
from workers.policy.plan import IterationPlan, Policy


@dataclass(frozen=True, slots=True)
class PausingPlan(IterationPlan):
    """A plan of a scheduler that leaves decodes out of iterations."""

    paused: frozenset[str] = frozenset()
    """Decodes that keep their KV and get no token; all others do."""


class Planner(Policy, Protocol):
    """A policy that hears how long iterations took and what the engine found in its cache."""

    def correct(self, request_id: str, *, held_tokens: int, remaining_tokens: int) -> None:
        """The engine's own count of a prompt: tokens it holds or has cached, tokens to compute."""

    def measured(self, ran: Sample, *, full: bool) -> None:
        """What an iteration took; `full` as in its plan."""

    def use(self, model: LatencyModel) -> None:
        """Continue with another latency model."""
