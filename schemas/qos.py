"""Quality of service: what a job asks for, the named classes, and the deadlines that follow."""

import tomllib
from dataclasses import dataclass
from datetime import MAXYEAR, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError, model_validator

from schemas.message import Name, Payload, UtcDatetime


class Kind(StrEnum):
    """Which deadlines a job has."""

    INTERACTIVE = "interactive"
    """The first token is due `ttft_ms` after arrival, each later one `tbt_ms` after the last."""
    DEADLINE = "deadline"
    """Somebody waits for the whole answer: its last token is due `ttlt_ms` after arrival."""
    TASK = "task"
    """A call of a task: the last token of the last call is due at the task's deadline."""
    BATCH = "batch"
    """The last token is due `ttlt_s` after arrival; nobody waits."""


DAY_S = 86_400
TtftMs = Annotated[float, Field(gt=0, le=DAY_S * 1000, allow_inf_nan=False)]
TbtMs = Annotated[float, Field(gt=0, le=60_000, allow_inf_nan=False)]
TtltMs = Annotated[float, Field(gt=0, le=DAY_S * 1000, allow_inf_nan=False)]
TtltS = Annotated[float, Field(gt=0, le=7 * DAY_S, allow_inf_nan=False)]
MAX_CALLS = 10_000
"""As many calls as a task may say that it has."""
_CHOICE = "ttft_ms and tbt_ms; ttlt_ms; ttlt_s; task"


def _not_at_the_end_of_time(deadline: datetime) -> datetime:
    if deadline.year >= MAXYEAR:  # rounded to what an epoch in seconds can say it may be later
        raise ValueError(f"must be before the year {MAXYEAR}")
    return deadline


class Task(Payload):
    """Calls that depend on each other: each is published after the answer to the one before it.

    The time until the deadline is shared out over the calls that are left. Whatever replica a call
    meets, it needs nothing but what the call says; with the task's id as the key of their records,
    the calls meet the same one, which has the text so far in its prefix cache.
    """

    id: Name
    """The same in all calls of the task; unique within the tenant and application."""
    deadline: Annotated[UtcDatetime, AfterValidator(_not_at_the_end_of_time)]
    """When the answer to the last call is due. An absolute time: the same in all calls."""
    call: Annotated[int, Field(ge=1, le=MAX_CALLS)] | None = None
    """Which of its calls this is, from 1. Without it, a replica counts those that it sees."""
    calls_left: Annotated[int, Field(ge=0, le=MAX_CALLS)] | None = None
    """How many are to follow. Without it, as many as tasks of the application usually have."""


class QosTargets(Payload):
    """Explicit targets: one of the kinds.

    `ttft_ms` and `tbt_ms` (interactive), `ttlt_ms` (deadline), `task`, or `ttlt_s` (batch).
    """

    ttft_ms: TtftMs | None = None
    """The first token is due so long after arrival."""
    tbt_ms: TbtMs | None = None
    """Each later token is due so long after the one before it."""
    ttlt_ms: TtltMs | None = None
    """Somebody waits for the whole answer: its last token is due so long after arrival."""
    ttlt_s: TtltS | None = None
    """Nobody waits: the last token is due so long after arrival."""
    task: Task | None = None
    """The job is a call of this task."""

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if self._given not in _KINDS:
            raise ValueError(f"give one of: {_CHOICE}")
        return self

    @property
    def kind(self) -> Kind:
        return _KINDS[self._given]

    @property
    def _given(self) -> frozenset[str]:
        return frozenset(name for name, value in vars(self).items() if value is not None)


_KINDS = {
    frozenset({"ttft_ms", "tbt_ms"}): Kind.INTERACTIVE,
    frozenset({"ttlt_ms"}): Kind.DEADLINE,
    frozenset({"task"}): Kind.TASK,
    frozenset({"ttlt_s"}): Kind.BATCH,
}


@dataclass(frozen=True, slots=True)
class Qos:
    """A resolved quality of service.

    Interactive: `ttft_s` and `tbt_s`; deadline and batch: `ttlt_s`; a call of a task: `task`.
    """

    name: str | None
    """The class, or None when the job gave explicit targets."""
    kind: Kind
    ttft_s: float | None
    tbt_s: float | None
    ttlt_s: float | None
    task: Task | None = None

    def deadline_at(self, arrived_at: datetime) -> datetime:
        """When the first token (interactive) or the last one (others) of a job is due.

        The job arrived at `arrived_at`. Both times are UTC. The deadline of a task is that of its
        last call.
        """
        if self.task is not None:
            return self.task.deadline
        due_s = self.ttlt_s if self.ttft_s is None else self.ttft_s
        assert due_s is not None
        return arrived_at + timedelta(seconds=due_s)


# q1, q2 and q3 are the evaluation tiers of the Niyama paper (arXiv 2503.22562, section 4).
SHIPPED_CLASSES: dict[str, QosTargets] = {
    "chat": QosTargets(ttft_ms=1000, tbt_ms=100),
    "q1": QosTargets(ttft_ms=6000, tbt_ms=50),
    "q2": QosTargets(ttlt_s=600),
    "q3": QosTargets(ttlt_s=1800),
    "batch-1h": QosTargets(ttlt_s=3600),
    "batch-24h": QosTargets(ttlt_s=DAY_S),
}

_CLASSES = TypeAdapter(dict[Name, QosTargets])


class UnknownQosClassError(ValueError):
    """A job names a class that is not configured."""


@dataclass(frozen=True, slots=True)
class QosCatalog:
    """The named classes of one installation."""

    classes: dict[str, QosTargets]

    @classmethod
    def shipped(cls) -> Self:
        return cls(dict(SHIPPED_CLASSES))

    @classmethod
    def load(cls, path: Path | None) -> Self:
        """Shipped classes, overridden and extended by a TOML file of `[name]` tables.

        Raises ValueError with a sentence that names the file and what to change.
        """
        if path is None:
            return cls.shipped()
        try:
            own = _CLASSES.validate_python(tomllib.loads(path.read_text()))
        except OSError as error:
            raise ValueError(f"QoS file {path} cannot be read: {error.strerror}") from error
        except tomllib.TOMLDecodeError as error:
            raise ValueError(f"QoS file {path} is not valid TOML: {error}") from error
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise ValueError(f"QoS file {path}, class {where}: {first['msg']}") from error
        for name, targets in own.items():
            if targets.task is not None:
                raise ValueError(f"QoS file {path}, class {name}: a task is for a job to name")
        return cls(SHIPPED_CLASSES | own)

    def resolve(self, qos: str | QosTargets) -> Qos:
        """The targets behind a job's `qos` field. Raises UnknownQosClassError."""
        if isinstance(qos, QosTargets):
            return _qos(None, qos)
        if qos not in self.classes:
            known = ", ".join(sorted(self.classes))
            raise UnknownQosClassError(
                f"unknown QoS class {qos!r}; this installation has {known}; "
                f"or give targets: {_CHOICE}"
            )
        return _qos(qos, self.classes[qos])


def _qos(name: str | None, targets: QosTargets) -> Qos:
    ttlt_s = targets.ttlt_s if targets.ttlt_ms is None else _seconds(targets.ttlt_ms)
    ttft_s, tbt_s = _seconds(targets.ttft_ms), _seconds(targets.tbt_ms)
    return Qos(name, targets.kind, ttft_s, tbt_s, ttlt_s, targets.task)


def _seconds(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000
