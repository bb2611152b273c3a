"""When prompts and tokens are due, and when the reader may see the tokens."""

import math
from typing import NamedTuple, assert_never

from workers.policy.decode_length import DecodeLengths
from workers.policy.qos import Kind, RequestQos
from workers.policy.release import Release
from workers.policy.request import Prefill, Request
from workers.policy.settings import Settings, TokenTiming

_STEP = math.log(1.2)
_HOPE = 0.25
"""Share of the answers of a kind that is worth a try."""
_RATE_WITHOUT_HOLD = (0.7, 0.85)
"""The share of what a replica gets done that it gets done with all tokens shown immediately: surely
as much, and hardly more. Capacity so is 8 to 10% lower; decodes have a part in the rest."""
_MUCH = (0.7, 0.95)
"""Pressures, whatever is due when, at which tokens start to be held back and are wholly."""
_MOST_FOR_ANSWER = 0.85
"""Share of the time that a deadline leaves, beside what the prompt takes, that is kept for the
answer, at most."""
_MORE_TOKENS = 16.0
"""What an answer, however long it is, may have still, at least."""


class Circumstances(NamedTuple):
    """Of the replica, as far as they decide how fast tokens have to come."""

    pressure: float
    """From prompts; see `Lookahead.pressure`."""
    near_pressure: float
    """From those that are due soon; see `Lookahead.near_pressure`."""
    offered_load: float
    """Share of what the replica gets done that keeps coming; see `Backlog.offered_load`."""
    shortest_pace_s: float
    """Time between tokens that no answer with a deadline for its last token goes below."""


class Schedule(NamedTuple):
    """When the tokens of a decode are due, and how they are shown."""

    next_due_s: float | None
    """When the next token is due. None: `pace_s` after whatever iteration comes before it."""
    pace_s: float
    """Time between the tokens after that."""
    release: Release | None = None


class PromptDue(NamedTuple):
    """When a prompt has to be computed: an answer that has to be complete needs time after it.

    It keeps a part of its time for itself, so that a guessed length never makes a short deadline
    hopeless.
    """

    due_s: float
    """Few answers are too long to be in time after it; a stream of tokens has slack."""
    latest_s: float
    """An answer as long as expected is in time after it, a first token just in time; no sooner than
    `due_s`."""


def prompt_due(
    prefill: Prefill, lengths: DecodeLengths, token_s: float, settings: Settings
) -> PromptDue:
    """`token_s` is the time of one prompt token in a large batch."""
    qos, request = prefill.request.qos, prefill.request
    match qos.kind:
        case Kind.INTERACTIVE:
            return _first_token_due(prefill, settings)
        case Kind.DEADLINE | Kind.TASK | Kind.BATCH:
            tbt_s, generated = expected_tbt_s(qos, settings), prefill.generated_tokens
            high = lengths.high(request, generated) - generated
            prompt_s = prefill.own_tokens * token_s
            mean = min(high, lengths.to_come(request, generated))
            return PromptDue(
                _before(request.answer_due_s, high * tbt_s, qos.arrival_s + prompt_s),
                _before(request.answer_latest_s, mean * tbt_s, qos.arrival_s + prompt_s),
            )
        case _:
            assert_never(qos.kind)


def _first_token_due(prefill: Prefill, settings: Settings) -> PromptDue:
    """A first token just in time would leave no slack: each iteration would have to be short."""
    qos = prefill.request.qos
    if prefill.generated_tokens or settings.token_timing is TokenTiming.GAPS:
        due_s = qos.deadline_s + prefill.generated_tokens * qos.tbt_s
        return PromptDue(due_s, due_s)
    reserve_s = settings.ttft_reserve * (qos.deadline_s - qos.arrival_s)
    return PromptDue(qos.deadline_s - reserve_s, qos.deadline_s)


def answer_due(prefill: Prefill, lengths: DecodeLengths) -> float:
    """When an answer of the expected length should be complete, if its prompt is in time."""
    qos, request = prefill.request.qos, prefill.request
    if qos.deadline_is_first_token:
        return prefill.due_s + lengths.to_come(request, prefill.generated_tokens) * qos.tbt_s
    return max(prefill.due_s, request.answer_due_s)


def expected_tbt_s(qos: RequestQos, settings: Settings) -> float:
    """The time that is left for each token of an answer that has to be complete."""
    return settings.deadline_tbt_s if qos.is_interactive else settings.batch_tbt_s


def _before(due_s: float, answer_s: float, earliest_s: float) -> float:
    """So long before `due_s`, but after a part of the time from `earliest_s`, when the prompt could
    be computed if nothing else were."""
    return due_s - min(answer_s, _MOST_FOR_ANSWER * max(0.0, due_s - earliest_s))


