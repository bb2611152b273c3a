"""The part of a plan that SGLang is handed: as much as the engine's present state allows.

The policy plans by what it knows of the prefix cache; by now the cache may hold more of a prompt,
or less. SGLang computes the prompt in progress first, then waiting ones in order, each as a whole
except the last, and it can leave only one prompt unfinished.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Planned:
    """One chunk of the plan."""

    request_id: str
    tokens: int
    remaining_tokens: int
    """Prompt tokens that are neither computed nor in the prefix cache, by the engine's count."""


@dataclass(frozen=True, slots=True)
class Handover:
    """What SGLang may make one batch from."""

    order: tuple[str, ...] = ()
    """The waiting requests that may enter the batch, in order, as far as the tokens last."""
    prefill_tokens: int = 0
    """Prompt tokens that the batch may compute, in whole pages; 0: none, decodes only."""
    in_progress_tokens: int = 0
    """What the prompt in progress may take of them; 0 when it does not continue."""
    park: bool = False
    """The prompt in progress yields to them."""


def hand_over(
    planned: Sequence[Planned],
    in_progress: str | None,
    *,
    can_park: bool,
    room_tokens: int,
    page_tokens: int,
) -> Handover:
    """Fit a plan to what the engine can do now.

    `in_progress` is the unfinished prompt that SGLang tracks. `room_tokens` bounds the prompt
    tokens of the iteration; a page always fits.
    """
    wanted = sum(chunk.tokens for chunk in planned)
    budget = max(page_tokens, min(wanted, room_tokens) // page_tokens * page_tokens)
    continuing = next((chunk for chunk in planned if chunk.request_id == in_progress), None)
    if not planned:
        return Handover()
    if in_progress is None or (continuing is None and can_park):
        order, used = _admitted(planned, budget, page_tokens, may_split=True)
        return Handover(order, used, park=in_progress is not None)
    if continuing is None:  # it cannot be parked, so it comes first
        return Handover(prefill_tokens=budget, in_progress_tokens=budget)
    others = [chunk for chunk in planned if chunk is not continuing]
    if min(continuing.tokens, budget) >= continuing.remaining_tokens:
        tokens = _pages_up(continuing.remaining_tokens, page_tokens)
        order, used = _admitted(others, budget - tokens, page_tokens, may_split=True)
        return Handover(order, tokens + used, tokens)
    # What the plan puts before it comes whole; it takes what is left.
    order, used = _admitted(others, budget - page_tokens, page_tokens, may_split=False)
    tokens = min(_pages_up(continuing.tokens, page_tokens), budget - used)
    return Handover(order, tokens + used, tokens)


def _admitted(
    planned: Sequence[Planned], budget: int, page_tokens: int, *, may_split: bool
) -> tuple[tuple[str, ...], int]:
    """The prompts that fit, in order, and their tokens; the last may be split where `may_split`."""
    order: list[str] = []
    left = budget
    for chunk in planned:
        needed = _pages_up(chunk.remaining_tokens, page_tokens)
        if needed > left:
            if may_split and left >= page_tokens:
                order.append(chunk.request_id)
                left %= page_tokens
            break
        order.append(chunk.request_id)
        left -= needed
    return tuple(order), budget - left


def _pages_up(tokens: int, page_tokens: int) -> int:
    return -(-tokens // page_tokens) * page_tokens
