"""How much to have in hand: which topics are read, and which are paused.

The engine's scheduler can only order what it sees. Interactive jobs are therefore taken as soon
as they are published, batch jobs ahead of need up to a budget, and relegated ones only while
half of that budget is unused: another worker may have more room for them.
"""

from dataclasses import dataclass

from workers.execution.in_flight import Load

REOPEN = 0.75
"""A full topic is read again when its load has come down to this share of the limit."""
RELEGATED = 0.5
"""The share of the batch budget up to which relegated jobs are taken."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The most to have in hand."""

    interactive_jobs: int
    batch_jobs: int
    batch_prompt_tokens: int


@dataclass(frozen=True, slots=True)
class Open:
    """Which topics are read."""

    interactive: bool = True
    batch: bool = True
    relegated: bool = True


SHUT = Open(interactive=False, batch=False, relegated=False)


def next_open(limits: Limits, interactive: Load, batch: Load, relegated: Load, now: Open) -> Open:
    """What to read, given the load by topic and what is read now."""
    jobs = batch.jobs + relegated.jobs
    tokens = batch.prompt_tokens + relegated.prompt_tokens
    use = max(jobs / limits.batch_jobs, tokens / limits.batch_prompt_tokens)
    return Open(
        interactive=_below(interactive.jobs / limits.interactive_jobs, 1, now.interactive),
        batch=_below(use, 1, now.batch),
        relegated=_below(use, RELEGATED, now.relegated),
    )


def _below(use: float, limit: float, is_open: bool) -> bool:
    return use < limit if is_open else use <= limit * REOPEN
