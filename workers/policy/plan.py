"""What a policy decides for one iteration, and what it learns of it afterwards."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from workers.policy.decision import Decision
from workers.policy.release import Release
from workers.policy.request import Request


class Chunk(NamedTuple):
    """Prompt tokens of one request that one iteration computes."""

    request_id: str
    tokens: int


@dataclass(frozen=True, slots=True)
class IterationPlan:
    """One iteration: these chunks, and every running decode unless they wait.

    At most one chunk (the last) leaves its prompt unfinished: the runtime can do no more in one
    batch.
    """

    chunks: tuple[Chunk, ...] = ()
    predicted_s: float = 0.0
    """Expected duration of the iteration, without margin."""
    reclaim_kv: tuple[str, ...] = ()
    """Requests in progress whose KV the engine reclaims before the iteration starts."""
    decodes_wait: bool = False
    """The running decodes are left out, although the engine could compute them beside others."""
    full: bool = False
    """Prompts, or parts of them, were left out: for lack of time, of memory or of places."""
    decisions: tuple[Decision, ...] = ()
    """The kinds are those that `Journal` names."""


@dataclass(frozen=True, slots=True)
class IterationResult:
    """What the engine did: `chunks` as computed, ids that finished, ids that lost their KV."""

    end_s: float
    duration_s: float
    """0 when it is not known yet (see `NiyamaPolicy.measured`) or nothing ran."""
    chunks: tuple[Chunk, ...] = ()
    finished: tuple[str, ...] = ()
    retracted: tuple[str, ...] = ()
    """Decodes that the engine pushed back for lack of memory; the policy queues them again."""
    decoded: bool = True
    """Every running decode produced a token."""
    processed: bool = True
    """False: it may still run, so that its complete prompts are in the prefix cache only by the
    time of the plan after the next."""


class Policy(Protocol):
    """A scheduler: learns of arrivals and results, and plans every iteration."""

    def add(self, request: Request, now_s: float) -> None:
        """A request has arrived."""

    def abort(self, request_id: str) -> None:
        """A request is gone, whatever its state; unknown ids are ignored."""

    def plan(self, now_s: float, free_kv_tokens: int) -> IterationPlan:
        """Decide one iteration that starts now."""

    def observe(self, result: IterationResult) -> Mapping[str, Release]:
        """Learn how the planned iteration went.

        Returns, by request id, how to show the tokens of requests whose prompts are complete now.
        """
