"""Grouped margin goodput maximization, the selection rule of JITServe (arXiv 2504.20068).

As its abstract and its published artifact (github.com/UIUC-MLSys/JITServe) have it. Requests gain
tokens, an answer's counting 8 times a prompt's, where they meet their objective; what would be late
loses most of its gain. The batch is the group of similar lengths that gains most per second.
"""

import math
from bisect import bisect_right, insort
from collections import deque
from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

from workers.policy.request import Request

ANSWER_WEIGHT = 8
"""What a token of an answer counts, in tokens of a prompt; the artifact's."""
FIRST_ESTIMATE_TOKENS = 1024
"""The length of an answer before anything is known; the artifact's."""
_HISTORY = 1_000
_LEAST_S = 1e-6


class UpperBounds:
    """Upper bounds of answer lengths: a quantile of the answers that were longer than this one is.

    The paper predicts from the prompt's text by a quantile regression forest, and refines that
    while tokens come. A trace has no text, so the history of the tenant and application, which is
    what all policies here know, takes its place.
    """

    def __init__(self, quantile: float) -> None:
        self._quantile = quantile
        self._recent: dict[tuple[str, str], deque[int]] = {}
        self._ordered: dict[tuple[str, str], list[int]] = {}

    def observe(self, request: Request, answer_tokens: int) -> None:
        key = (request.qos.tenant, request.qos.application)
        recent = self._recent.setdefault(key, deque())
        ordered = self._ordered.setdefault(key, [])
        if len(recent) == _HISTORY:
            del ordered[bisect_right(ordered, recent.popleft()) - 1]
        recent.append(answer_tokens)
        insort(ordered, answer_tokens)

    def tokens(self, request: Request, generated: int) -> int:
        """Of the whole answer, of which `generated` tokens have come; more than these."""
        ordered = self._ordered.get((request.qos.tenant, request.qos.application), [])
        shorter = bisect_right(ordered, generated)
        longer = len(ordered) - shorter
        bound = FIRST_ESTIMATE_TOKENS
        if ordered:
            at = shorter + math.ceil(self._quantile * longer) - 1
            bound = ordered[at] if longer else 0
        most = request.max_output_tokens
        return max(generated + 1, bound if most is None else min(bound, most))


class CallCounts:
    """How many calls the tasks of an application have, by those that have come."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, str], list[int]] = {}
        """First, second, third ... calls of tasks."""

    def observe(self, request: Request) -> None:
        seen = self._seen.setdefault((request.qos.tenant, request.qos.application), [])
        call = _call(request)
        seen.extend([0] * (call - len(seen)))
        seen[call - 1] += 1

    def share_s(self, request: Request) -> float:
        """By when the answer has to be complete: the time left is shared with the calls to come.

        In equal parts. The artifact shares it by the time that the stages of the most similar task
        took; stages that it does not know are alike.
        """
        qos = request.qos
        if qos.task is None:
            return qos.deadline_s
        left = qos.task.calls_left
        calls = 1.0 + (self._expected_left(request) if left is None else left)
        return qos.arrival_s + (qos.deadline_s - qos.arrival_s) / calls

    def _expected_left(self, request: Request) -> float:
        seen = self._seen.get((request.qos.tenant, request.qos.application), [])
        call = _call(request)
        so_far = seen[call - 1] if call <= len(seen) else 0
        return sum(seen[call:]) / max(1, so_far)


def _call(request: Request) -> int:
    task = request.qos.task
    return 1 if task is None or task.call is None else task.call


class Progress(NamedTuple):
    """How far a request is. Lengths in tokens."""

    request: Request
    share_s: float
    """By when its answer has to be complete; `CallCounts.share_s`."""
    prompt_left: int
    generated: int
    bound: int
    """Upper bound of the whole answer's length."""

    @property
    def length(self) -> int:
        """What groups are made by: the prompt and what has been generated."""
        return self.request.prompt_tokens + self.generated


class Pace(NamedTuple):
    """How fast requests advance that are in the batch."""

    iteration_s: float
    chunk_tokens: int
    """Prompt tokens of one iteration."""

    def prompt_s(self, progress: Progress) -> float:
        return self.iteration_s * math.ceil(progress.prompt_left / self.chunk_tokens)

    def remaining_s(self, progress: Progress) -> float:
        left_s = self.iteration_s * (progress.bound - progress.generated)
        return max(_LEAST_S, self.prompt_s(progress) + left_s)


class Margin(NamedTuple):
    """What a request gains by being in the batch; the larger goes first."""

    urgent: bool
    """It has to be in the batch before the next choice to be in time."""
    density: float
    """Gain per second of serving, prompt-equivalent tokens."""


def margin_of(
    progress: Progress, pace: Pace, now_s: float, *, penalty: float, horizon_s: float
) -> Margin:
    """The margin of a request now; the next choice is in `horizon_s` seconds.

    The gain of what would finish late is multiplied by (time allowed / time taken) ** penalty. A
    request with gaps to keep is allowed TTFT + bound * TBT for its answer, and gains what is left
    of it; any other gains all of it, at its deadline. `urgent` is "just enough": of those that are
    in time as long as they wait, none needs to be served before the others. A call of a task is
    urgent by its share of the task's time, and late by the task's deadline.
    """
    qos, remaining_s = progress.request.qos, pace.remaining_s(progress)
    served_s = now_s - qos.arrival_s
    allowed_s = qos.deadline_s - qos.arrival_s
    gain, slack_s = 0.0, progress.share_s - now_s - remaining_s
    answer = progress.bound
    if qos.deadline_is_first_token:
        if progress.generated == 0:
            first_s = served_s + pace.prompt_s(progress) + pace.iteration_s
            gain = progress.request.prompt_tokens * _ratio(allowed_s, first_s) ** penalty
            slack_s = allowed_s - first_s
        else:
            slack_s = allowed_s + progress.generated * qos.tbt_s - served_s
        answer -= progress.generated
        allowed_s += progress.bound * qos.tbt_s
    else:
        gain = progress.request.prompt_tokens * _ratio(allowed_s, served_s + remaining_s) ** penalty
    late = _ratio(allowed_s, served_s + remaining_s) ** penalty
    gain += ANSWER_WEIGHT * answer * late
    return Margin(slack_s < horizon_s and late > 0.5, gain / remaining_s)


def best_group(
    candidates: Sequence[tuple[Margin, int, str]], size: int, *, breadth: int
) -> list[str]:
    """The ids of at most `size` requests of similar length that gain most.

    Of (margin, length, id) the best `breadth * size` are sorted by length; the group is the window
    with the most urgent ones, and of these the largest sum of densities.
    """
    best = sorted(candidates, key=lambda each: (each[0], each[2]), reverse=True)[: breadth * size]
    best.sort(key=lambda each: (each[1], each[2]))
    if len(best) <= size:
        return [request_id for _, _, request_id in best]
    urgent = list(accumulate((margin.urgent for margin, _, _ in best), initial=0))
    density = list(accumulate((margin.density for margin, _, _ in best), initial=0.0))
    start = max(
        range(len(best) - size + 1),
        key=lambda at: (urgent[at + size] - urgent[at], density[at + size] - density[at]),
    )
    return [request_id for _, _, request_id in best[start : start + size]]


def _ratio(allowed_s: float, taken_s: float) -> float:
    return max(_LEAST_S, min(1.0, allowed_s / max(_LEAST_S, taken_s)))
