"""Quality of service as a part of a request's sampling parameters: `custom_params["qos"]`.

With the names of a job, one of

    {"ttft_ms": 1000, "tbt_ms": 100}     interactive
    {"ttlt_ms": 8000}                    deadline
    {"task": {"id": "trip-17", "deadline_s": 1795305600.0, "call": 2, "calls_left": 3}}
    {"ttlt_s": 600}                      batch

and optionally `importance` ("high" or "low"), `tenant` and `application`, whose answers are
expected to be of similar length; `expire_after_s`, the seconds after which the request is answered
with an error when its prefill has not started; and `arrival_s`, the UTC epoch seconds from which
all of these count; without it they count from when the scheduler receives the request. A task's
`deadline_s` is in UTC epoch seconds; `call` and `calls_left` are optional.
"""

from collections.abc import Mapping
from typing import assert_never

from workers.policy.qos import JOB_FIELDS, Importance, Kind, Owner, RequestQos, Task

CUSTOM_PARAMS_KEY = "qos"
DEFAULT_QOS: Mapping[str, object] = {"ttft_ms": 1000.0, "tbt_ms": 100.0}
"""For requests that say nothing: among themselves they are served in order of arrival."""
MAX_CALLS = 10_000
"""As in a job (`schemas.qos`)."""

_LARGEST = 1e12
"""Of any number here. Sums of such times are finite, and exact to a millisecond."""

_TARGETS = frozenset({"ttft_ms", "tbt_ms", "ttlt_ms", "ttlt_s", "task"})
_FIELDS = frozenset({"arrival_s", *_TARGETS, *JOB_FIELDS})
_TASK_FIELDS = frozenset({"id", "deadline_s", "call", "calls_left"})


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
    return _qos(fields, arrival_s, owner)


def _qos(fields: Mapping[str, object], arrival_s: float, owner: Owner) -> RequestQos:
    given = fields.keys() & _TARGETS
    if given == {"ttlt_s"}:
        return RequestQos.batch(arrival_s, ttlt_s=_duration(fields, "ttlt_s"), **owner)
    if given == {"ttlt_ms"}:
        return RequestQos.deadline(arrival_s, ttlt_s=_duration(fields, "ttlt_ms") / 1000, **owner)
    if given == {"task"}:
        task, deadline_s = _task(fields["task"])
        return RequestQos.call(arrival_s, task=task, deadline_s=deadline_s, **owner)
    if given == {"ttft_ms", "tbt_ms"}:
        ttft_s, tbt_s = _duration(fields, "ttft_ms") / 1000, _number(fields, "tbt_ms") / 1000
        if tbt_s <= 0:
            raise ValueError(
                f'custom_params["qos"]["tbt_ms"] is {fields["tbt_ms"]}; give more than 0'
            )
        return RequestQos.interactive(arrival_s, ttft_s=ttft_s, tbt_s=tbt_s, **owner)
    raise ValueError('custom_params["qos"] needs one of: ttft_ms and tbt_ms; ttlt_ms; ttlt_s; task')


def _targets(qos: RequestQos) -> dict[str, object]:
    target_s = qos.deadline_s - qos.arrival_s
    match qos.kind:
        case Kind.INTERACTIVE:
            return {"ttft_ms": target_s * 1000, "tbt_ms": qos.tbt_s * 1000}
        case Kind.DEADLINE:
            return {"ttlt_ms": target_s * 1000}
        case Kind.TASK:
            assert qos.task is not None
            task = {"call": qos.task.call, "calls_left": qos.task.calls_left}
            said = {name: number for name, number in task.items() if number is not None}
            return {"task": {"id": qos.task.task_id, "deadline_s": qos.deadline_s, **said}}
        case Kind.BATCH:
            return {"ttlt_s": target_s}
        case _:
            assert_never(qos.kind)


def _task(value: object) -> tuple[Task, float]:
    """The task and its deadline, UTC epoch seconds."""
    if not isinstance(value, Mapping):
        raise ValueError(
            f'custom_params["qos"]["task"] is {value!r}; give an object with id and deadline_s'
        )
    if unknown := sorted(value.keys() - _TASK_FIELDS):
        raise ValueError(f'custom_params["qos"]["task"] has unknown fields: {", ".join(unknown)}')
    task_id = value.get("id")
    if not isinstance(task_id, str) or not task_id:
        raise ValueError(f'custom_params["qos"]["task"]["id"] is {task_id!r}; give a string')
    deadline_s = _number(value, "deadline_s", within="task")
    return Task(task_id, _count(value, "call", 1), _count(value, "calls_left", 0)), deadline_s


def _count(task: Mapping[str, object], name: str, least: int) -> int | None:
    value = task.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= MAX_CALLS:
        raise ValueError(
            f'custom_params["qos"]["task"]["{name}"] is {value!r}; '
            f"give a number from {least} to {MAX_CALLS}"
        )
    return value


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


def _duration(fields: Mapping[str, object], name: str) -> float:
    """Zero is what a very small target can become: a job's deadline is an absolute time."""
    value = _number(fields, name)
    if value < 0:
        raise ValueError(f'custom_params["qos"]["{name}"] is {value:g}; give no less than 0')
    return value


def _number(
    fields: Mapping[str, object], name: str, default: float | None = None, within: str = ""
) -> float:
    value = fields.get(name, default)
    path = f'["{within}"]["{name}"]' if within else f'["{name}"]'
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
        raise ValueError(f'custom_params["qos"]{path} is {value!r}; give a number')
    if abs(value) > _LARGEST:
        raise ValueError(
            f'custom_params["qos"]{path} is {value!r}; give a number of at most {_LARGEST:g}'
        )
    return float(value)


def _text(fields: Mapping[str, object], name: str) -> str:
    value = fields.get(name, "")
    if not isinstance(value, str):
        raise ValueError(f'custom_params["qos"]["{name}"] is {value!r}; give a string')
    return value
