"""What a policy decides for one iteration, and what it is told about it afterwards."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, Protocol

from workers.niyama.request import Request


class Chunk(NamedTuple):
    """Prompt tokens of one request that one iteration computes."""

    request_id: str
    tokens: int


class DecisionKind(StrEnum):
    STARTED = "started"
    RELEGATED = "relegated"
    RESTORED = "restored"
    PARKED = "parked"
    RESUMED = "resumed"
    GAVE_BACK = "gave_back"
    #: The policy has dropped it; so must the engine.
    EXPIRED = "expired"


class Forecast(NamedTuple):
    """How a waiting request will fare, if nothing changes."""

    #: Until its prompt begins.
    queue_wait_s: float
    #: When its deadline-bearing token comes: the first (interactive) or the last (batch).
    finish_s: float


@dataclass(frozen=True, slots=True)
class Decision:
    """Something a user may ask about: what happened to a request, why, and on what forecast."""

    request_id: str
    kind: DecisionKind
    reason: str
    at_s: float
    forecast: Forecast | None = None


@dataclass(frozen=True, slots=True)
class IterationPlan:
    """One iteration: every running decode plus these chunks.

    At most one chunk (the last) leaves its prompt unfinished: the runtime can do no more in one
    batch.
    """

    chunks: tuple[Chunk, ...] = ()
    #: Expected duration of the iteration, without margin.
    predicted_s: float = 0.0
    #: Requests in progress whose KV the engine takes back before the iteration starts.
    give_back: tuple[str, ...] = ()
    #: More prompt tokens were waiting than fit.
    full: bool = False
    decisions: tuple[Decision, ...] = ()


@dataclass(frozen=True, slots=True)
class IterationResult:
    """What the engine did: `chunks` as computed, ids that finished, ids that lost their KV."""

    end_s: float
    #: 0 when it is not known yet (see `NiyamaPolicy.measured`) or nothing ran.
    duration_s: float
    chunks: tuple[Chunk, ...] = ()
    finished: tuple[str, ...] = ()
    #: Decodes that the engine pushed back for lack of memory; the policy queues them again.
    retracted: tuple[str, ...] = ()
    #: Every running decode produced a token.
    decoded: bool = True


class Release(NamedTuple):
    """When the tokens of an interactive request may be shown.

    Token n no earlier than `first_s + (n - 1) * pace_s`, and never less than `pace_s` after the
    token before it. `pace_s` 0 shows everything at once.
    """

    request_id: str
    first_s: float
    pace_s: float


class Policy(Protocol):
    """A scheduler: told of arrivals and results, asked once per iteration for a plan."""

    def add(self, request: Request, now_s: float) -> None:
        """A request has arrived."""

    def abort(self, request_id: str) -> None:
        """A request is gone, whatever its state; unknown ids are ignored."""

    def plan(self, now_s: float, free_kv_tokens: int) -> IterationPlan:
        """Decide one iteration that starts now."""

    def observe(self, result: IterationResult) -> Sequence[Release]:
        """Learn how the planned iteration went; release times of the requests that started."""
