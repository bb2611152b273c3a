"""How much to take: which topics are read, and which are paused.

The engine's scheduler can only order the jobs that it sees. So interactive jobs are taken as soon
as they are published, up to what a worker can hold; batch jobs ahead of need up to a budget, and
relegated jobs only while half of that budget is unused: another worker may have more room for them.

A budget is exceeded by at most one job, and any job fits into one that is unused.
"""

from dataclasses import dataclass
from typing import NamedTuple

from workers.execution.in_flight import TopicLoad

REOPEN_SHARE = 0.75
"""A full topic is read again when its load has dropped to this share of the limit."""
RELEGATED_SHARE = 0.5
"""The share of the batch budget up to which relegated jobs are taken."""


@dataclass(frozen=True, slots=True)
class Budget:
    """The most to have in flight of one kind, in each of three respects."""

    jobs: int
    prompt_tokens: int
    memory_bytes: int

    def used(self, *loads: TopicLoad) -> float:
        """The largest share that these loads have together; 1 is all of it."""
        jobs = tokens = memory = 0
        for load in loads:  # in one pass: this is asked for every job that comes and that leaves
            jobs += load.jobs
            tokens += load.prompt_tokens
            memory += load.memory_bytes
        return max(jobs / self.jobs, tokens / self.prompt_tokens, memory / self.memory_bytes)


@dataclass(frozen=True, slots=True)
class Limits:
    """The budget of each kind."""

    interactive: Budget
    batch: Budget


class TopicGates(NamedTuple):
    """Which topics are read. Made and compared for every job that comes and that leaves."""

    interactive: bool
    batch: bool
    relegated: bool


ALL_OPEN = TopicGates(interactive=True, batch=True, relegated=True)
ALL_CLOSED = TopicGates(interactive=False, batch=False, relegated=False)


def next_gates(
    limits: Limits,
    interactive: TopicLoad,
    batch: TopicLoad,
    relegated: TopicLoad,
    gates: TopicGates,
) -> TopicGates:
    """Which topics to read, given the load of each and which are read now."""
    used = limits.batch.used(batch, relegated)
    return TopicGates(
        interactive=_below(limits.interactive.used(interactive), 1, gates.interactive),
        batch=_below(used, 1, gates.batch),
        relegated=_below(used, RELEGATED_SHARE, gates.relegated),
    )


def _below(used: float, limit: float, is_open: bool) -> bool:
    return used < limit if is_open else used <= limit * REOPEN_SHARE
