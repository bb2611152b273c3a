"""Tasks of several calls: what share of a task's time each call may take.

A call is all that a replica knows for certain: other calls of its task may be elsewhere. What its
application's tasks are like is learned from the calls that come here.
"""

import math
from collections import OrderedDict
from dataclasses import replace
from typing import NamedTuple

from workers.policy.request import Request, Share

MOST_APPLICATIONS = 1_024
MOST_TASKS = 4_096
MOST_CALLS = 64
"""Calls of a task that are counted; later ones count as this one."""
_PRIOR_LEFT = 1.0
"""Calls that are expected to follow one of which nothing is known."""
_PRIOR_WEIGHT = 2.0
_FORGET = 0.02
_MOST_COUNTED = 512.0
"""First calls after which what was counted before weighs half."""

_Application = tuple[str, str]


class _Mean:
    """An exponentially forgetting mean."""

    __slots__ = ("count", "value")

    def __init__(self) -> None:
        self.count = 0
        self.value = 0.0

    def add(self, value: float) -> None:
        self.count += 1
        self.value += max(1 / self.count, _FORGET) * (value - self.value)


class _History:
    """What tasks of one application are like."""

    __slots__ = ("call_s", "client_s", "reached")

    def __init__(self) -> None:
        self.reached = [0.0] * (MOST_CALLS + 1)
        """By number: calls seen. Of calls spread over replicas each sees the same part of every
        number, so that ratios are right everywhere."""
        self.call_s = _Mean()
        """What a call takes when nothing is in its way."""
        self.client_s = _Mean()
        """From an answer to the next call."""

    def count(self, call: int) -> None:
        self.reached[call] += 1
        if self.reached[1] > _MOST_COUNTED or self.reached[call] > _MOST_COUNTED:
            self.reached = [each / 2 for each in self.reached]

    def calls_left(self, call: int) -> float:
        """How many calls are expected to follow."""
        later = sum(self.reached[call + 1 :])
        return (later + _PRIOR_LEFT * _PRIOR_WEIGHT) / (self.reached[call] + _PRIOR_WEIGHT)


class _Seen(NamedTuple):
    """The last call of a task that came here."""

    call: int
    answered_s: float | None


class Tasks:
    """Keeps what the last applications and tasks are like: bounded, whatever arrives."""

    def __init__(self) -> None:
        self._histories: OrderedDict[_Application, _History] = OrderedDict()
        self._seen: OrderedDict[tuple[_Application, str], _Seen] = OrderedDict()

    def arrived(self, request: Request, now_s: float, call_s: float) -> Request:
        """The request with its share, if it is a call of a task.

        `call_s` is what it takes when nothing is in its way.
        """
        task = request.qos.task
        if task is None:
            return request
        application = _application(request)
        history = self._history(application)
        call = self._count(application, history, request)
        left = history.calls_left(call) if task.calls_left is None else float(task.calls_left)
        history.call_s.add(call_s)
        due_s = share_of(
            now_s,
            request.qos.deadline_s,
            call_s,
            left * history.call_s.value,
            left * history.client_s.value,
        )
        known_s = (task.calls_left or 0) * history.call_s.value
        latest_s = max(due_s, request.qos.deadline_s - known_s)
        return replace(request, share=Share(due_s, latest_s))

    def answered(self, request: Request, now_s: float) -> None:
        """A call, or another request, was answered."""
        if request.qos.task is None:
            return
        key = (_application(request), request.qos.task.task_id)
        if (seen := self._seen.get(key)) is not None:
            self._seen[key] = seen._replace(answered_s=now_s)

    def _count(self, application: _Application, history: _History, request: Request) -> int:
        """Which call of its task it is, up to MOST_CALLS; learns what its arrival says."""
        task = request.qos.task
        assert task is not None
        key = (application, task.task_id)
        seen = self._seen.pop(key, _Seen(0, None))
        call = min(MOST_CALLS, task.call or seen.call + 1)
        if call == seen.call + 1 and seen.answered_s is not None:
            history.client_s.add(max(0.0, request.qos.arrival_s - seen.answered_s))
        if call != seen.call:  # and not the same one again
            history.count(call)
        self._seen[key] = _Seen(call, None)
        if len(self._seen) > MOST_TASKS:
            self._seen.popitem(last=False)
        return call

    def _history(self, application: _Application) -> _History:
        history = self._histories.setdefault(application, _History())
        self._histories.move_to_end(application)
        if len(self._histories) > MOST_APPLICATIONS:
            self._histories.popitem(last=False)
        return history


def share_of(
    now_s: float, deadline_s: float, call_s: float, later_s: float, client_s: float
) -> float:
    """When a call should be answered that takes `call_s`, others after it `later_s` in all.

    `client_s` is the time that the client needs in between. Of what is left besides, the call has
    the square root of its part of the work (1 of 4 equal calls the half): what it does not use is
    shared again with the next. Where nothing is left, the time is shared in proportion.
    """
    left_s = deadline_s - now_s
    if left_s <= 0 or call_s <= 0:
        return deadline_s
    slack_s = left_s - call_s - later_s - client_s
    if slack_s < 0:
        return min(deadline_s, now_s + left_s * (call_s / (call_s + later_s + client_s)))
    part = math.sqrt(call_s / (call_s + later_s))
    return min(deadline_s, now_s + call_s + slack_s * part)


def _application(request: Request) -> _Application:
    return request.qos.tenant, request.qos.application
