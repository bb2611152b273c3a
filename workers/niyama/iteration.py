"""What the policy sees before an iteration, and what it decides: both are plain data."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Prefill:
    """A request whose prompt is not all computed yet."""

    request_id: str
    due_s: float
    """When its next token is due."""
    remaining_prefill_tokens: int
    """Prompt tokens that are neither computed nor in the prefix cache."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The replica as an iteration begins."""

    waiting: tuple[Prefill, ...]
    """Requests that could enter the iteration; the most urgent of all that wait are among them."""
    in_progress: Prefill | None
    """The request whose prompt is partly computed; the runtime can hold one at a time."""
    can_park: bool
    """`in_progress` may make way, and a request from `waiting` could be admitted."""
    running_decodes: int
    iteration_tokens: int
    """The most tokens an iteration may compute, decodes included. Page-aligned."""
    page_tokens: int
    """Tokens of one KV page; a chunk that does not end a prompt ends on a page."""


@dataclass(frozen=True, slots=True)
class IterationPlan:
    """One iteration's decisions. Every running decode takes part in it."""

    order: tuple[str, ...]
    """The waiting requests of the snapshot, most urgent first."""
    prefill_budget_tokens: int
    """Prompt tokens to compute in this iteration; at least one page."""
    park: str | None = None
    """The request in progress, when it makes way for more urgent ones."""
    in_progress_limit_tokens: int | None = None
    """The share of the budget that the request in progress may take, when it goes on; None: all."""
