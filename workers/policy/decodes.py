"""The running decodes: how many, how much context, and when the next token is due.

All decodes take part in every iteration, so each advances by one token per iteration. Decodes
whose tokens are due every `pace_s` seconds keep their order among each other (see `Cadence`): no
iteration looks at every decode, unless drafts are accepted.
"""

import heapq
import math
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from operator import itemgetter
from typing import NamedTuple, Protocol

from workers.policy.cadence import Cadence
from workers.policy.decode_length import DecodeLengths
from workers.policy.request import Request
from workers.policy.step_tokens import StepTokens

_LATE_PER_CALL = 16
"""Answers that `relax_late` looks at: bounds the cost of a plan when a deadline passes for many."""
_REVISED_TOKENS = 16
"""Tokens between two looks at the schedule of an answer that has to be complete in time."""
_MAX_PACE_S = 3_600.0
"""Longer paces count as this one, so that iterations times pace stay exact beside clock times."""


class _Decode(NamedTuple):
    request: Request
    pace_s: float
    joined_iteration: int
    context_tokens: int
    generated_tokens: int
    """When it joined."""
    counted_tokens: int
    """Of all that it has generated, what the beliefs about lengths have heard of."""
    tokens_to_come: float
    """What was expected then."""
    accepted_tokens: int = 0
    """Of drafts: what it has generated beyond one token of each iteration."""


class DecodeLoad(NamedTuple):
    """What the decodes add to an iteration: their tokens, and the sum of their context lengths."""

    decodes: int
    """One each; with drafts, the tokens that are verified for each."""
    context_tokens: int


NO_DECODES = DecodeLoad(0, 0)


class MostUrgent(NamedTuple):
    """When a token is due, the pace of its decode, and how many are expected from it on."""

    due_s: float
    pace_s: float
    tokens_to_come: float
    request_id: str = ""
    step_tokens: float = 1.0
    """Tokens that an iteration is expected to give it."""


class Answers(Protocol):
    """What is learned of answers; see `Learning`."""

    lengths: DecodeLengths
    step_tokens: StepTokens
    verified_tokens: int


