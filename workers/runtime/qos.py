"""A request's quality of service on its way into SGLang's scheduler process.

It travels as `sampling_params.custom_params["qos"]`, with the names of a job's `qos`:

    {"ttft_ms": 1000, "tbt_ms": 100}     interactive
    {"ttlt_s": 600}                      batch

and optionally `importance` ("high" or "low"), `tenant` and `app`, whose answers are expected to be
of similar length; `expire_after_s`, the seconds after which the request is answered with an error
when its prompt has not begun to be computed; and `arrival_s`, the UTC epoch seconds from which all
of these count; without it they count from when the scheduler receives the request.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from workers.engine import EngineQos

CUSTOM_PARAMS_KEY = "qos"
DEFAULT_QOS: Mapping[str, Any] = {"ttft_ms": 1000.0, "tbt_ms": 100.0}
"""For requests that say nothing: among themselves they are served in order of arrival."""

_FIELDS = frozenset(
    {"arrival_s", "ttft_ms", "tbt_ms", "ttlt_s", "importance", "tenant", "app", "expire_after_s"}
)


def to_custom_params(qos: EngineQos) -> dict[str, Any]:
    """The `custom_params` of a request with this quality of service."""
    target_s = qos.deadline_s - qos.arrival_s
    if qos.tbt_s is None:
        targets = {"ttlt_s": target_s}
    else:
        targets = {"ttft_ms": target_s * 1000, "tbt_ms": qos.tbt_s * 1000}
    owner = {"importance": qos.importance, "tenant": qos.tenant, "app": qos.app}
    expiry = {} if qos.expires_s is None else {"expire_after_s": qos.expires_s - qos.arrival_s}
    return {CUSTOM_PARAMS_KEY: {"arrival_s": qos.arrival_s, **targets, **owner, **expiry}}


def from_custom_params(custom_params: Mapping[str, Any] | None, received_s: float) -> EngineQos:
    """The quality of service of a request that the scheduler received at `received_s` (UTC epoch).

    Raises ValueError with a sentence that says what to change.
    """
    qos = (custom_params or {}).get(CUSTOM_PARAMS_KEY, DEFAULT_QOS)
    if not isinstance(qos, Mapping):
        raise ValueError(f'custom_params["qos"] is {qos!r}; give an object like {DEFAULT_QOS}')
    if unknown := sorted(qos.keys() - _FIELDS):
        raise ValueError(f'custom_params["qos"] has unknown fields: {", ".join(unknown)}')
    arrival_s = _number(qos, "arrival_s", default=received_s)
    targets = _targets(qos)
    importance = qos.get("importance", "high")
    if importance not in ("high", "low"):
        raise ValueError(f'custom_params["qos"]["importance"] is {importance!r}; say high or low')
    return EngineQos(
        arrival_s,
        arrival_s + targets.deadline_after_s,
        targets.tbt_s,
        importance,
        tenant=_text(qos, "tenant"),
        app=_text(qos, "app"),
        expires_s=_expires_s(qos, arrival_s),
    )


@dataclass(frozen=True, slots=True)
class _Targets:
    deadline_after_s: float
    tbt_s: float | None


def _targets(qos: Mapping[str, Any]) -> _Targets:
    if "ttlt_s" in qos and not qos.keys() & {"ttft_ms", "tbt_ms"}:
        return _Targets(_number(qos, "ttlt_s"), tbt_s=None)
    if {"ttft_ms", "tbt_ms"} <= qos.keys() and "ttlt_s" not in qos:
        return _Targets(_number(qos, "ttft_ms") / 1000, _number(qos, "tbt_ms") / 1000)
    raise ValueError('custom_params["qos"] needs either ttft_ms and tbt_ms, or ttlt_s')


def _expires_s(qos: Mapping[str, Any], arrival_s: float) -> float | None:
    if "expire_after_s" not in qos:
        return None
    after_s = _number(qos, "expire_after_s")
    if after_s <= 0:
        raise ValueError(f'custom_params["qos"]["expire_after_s"] is {after_s:g}; give more than 0')
    return arrival_s + after_s


def _number(qos: Mapping[str, Any], name: str, default: float | None = None) -> float:
    value = qos.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f'custom_params["qos"]["{name}"] is {value!r}; give a number')
    return float(value)


def _text(qos: Mapping[str, Any], name: str) -> str:
    value = qos.get(name, "")
    if not isinstance(value, str):
        raise ValueError(f'custom_params["qos"]["{name}"] is {value!r}; give a string')
    return value
