"""Who is next: which prompt gets the tokens that an iteration has left."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from workers.policy.lookahead import NO_CUTOFF
from workers.policy.queue import Entry
from workers.policy.request import Prefill
from workers.policy.settings import Overload, Settings

_BACKLOG_LOW_S = 60.0
_BACKLOG_SPAN_S = 200.0


class Order(NamedTuple):
    """How prompts are compared: the smallest `due_s + srpf_weight_s * work` is most urgent."""

    cutoff: int = NO_CUTOFF
    """Waiting prompts of a higher rank come after all others."""
    srpf_weight_s: float = 0.0
    """Seconds per prefill-equivalent token; 0 is earliest deadline first."""


def order_of(settings: Settings, cutoff: int, backlog_s: float, memory_bound: float = 0.0) -> Order:
    """The order of this moment.

    Time can be had in parts, and a prompt that is due first takes what it needs of it. Memory that
    a prompt lacks has to be gathered, and is used by nobody meanwhile: as far as memory is what
    limits (`Learning.memory_bound`), small prompts go first.

    HYBRID is the priority of arXiv 2503.22562; its weight rises linearly between backlogs of 60 s
    and 260 s.
    """
    if settings.overload is Overload.CUTOFF:
        return Order(cutoff, settings.memory_weight_s * memory_bound)
    if settings.overload is Overload.NONE:
        return Order()
    share = min(1.0, max(0.0, (backlog_s - _BACKLOG_LOW_S) / _BACKLOG_SPAN_S))
    weight_s = max(settings.srpf_weight_low_s, settings.srpf_weight_high_s * share)
    return Order(srpf_weight_s=weight_s)


def is_too_late(
    due_s: float, remaining_tokens: int, now_s: float, token_s: float, settings: Settings
) -> bool:
    """A prompt would not be computed by then if it had the engine for itself.

    `token_s` is the time of one prompt token in a large batch. Plain EDF (`Overload.NONE`) does
    not ask.
    """
    if settings.overload is Overload.NONE:
        return False
    return now_s + remaining_tokens * token_s > due_s


def most_urgent_first(
    in_progress: Iterable[Prefill], order: Order, work: Callable[[Prefill], float]
) -> list[Prefill]:
    """Prompts in progress by the order's key, overdue ones behind all others.

    `work` is in prefill-equivalent tokens.
    """
    return sorted(in_progress, key=lambda p: (p.is_overdue, _key_s(p, order, work), p.request_id))


def choose(
    running: Prefill | None,
    waiting: Entry | None,
    overdue: Entry | None,
    order: Order,
    work: Callable[[Prefill], float],
    *,
    park: bool,
) -> str | None:
    """Who is next of the most urgent prompt in progress and the heads of both queues: its id.

    A waiting prompt goes before those in progress only when it is more urgent than all of them,
    up to the cutoff, or when they are all overdue; and if they may be parked. Overdue prompts go
    last, those in progress first.
    """
    if running is None:
        head = waiting or overdue
        return head.request_id if head is not None else None
    if waiting is None or not park:
        return running.request_id
    if running.is_overdue:
        return waiting.request_id
    if waiting.rank > order.cutoff:
        return running.request_id
    if _key_s(running, order, work) <= waiting.due_s + order.srpf_weight_s * waiting.work:
        return running.request_id
    return waiting.request_id


def _key_s(prefill: Prefill, order: Order, work: Callable[[Prefill], float]) -> float:
    weighted_s = order.srpf_weight_s * work(prefill) if order.srpf_weight_s else 0.0
    return prefill.due_s + weighted_s
