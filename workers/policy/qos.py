"""The quality of service of one request: one type from the worker's edge to the policy.

On its way into SGLang's scheduler process it is a part of the request's sampling parameters
(`custom_params`).
"""

import math
from dataclasses import dataclass, replace
from enum import StrEnum
from inspect import get_annotations
from typing import Literal, Self, TypedDict, Unpack, assert_never

Importance = Literal["high", "low"]


class Kind(StrEnum):
    INTERACTIVE = "interactive"
    """The first token is due at the deadline, and each later one soon after the one before it."""
    DEADLINE = "deadline"
    """Somebody waits for the whole answer: its last token is due at the deadline."""
    TASK = "task"
    """A call of a task: somebody waits for the answer to the last of its calls, which is due at the
    deadline."""
    BATCH = "batch"
    """The last token is due at the deadline; nobody waits."""


class Target(StrEnum):
    TTFT = "ttft"
    """The first token in time."""
    TBT = "tbt"
    """No gap between two tokens too long."""
    TTLT = "ttlt"
    """The last token in time."""


class Owner(TypedDict, total=False):
    """What a job says beside its targets; see `RequestQos`."""

    importance: Importance
    tenant: str
    application: str
    expire_after_s: float | None
    """Seconds from the arrival; None: the request never expires."""


JOB_FIELDS = tuple(get_annotations(Owner))
"""The names of an owner's fields, which are those of a job and of `custom_params`."""


@dataclass(frozen=True, slots=True)
class Task:
    """Calls that follow one another: each is sent after the answer to the one before it."""

    task_id: str
    """Of the client's own choice; unique among the tasks of a tenant and application."""
    call: int | None = None
    """Which of its calls this is, from 1; None: the replica counts those that it sees."""
    calls_left: int | None = None
    """How many are to follow; None: as many as the application's tasks usually have."""


@dataclass(frozen=True, slots=True)
class RequestQos:
    """When a request's tokens are due, and whose request it is. Times are on one clock, in s."""

    kind: Kind
    arrival_s: float
    """When the job was published."""
    deadline_s: float
    """Interactive: when the first token is due. Deadline and batch: when the last token is due.
    Task: when the last token of its last call is due."""
    tbt_s: float = math.inf
    """Interactive: the longest gap allowed between two tokens."""
    importance: Importance = "high"
    """Decides only who is relegated first."""
    tenant: str = ""
    application: str = ""
    """Requests of one tenant and application are expected to have answers of similar length."""
    expires_s: float | None = None
    """The request is dropped when its prefill has not started by then; None: never."""
    task: Task | None = None
    """Of kind task: which."""

    @classmethod
    def interactive(
        cls, arrival_s: float, *, ttft_s: float, tbt_s: float, **owner: Unpack[Owner]
    ) -> Self:
        """The first token is due `ttft_s` after the arrival."""
        return cls._of(Kind.INTERACTIVE, arrival_s, arrival_s + ttft_s, tbt_s, **owner)

    @classmethod
    def deadline(cls, arrival_s: float, *, ttlt_s: float, **owner: Unpack[Owner]) -> Self:
        """Somebody waits for the last token, which is due `ttlt_s` after the arrival."""
        return cls._of(Kind.DEADLINE, arrival_s, arrival_s + ttlt_s, math.inf, **owner)

    @classmethod
    def call(
        cls, arrival_s: float, *, task: Task, deadline_s: float, **owner: Unpack[Owner]
    ) -> Self:
        """A call of a task whose last call has to be answered by `deadline_s`, an absolute time."""
        qos = cls._of(Kind.TASK, arrival_s, deadline_s, math.inf, **owner)
        return replace(qos, task=task)

    @classmethod
    def batch(cls, arrival_s: float, *, ttlt_s: float, **owner: Unpack[Owner]) -> Self:
        """The last token is due `ttlt_s` after the arrival."""
        return cls._of(Kind.BATCH, arrival_s, arrival_s + ttlt_s, math.inf, **owner)

    @classmethod
    def _of(
        cls,
        kind: Kind,
        arrival_s: float,
        deadline_s: float,
        tbt_s: float,
        *,
        importance: Importance = "high",
        tenant: str = "",
        application: str = "",
        expire_after_s: float | None = None,
    ) -> Self:
        expires_s = None if expire_after_s is None else arrival_s + expire_after_s
        return cls(kind, arrival_s, deadline_s, tbt_s, importance, tenant, application, expires_s)

    def arrived_by(self, now_s: float) -> Self:
        """The same targets, from `now_s` at the latest. A task's deadline stays what it is.

        An arrival in the future comes from a clock that is ahead, or was. The request would be
        served after all others until then.
        """
        ahead_s = self.arrival_s - now_s
        if ahead_s <= 0:
            return self
        expires_s = None if self.expires_s is None else self.expires_s - ahead_s
        deadline_s = self.deadline_s if self.task is not None else self.deadline_s - ahead_s
        return replace(self, arrival_s=now_s, deadline_s=deadline_s, expires_s=expires_s)

    @property
    def deadline_is_first_token(self) -> bool:
        """Whether the deadline is for the first token. If not, the whole answer has to meet it."""
        match self.kind:
            case Kind.INTERACTIVE:
                return True
            case Kind.DEADLINE | Kind.TASK | Kind.BATCH:
                return False
            case _:
                assert_never(self.kind)

    def judged(
        self,
        *,
        first_token_s: float | None,
        completed_s: float | None,
        largest_gap_ms: float | None,
    ) -> dict[Target, bool]:
        """Which targets of a request that has ended were met, as far as that can be known.

        `completed_s`: when, unless it expired or failed. To be cancelled is neither to meet nor to
        miss anything: then nobody asks. `gateway.ledger.timing` judges alike.
        """
        if not self.deadline_is_first_token:
            return {Target.TTLT: completed_s is not None and completed_s <= self.deadline_s}
        met = {Target.TTFT: first_token_s is not None and first_token_s <= self.deadline_s}
        # In ms: 0.035 s are 35.00000000000001 of them, and a gap of 35 is allowed.
        if largest_gap_ms is not None and largest_gap_ms > round(self.tbt_s * 1000, 6):
            met[Target.TBT] = False
        elif self.limits_gaps and completed_s is not None:
            met[Target.TBT] = True
        return met

    @property
    def is_interactive(self) -> bool:
        """Whether somebody waits for the answer, or for what is made of it."""
        return self.kind is not Kind.BATCH

    @property
    def limits_gaps(self) -> bool:
        """Whether the gaps between tokens are limited, by `tbt_s`."""
        return math.isfinite(self.tbt_s)

    @property
    def is_important(self) -> bool:
        return self.importance == "high"