def decode_schedule(
    prefill: Prefill,
    end_s: float,
    circumstances: Circumstances,
    lengths: DecodeLengths,
    settings: Settings,
) -> Schedule:
    """The schedule of a prompt that was complete, and had its first token, at `end_s`."""
    kind = prefill.request.qos.kind
    match kind:
        case Kind.INTERACTIVE:
            return _interactive_schedule(prefill, end_s, circumstances, settings)
        case Kind.DEADLINE | Kind.TASK | Kind.BATCH:
            generated = prefill.generated_tokens + 1
            return just_enough(prefill.request, generated, end_s, circumstances, lengths, settings)
        case _:
            assert_never(kind)


def just_enough(
    request: Request,
    generated_tokens: int,
    now_s: float,
    circumstances: Circumstances,
    lengths: DecodeLengths,
    settings: Settings,
) -> Schedule:
    """The slowest schedule by which an answer is complete in time, as of now.

    By the length that few answers exceed, or else by the one that is expected, at the shortest pace
    that is granted or slower: every iteration is as short as the shortest pace of all, and the
    prompts that are not computed meanwhile are worth more than the answer. One for which that is
    not enough has the shortest pace while one in four of its kind would be complete in time by it,
    if there is no pressure from prompts; else it goes on like one that has time.
    """
    high = max(_MORE_TOKENS, lengths.high(request, generated_tokens) - generated_tokens)
    mean = max(1.0, min(high, lengths.to_come(request, generated_tokens)))
    longest_s = settings.batch_tbt_s
    shortest_s = min(circumstances.shortest_pace_s, longest_s)
    cases = (
        (request.answer_due_s, high),
        (request.answer_latest_s, high),
        (request.answer_latest_s, mean),
    )
    for due_s, tokens in cases:
        pace_s = (due_s - now_s) / tokens
        if pace_s >= shortest_s:
            pace_s = _stepped(min(pace_s, longest_s), longest_s)
            return Schedule(due_s - tokens * pace_s + pace_s, pace_s)
    pace_s = longest_s
    left = (request.answer_latest_s - now_s) / shortest_s
    short = lengths.quantile(request, generated_tokens, _HOPE) - generated_tokens
    if circumstances.pressure < settings.hold_full and left >= max(1.0, short):
        pace_s = _stepped(shortest_s, longest_s)
    return Schedule(now_s + pace_s, pace_s)


def _stepped(pace_s: float, longest_s: float) -> float:
    """The next shorter of a few paces: what decodes cost grows with how many paces they have."""
    steps = math.ceil(math.log(longest_s / pace_s) / _STEP - 1e-9)
    return longest_s * math.exp(-_STEP * steps)


def hold_share(circumstances: Circumstances, settings: Settings) -> float:
    """Share of a request's spare TTFT for which its first token is held back, 0 to 1.

    Tokens are shown immediately until deadlines are at stake; then the replica uses the time that
    the SLO allows. Work that is due far ahead can be done at the rate at which tokens are shown
    immediately, unless that much work keeps coming, or little of the time is left.
    """
    near = (circumstances.near_pressure, settings.hold_from, settings.hold_full)
    all_work = (circumstances.pressure, settings.hold_from, settings.hold_full)
    keeps_coming = _rising(circumstances.offered_load, *_RATE_WITHOUT_HOLD)
    much = _rising(circumstances.pressure, *_MUCH)
    return max(_rising(*near), min(keeps_coming, _rising(*all_work)), much)


def _rising(value: float, start: float, end: float) -> float:
    """From 0 at the start to 1 at the end."""
    return min(1.0, max(0.0, (value - start) / (end - start)))


def _interactive_schedule(
    prefill: Prefill, first_token_s: float, circumstances: Circumstances, settings: Settings
) -> Schedule:
    qos = prefill.request.qos
    if settings.token_timing is TokenTiming.ENVELOPE:
        due_s = qos.deadline_s + prefill.generated_tokens * qos.tbt_s
        return Schedule(max(due_s, first_token_s) + qos.tbt_s, qos.tbt_s)
    share = hold_share(circumstances, settings)
    if settings.token_timing is TokenTiming.GAPS or share == 0 or prefill.generated_tokens:
        return Schedule(None, qos.tbt_s)
    # Two gaps short of the deadline, so that a late token still meets it.
    left_s = qos.deadline_s - 2 * qos.tbt_s - first_token_s
    first_s = first_token_s + share * max(0.0, left_s)
    return Schedule(first_s + qos.tbt_s, qos.tbt_s, Release(first_s, qos.tbt_s))
