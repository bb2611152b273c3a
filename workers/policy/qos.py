"""The quality of service of one request: one type from the worker's edge to the policy.

On its way into SGLang's scheduler process it is a part of the request's sampling parameters,
`custom_params["qos"]`, with the names of a job:

    {"ttft_ms": 1000, "tbt_ms": 100}     interactive
    {"ttlt_s": 600}                      batch

and optionally `importance` ("high" or "low"), `tenant` and `application`, whose answers are
expected to be of similar length; `expire_after_s`, the seconds after which the request is answered
with an error when its prefill has not started; and `arrival_s`, the UTC epoch seconds from which
all of these count; without it they count from when the scheduler receives the request.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from inspect import get_annotations
from typing import Literal, Self, TypedDict, Unpack, assert_never

Importance = Literal["high", "low"]

CUSTOM_PARAMS_KEY = "qos"
DEFAULT_QOS: Mapping[str, object] = {"ttft_ms": 1000.0, "tbt_ms": 100.0}
"""For requests that say nothing: among themselves they are served in order of arrival."""

_TARGETS = {"ttft_ms", "tbt_ms", "ttlt_s"}


class Kind(StrEnum):
    INTERACTIVE = "interactive"
    """The first token is due at the deadline, and each later one soon after the one before it."""
    BATCH = "batch"
    """The last token is due at the deadline."""


class Owner(TypedDict, total=False):
    """What a job says beside its targets; see `RequestQos`."""

    importance: Importance
    tenant: str
    application: str
    expire_after_s: float | None
    """Seconds from the arrival; None: the request never expires."""


JOB_FIELDS = tuple(get_annotations(Owner))
"""The names of an owner's fields, which are those of a job and of `custom_params`."""
_FIELDS = frozenset({"arrival_s", *_TARGETS, *JOB_FIELDS})


@dataclass(frozen=True, slots=True)
class RequestQos:
    """When a request's tokens are due, and whose request it is. Times are on one clock, in s."""

    kind: Kind
    arrival_s: float
    """When the job was published."""
    deadline_s: float
    """Interactive: when the first token is due. Batch: when the last token is due."""
    tbt_s: float = math.inf
    """Interactive: the longest gap allowed between two tokens."""
    importance: Importance = "high"
    """Decides only who is relegated first."""
    tenant: str = ""
    application: str = ""
    """Requests of one tenant and application are expected to have answers of similar length."""
    expires_s: float | None = None
    """The request is dropped when its prefill has not started by then; None: never."""

    @classmethod
    def interactive(
        cls, arrival_s: float, *, ttft_s: float, tbt_s: float, **owner: Unpack[Owner]
    ) -> Self:
        """The first token is due `ttft_s` after the arrival."""
        return cls._of(Kind.INTERACTIVE, arrival_s, arrival_s + ttft_s, tbt_s, **owner)

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
        """The same targets, from `now_s` at the latest.

        An arrival in the future comes from a clock that is ahead, or was. The request would be
        served after all others until then.
        """
        ahead_s = self.arrival_s - now_s
        if ahead_s <= 0:
            return self
        expires_s = None if self.expires_s is None else self.expires_s - ahead_s
        return replace(
            self, arrival_s=now_s, deadline_s=self.deadline_s - ahead_s, expires_s=expires_s
        )

    @property
    def deadline_is_first_token(self) -> bool:
        """Whether the deadline is for the first token. If not, the whole answer has to meet it."""
        match self.kind:
            case Kind.INTERACTIVE:
                return True
            case Kind.BATCH:
                return False
            case _:
                assert_never(self.kind)

    @property
    def limits_gaps(self) -> bool:
        """Whether the gaps between tokens are limited, by `tbt_s`."""
        return math.isfinite(self.tbt_s)

    @property
    def is_important(self) -> bool:
        return self.importance == "high"


def to_custom_params(qos: RequestQos) -> dict[str, object]:
    """The `custom_params` of a request with this quality of service."""
    owner = {
        "importance": qos.importance,
        "tenant": qos.tenant,
        "application": qos.application,
    }
    expiry = {} if qos.expires_s is None else {"expire_after_s": qos.expires_s - qos.arrival_s}
    return {CUSTOM_PARAMS_KEY: {"arrival_s": qos.arrival_s, **_targets(qos), **owner, **expiry}}


def from_custom_params(custom_params: Mapping[str, object] | None, received_s: float) -> RequestQos:
    """The quality of service of a request that the scheduler received at `received_s` (UTC epoch).

    Raises ValueError with a sentence that says what to change.
    """
    fields = (custom_params or {}).get(CUSTOM_PARAMS_KEY, DEFAULT_QOS)
    if not isinstance(fields, Mapping):
        raise ValueError(f'custom_params["qos"] is {fields!r}; give an object like {DEFAULT_QOS}')
    if unknown := sorted(fields.keys() - _FIELDS):
        raise ValueError(f'custom_params["qos"] has unknown fields: {", ".join(unknown)}')
    arrival_s = _number(fields, "arrival_s", default=received_s)
    owner: Owner = {
        "importance": _importance(fields),
        "tenant": _text(fields, "tenant"),
        "application": _text(fields, "application"),
        "expire_after_s": _expire_after_s(fields),
    }
    given = fields.keys() & _TARGETS
    if given == {"ttlt_s"}:
        return RequestQos.batch(arrival_s, ttlt_s=_number(fields, "ttlt_s"), **owner)
    if given == {"ttft_ms", "tbt_ms"}:
        ttft_s, tbt_s = _number(fields, "ttft_ms") / 1000, _number(fields, "tbt_ms") / 1000
        return RequestQos.interactive(arrival_s, ttft_s=ttft_s, tbt_s=tbt_s, **owner)
    raise ValueError('custom_params["qos"] needs either ttft_ms and tbt_ms, or ttlt_s')


def _targets(qos: RequestQos) -> dict[str, float]:
    target_s = qos.deadline_s - qos.arrival_s
    match qos.kind:
        case Kind.INTERACTIVE:
            return {"ttft_ms": target_s * 1000, "tbt_ms": qos.tbt_s * 1000}
        case Kind.BATCH:
            return {"ttlt_s": target_s}
        case _:
            assert_never(qos.kind)


def _importance(fields: Mapping[str, object]) -> Importance:
    match fields.get("importance", "high"):
        case "high":
            return "high"
        case "low":
            return "low"
        case other:
            raise ValueError(f'custom_params["qos"]["importance"] is {other!r}; say high or low')


def _expire_after_s(fields: Mapping[str, object]) -> float | None:
    if "expire_after_s" not in fields:
        return None
    after_s = _number(fields, "expire_after_s")
    if after_s <= 0:
        raise ValueError(f'custom_params["qos"]["expire_after_s"] is {after_s:g}; give more than 0')
    return after_s


def _number(fields: Mapping[str, object], name: str, default: float | None = None) -> float:
    value = fields.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f'custom_params["qos"]["{name}"] is {value!r}; give a number')
    return float(value)


def _text(fields: Mapping[str, object], name: str) -> str:
    value = fields.get(name, "")
    if not isinstance(value, str):
        raise ValueError(f'custom_params["qos"]["{name}"] is {value!r}; give a string')
    return value