class Decodes:
    def __init__(self, learned: Answers | None = None) -> None:
        """`learned` hears how far answers have come, whether they end or not."""
        self._lengths = learned.lengths if learned else DecodeLengths(learn=False)
        self._step_tokens = learned.step_tokens if learned else StepTokens()
        self._verified_tokens = learned.verified_tokens if learned else 1
        self._iteration = 0
        self._running: OrderedDict[str, _Decode] = OrderedDict()
        """Of whose length was estimated last, last."""
        self._cadences: dict[float, Cadence] = {}
        """By pace; none is empty."""
        self._revisions: list[tuple[int, str]] = []
        """A heap of iterations after which the schedule of a decode is looked at again."""
        self._revise_at: dict[str, int] = {}
        """What counts of them."""
        self._unmixed = 0
        """Decodes that keep all others from sharing an iteration with prompts."""
        self.context_tokens = 0
        """Sum of the context lengths."""
        self.tokens_to_come = 0.0
        """Sum of what was expected of each when it was estimated last."""

    def __len__(self) -> int:
        return len(self._running)

    def __contains__(self, request_id: str) -> bool:
        return request_id in self._running

    @property
    def mix(self) -> bool:
        """Prompts can be computed in one iteration with the running decodes."""
        return not self._unmixed

    @property
    def mixed_load(self) -> DecodeLoad:
        """In an iteration with prompts, where engines verify no drafts."""
        return DecodeLoad(len(self._running), self.context_tokens)

    @property
    def load(self) -> DecodeLoad:
        """In an iteration of their own."""
        return DecodeLoad(len(self._running) * self._verified_tokens, self.context_tokens)

    def tokens_per_s(self, shortest_s: float) -> float:
        """Of all, each at its pace; no decode has more than a token in `shortest_s`."""
        return sum(len(each) / max(pace_s, shortest_s) for pace_s, each in self._cadences.items())

    def add(
        self,
        request: Request,
        *,
        next_due_s: float | None,
        pace_s: float,
        context_tokens: int,
        generated_tokens: int,
        revised: bool = False,
    ) -> None:
        """A prompt is complete and `generated_tokens` are out; later ones follow at `pace_s`.

        `next_due_s` None: there is no schedule, and each token is due `pace_s` after the one
        before it. With `revised` its schedule is looked at again while tokens come (`to_revise`).
        """
        pace_s = min(pace_s, _MAX_PACE_S)
        due_s = math.inf if next_due_s is None else next_due_s
        self._join_cadence(request.request_id, due_s, pace_s)
        to_come = self._lengths.to_come(request, generated_tokens)
        self._running[request.request_id] = _Decode(
            request,
            pace_s,
            self._iteration,
            context_tokens,
            generated_tokens,
            generated_tokens - 1,
            to_come,
        )
        if revised:
            self._revise_later(request.request_id)
        self._unmixed += not request.decode_mixes
        self.tokens_to_come += to_come
        self.context_tokens += context_tokens

    def remove(self, request_id: str) -> tuple[Request, int]:
        """Take a decode out; returns its request and the tokens generated so far.

        How long its answer would have been, nobody knows.
        """
        decode = self._take_out(request_id)
        generated = self._generated(decode)
        self._lengths.passed(decode.request, generated, counted=decode.counted_tokens)
        return decode.request, generated

    def finish(self, request_id: str) -> Request:
        """The answer of a decode has ended."""
        decode = self._take_out(request_id)
        generated = self._generated(decode)
        self._lengths.ended(decode.request, generated, counted=decode.counted_tokens)
        return decode.request

    def to_revise(self, limit: int) -> Iterator[tuple[Request, int]]:
        """At most `limit` of those to look at again, and how many tokens of each have come."""
        left = limit
        while left and self._revisions and self._revisions[0][0] <= self._iteration:
            at, request_id = heapq.heappop(self._revisions)
            if self._revise_at.get(request_id) != at:
                continue  # it has left
            left -= 1
            self._revise_later(request_id)
            decode = self._running[request_id]
            yield decode.request, self._generated(decode)

    def reschedule(self, request_id: str, next_due_s: float | None, pace_s: float) -> None:
        """From its next token on, as in `add`."""
        decode = self._running[request_id]
        self._leave_cadence(request_id, decode.pace_s)
        pace_s = min(pace_s, _MAX_PACE_S)
        self._running[request_id] = decode._replace(pace_s=pace_s)
        self._join_cadence(request_id, math.inf if next_due_s is None else next_due_s, pace_s)

    def advance(self) -> None:
        """Every running decode produced one token; the length of one is estimated anew."""
        self._iteration += 1
        self.context_tokens += len(self._running)
        if self._running:
            self._review(next(iter(self._running)))

    def accepted(self, tokens: Mapping[str, int]) -> None:
        """What decodes had of the last iteration beyond one token each, by request id.

        Those whose draft was rejected count, with 0; unknown ids are ignored.
        """
        known = {each: tokens[each] for each in tokens if each in self._running}
        self._step_tokens.observe(len(known), len(known) + sum(known.values()))
        for request_id, more in known.items():
            if more:
                self._accept(request_id, more)

    def shortest_gap_s(self) -> float:
        """The least pace of the decodes without a schedule; infinity without any."""
        unscheduled = (p for p, each in self._cadences.items() if each.last_rank_s == math.inf)
        return min(unscheduled, default=math.inf)

    def most_urgent(self) -> MostUrgent | None:
        """The decode whose next token is due first, infinity without a schedule; None for none."""
        if (first := self._first()) is None:
            return None
        due_s, request_id = first
        decode = self._running[request_id]
        to_come = self._lengths.to_come(decode.request, self._generated(decode))
        steps = self._iteration - decode.joined_iteration
        step_tokens = self._step_tokens.of(steps, steps + decode.accepted_tokens)
        return MostUrgent(due_s, decode.pace_s, to_come, request_id, step_tokens)

    def next_due_s(self) -> float:
        """When the most urgent next token is due; infinity without decodes."""
        first = self._first()
        return math.inf if first is None else first[0]

    def shift_late(self, end_s: float) -> None:
        """Tokens that came out late at `end_s` move the rest of their schedule back."""
        for cadence in self._cadences.values():
            cadence.shift_late(self._iteration, end_s)

    def relax_late(self, now_s: float, pace_s: float) -> None:
        """Answers past the deadline for their last token go on at `pace_s`, if that is slower.

        Only those whose next tokens would be due first are looked at: the others hold nobody up.
        """
        for _ in range(_LATE_PER_CALL):
            if (first := self._first()) is None:
                return
            _, request_id = first
            decode = self._running[request_id]
            if decode.pace_s >= min(pace_s, _MAX_PACE_S):
                return
            qos = decode.request.qos
            if qos.deadline_is_first_token or now_s <= qos.deadline_s:
                return
            self._revise_at.pop(request_id, None)
            self.reschedule(request_id, now_s + min(pace_s, _MAX_PACE_S), pace_s)

    def clock_stepped(self, step_s: float) -> None:
        """The clock was set by `step_s`: what is due, is due as much later."""
        for cadence in self._cadences.values():
            cadence.clock_stepped(step_s)

    def _first(self) -> tuple[float, str] | None:
        """When the first of the next tokens is due, and of which decode."""
        firsts = (cadence.first(self._iteration) for cadence in self._cadences.values())
        return min(firsts, key=itemgetter(0), default=None)

    def _generated(self, decode: _Decode) -> int:
        return decode.generated_tokens + self._progress(decode)

    def _progress(self, decode: _Decode) -> int:
        """Tokens since it joined."""
        return self._iteration - decode.joined_iteration + decode.accepted_tokens

    def _accept(self, request_id: str, tokens: int) -> None:
        decode = self._running[request_id]
        due_s = self._cadences[decode.pace_s].due_s(request_id, self._iteration)
        self._leave_cadence(request_id, decode.pace_s)
        self._join_cadence(request_id, due_s + tokens * decode.pace_s, decode.pace_s)
        accepted_tokens = decode.accepted_tokens + tokens
        self._running[request_id] = decode._replace(accepted_tokens=accepted_tokens)
        self.context_tokens += tokens

    def _take_out(self, request_id: str) -> _Decode:
        decode = self._running.pop(request_id)
        self._revise_at.pop(request_id, None)
        self._unmixed -= not decode.request.decode_mixes
        self.context_tokens -= decode.context_tokens + self._progress(decode)
        self.tokens_to_come -= decode.tokens_to_come
        self._leave_cadence(request_id, decode.pace_s)
        return decode

    def _review(self, request_id: str) -> None:
        """Estimate anew how many tokens a decode still has to come."""
        decode = self._running[request_id]
        generated = self._generated(decode)
        self._lengths.passed(decode.request, generated, counted=decode.counted_tokens)
        to_come = self._lengths.to_come(decode.request, generated)
        self.tokens_to_come += to_come - decode.tokens_to_come
        self._running[request_id] = decode._replace(
            counted_tokens=generated, tokens_to_come=to_come
        )
        self._running.move_to_end(request_id)

    def _revise_later(self, request_id: str) -> None:
        at = self._revise_at[request_id] = self._iteration + _REVISED_TOKENS
        heapq.heappush(self._revisions, (at, request_id))

    def _join_cadence(self, request_id: str, due_s: float, pace_s: float) -> None:
        cadence = self._cadences.get(pace_s)
        if cadence is None:
            cadence = self._cadences[pace_s] = Cadence(pace_s, self._iteration)
        cadence.add(request_id, due_s, self._iteration)

    def _leave_cadence(self, request_id: str, pace_s: float) -> None:
        cadence = self._cadences[pace_s]
        cadence.remove(request_id)
        if not cadence:
            del self._cadences[pace_s]
