"""Earliest deadline first, with prefills parked for closer deadlines."""

from workers.niyama.iteration import IterationPlan, Prefill, Snapshot


def edf_key(prefill: Prefill) -> tuple[float, str]:
    """Most urgent first; the id makes the order total, so that every rank finds the same."""
    return (prefill.due_s, prefill.request_id)


def plan(snapshot: Snapshot, now_s: float) -> IterationPlan:
    """Decide one iteration.

    Requests with closer deadlines than the prefill in progress come before it. Where the budget
    has room for them and for a page of the prefill in progress, both get their share; where it
    has not, the prefill in progress is parked. `now_s` is on the clock of the snapshot's times;
    deadline order does not depend on it.
    """
    waiting = sorted(snapshot.waiting, key=edf_key)
    order = tuple(prefill.request_id for prefill in waiting)
    budget_tokens = _prefill_budget_tokens(snapshot)
    urgent_tokens = _more_urgent_tokens(waiting, snapshot)
    if snapshot.in_progress is None or urgent_tokens == 0:
        return IterationPlan(order, budget_tokens)
    room_tokens = _whole_pages(budget_tokens - urgent_tokens, snapshot.page_tokens)
    if room_tokens > 0:
        return IterationPlan(order, budget_tokens, in_progress_limit_tokens=room_tokens)
    return IterationPlan(order, budget_tokens, park=snapshot.in_progress.request_id)


def _prefill_budget_tokens(snapshot: Snapshot) -> int:
    """What the decodes leave; never less than a page, or many decodes would stop all prefills."""
    left_tokens = snapshot.iteration_tokens - snapshot.running_decodes
    return max(_whole_pages(left_tokens, snapshot.page_tokens), snapshot.page_tokens)


def _more_urgent_tokens(waiting: list[Prefill], snapshot: Snapshot) -> int:
    """Tokens of the waiting requests that go before the one in progress, each in whole pages."""
    if snapshot.in_progress is None or not snapshot.can_park:
        return 0
    limit = edf_key(snapshot.in_progress)
    page = snapshot.page_tokens
    return sum(
        -(-max(prefill.remaining_prefill_tokens, 1) // page) * page
        for prefill in waiting
        if edf_key(prefill) < limit
    )


def _whole_pages(tokens: int, page_tokens: int) -> int:
    return tokens // page_tokens * page_tokens
