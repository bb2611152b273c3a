"""How busy a replica is: for whoever routes requests, or decides how many replicas there are.

Made once a second, so that nothing here looks at single requests.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from workers.policy.backlog import Backlog
from workers.policy.lookahead import LEAST_WORK, Decoding
from workers.policy.qos import Kind, RequestQos
from workers.policy.request import Request

HORIZONS_S = (1.0, 10.0, 60.0, 600.0, 3600.0, math.inf)
"""How soon work is due."""
CHAT_SIZES = (128, 1024, 8192)
"""Tokens of prompts whose TTFT is predicted."""
CATCH_UP_S = 10.0
"""Work that is late counts as due within this time: one late prompt is no reason for alarm."""
BATCH_CATCH_UP_S = 600.0
"""The same of batch work, for which nobody sits and waits."""
CHAT_TTFT_S = 1.0
"""When the first token of such a chat is due: others that are due earlier come first."""
CHAT_TBT_S = 0.1


class ChatForecast(NamedTuple):
    """Of a chat that arrived now."""

    prompt_tokens: int
    ttft_s: float | None
    """Until its first token is computed; under load it may be shown later, but in time. None: it
    might be relegated, and wait until capacity is left."""


@dataclass(frozen=True, slots=True)
class QueueLoad:
    """What a policy has before it."""

    waiting: int
    """Requests that have not started, and may be met."""
    prefilling: int
    """Requests whose prompts are in progress or parked."""
    overdue: int
    """Requests that have not started, and can no longer be met."""
    demand: float
    """See `demand_of`."""
    tokens_per_s: float
    """Prefill-equivalent tokens that the replica gets done."""
    backlog_s: Mapping[Kind, tuple[float, ...]]
    """Work that is due within each of `HORIZONS_S`, as the time that it takes."""
    chats: tuple[ChatForecast, ...]

    def chats_within(self, context_tokens: int | None) -> list[ChatForecast]:
        """Those that a model with a context of so many tokens has room for; None: any length."""
        room = math.inf if context_tokens is None else context_tokens
        return [chat for chat in self.chats if chat.prompt_tokens < room]


def queue_load(
    backlog: Backlog,
    now_s: float,
    *,
    decoding: Decoding,
    tokens_per_s: float,
    wait_s: float,
    prompt_s: Callable[[int], float],
) -> QueueLoad:
    """`decoding`: what the running decodes still cost. `wait_s`: until the next iteration.
    `prompt_s`: how long so many prompt tokens take that are next in line, beside the decodes.
    """
    due = backlog.due_within(HORIZONS_S, now_s)
    qos = RequestQos.interactive(now_s, ttft_s=CHAT_TTFT_S, tbt_s=CHAT_TBT_S)
    before = int(backlog.fitting_by(backlog.due_of(Request("", qos, 1), now_s)))
    turn_s = wait_s + (prompt_s(before) if before else 0.0)

    def ttft_s(tokens: int) -> float | None:
        rank = backlog.highest_rank(Request("", qos, tokens), now_s)
        predicted_s = turn_s + prompt_s(tokens)
        yields = backlog.is_behind and predicted_s > CHAT_TTFT_S
        return None if yields or rank > backlog.cutoff else predicted_s

    return QueueLoad(
        waiting=backlog.waiting_count,
        prefilling=len(backlog.started),
        overdue=backlog.overdue_count,
        demand=demand_of(due.values(), decoding, backlog.late_work(), tokens_per_s),
        tokens_per_s=tokens_per_s,
        backlog_s={
            kind: tuple(work / tokens_per_s for work in works)
            for kind, works in due.items()
            if works[-1] >= LEAST_WORK
        },
        chats=tuple(ChatForecast(size, ttft_s(size)) for size in CHAT_SIZES),
    )


def demand_of(
    due_within: Iterable[Sequence[float]],
    decoding: Decoding,
    late: Mapping[Kind, float],
    tokens_per_s: float,
) -> float:
    """How many replicas like this one could do its work in time, if no more arrived.

    The largest share of `HORIZONS_S` that the work due within each takes; `due_within` has it for
    each kind. All work counts, also what the cutoff leaves out: unlike `Lookahead.pressure`, by
    which tokens are paced, it rises with the overload.
    """
    kinds, most = list(due_within), 0.0
    for index, horizon_s in enumerate(HORIZONS_S[:-1]):
        work = sum(due[index] for due in kinds)
        work += min(decoding.work, decoding.per_s * horizon_s)
        work += sum(late[kind] for kind in late if _catch_up_s(kind) <= horizon_s)
        if work >= LEAST_WORK:
            most = max(most, work / (horizon_s * tokens_per_s))
    return most


def _catch_up_s(kind: Kind) -> float:
    return BATCH_CATCH_UP_S if kind is Kind.BATCH else CATCH_UP_S
