"""KV memory: which prompts find room, and which prompts in progress lose theirs.

Everything here is a plan; `PrefillBatch` and `Backlog` carry it out.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from workers.policy.request import Prefill


class Memory(NamedTuple):
    """KV that one iteration has left, tokens."""

    free_tokens: int
    """After every decode has grown by a token; negative when there is no room for that."""
    admissible_tokens: int
    """For prompts that have no KV yet: less what prompts in progress and decodes will need."""

    def admits(self, prefill: Prefill, *, alone: bool) -> bool:
        """Is there room for the whole of a prompt that has no KV yet?

        A prompt that is `alone` in the engine may have all memory: nothing else will grow.
        """
        missing = prefill.missing_kv_tokens
        return missing <= self.admissible_tokens or (alone and missing <= self.free_tokens)

    def after_reclaim(self, victim: Prefill) -> "Memory":
        """The KV of a prompt in progress is free, and what was kept for the rest of it."""
        computed, remaining = victim.computed_tokens, victim.remaining_tokens
        return Memory(self.free_tokens + computed, self.admissible_tokens + computed + remaining)


def victims_for_decodes(memory: Memory, in_progress: Iterable[Prefill]) -> Sequence[Prefill]:
    """Whose KV is reclaimed so that every decode can continue: more of its work is done."""
    if memory.free_tokens >= 0:
        return ()
    victims = []
    for victim in _least_urgent_first(in_progress):
        if memory.free_tokens >= 0:
            break
        victims.append(victim)
        memory = memory.after_reclaim(victim)
    return victims


def victims_for_prompt(
    prompt: Prefill, memory: Memory, in_progress: Iterable[Prefill], *, alone: bool
) -> Sequence[Prefill]:
    """Whose KV is reclaimed for a waiting prompt: those that yield to it, until it finds room.

    Those are the overdue, and those due later. Nobody's when all of that would not be enough.
    """
    if prompt.is_overdue or memory.admits(prompt, alone=alone):
        return ()
    victims = []
    for victim in _least_urgent_first(in_progress):
        if victim.due_s <= prompt.due_s and not victim.is_overdue:
            break
        victims.append(victim)
        memory = memory.after_reclaim(victim)
        if memory.admits(prompt, alone=alone):
            return victims
    return ()


def lets_others_pass(prompt: Prefill, now_s: float) -> bool:
    """May those behind a prompt that finds no room have what memory there is?

    For the first half of its time. After that memory gathers for it, so that it does not wait for
    as long as smaller prompts keep coming.
    """
    return now_s < (prompt.request.qos.arrival_s + prompt.due_s) / 2


def _least_urgent_first(in_progress: Iterable[Prefill]) -> list[Prefill]:
    return sorted(in_progress, key=lambda p: (not p.is_overdue, -p.due_s, p.request_id))
