"""How much to take: which topics are read, and which are paused.

The engine's scheduler can only order the jobs that it sees. So interactive jobs are taken as soon
as they are published, batch jobs ahead of need up to a budget, and relegated jobs only while
half of that budget is unused: another worker may have more room for them.
"""

from dataclasses import dataclass

from workers.execution.in_flight import TopicLoad

REOPEN_SHARE = 0.75
"""A full topic is read again when its load has dropped to this share of the limit."""
RELEGATED_SHARE = 0.5
"""The share of the batch budget up to which relegated jobs are taken."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The most to have in flight."""

    interactive_jobs: int
    batch_jobs: int
    batch_prompt_tokens: int


@dataclass(frozen=True, slots=True)
class TopicGates:
    """Which topics are read."""

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
    jobs = batch.jobs + relegated.jobs
    tokens = batch.prompt_tokens + relegated.prompt_tokens
    used = max(jobs / limits.batch_jobs, tokens / limits.batch_prompt_tokens)
    return TopicGates(
        interactive=_below(interactive.jobs / limits.interactive_jobs, 1, gates.interactive),
        batch=_below(used, 1, gates.batch),
        relegated=_below(used, RELEGATED_SHARE, gates.relegated),
    )


def _below(used: float, limit: float, is_open: bool) -> bool:
    return used < limit if is_open else used <= limit * REOPEN_SHARE
