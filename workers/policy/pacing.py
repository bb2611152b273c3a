"""When prompts and tokens are due, and when the reader may see the tokens."""

from typing import NamedTuple, assert_never

from workers.policy.decode_length import DecodeLengths
from workers.policy.qos import Kind
from workers.policy.release import Release
from workers.policy.request import Prefill
from workers.policy.settings import Settings, TokenTiming


class Schedule(NamedTuple):
    """When the tokens of a decode are due, and how they are shown."""

    next_due_s: float | None
    """When the next token is due. None: `pace_s` after whatever iteration comes before it."""
    pace_s: float
    """Time between the tokens after that."""
    release: Release | None = None


class PromptDue(NamedTuple):
    """When a prompt has to be computed: a batch answer needs time after it.

    At most half of its time, so that a guessed length never makes a short deadline hopeless.
    """

    due_s: float
    """Few answers are too long to be in time after it."""
    latest_s: float
    """An answer as long as expected is in time after it; no sooner than `due_s`."""


def prompt_due(prefill: Prefill, lengths: DecodeLengths, settings: Settings) -> PromptDue:
    qos, request = prefill.request.qos, prefill.request
    match qos.kind:
        case Kind.INTERACTIVE:
            due_s = qos.deadline_s + prefill.generated_tokens * qos.tbt_s
            return PromptDue(due_s, due_s)
        case Kind.BATCH:
            most_s = (qos.deadline_s - qos.arrival_s) / 2
            high_s = lengths.high_tokens(request) * settings.batch_tbt_s
            mean_s = lengths.mean_tokens(request) * settings.batch_tbt_s
            return PromptDue(
                qos.deadline_s - min(high_s, most_s), qos.deadline_s - min(mean_s, most_s)
            )
        case _:
            assert_never(qos.kind)


def decode_schedule(
    prefill: Prefill, end_s: float, pressure: float, lengths: DecodeLengths, settings: Settings
) -> Schedule:
    """The schedule of a prompt that was complete, and had its first token, at `end_s`."""
    kind = prefill.request.qos.kind
    match kind:
        case Kind.INTERACTIVE:
            return _interactive_schedule(prefill, end_s, pressure, settings)
        case Kind.BATCH:
            return _batch_schedule(prefill, end_s, lengths, settings)
        case _:
            assert_never(kind)


def hold_share(pressure: float, settings: Settings) -> float:
    """Share of a request's spare TTFT for which its first token is held back, 0 to 1.

    Linear in the pressure (`Lookahead.pressure`) from `hold_from` to `hold_full`: tokens are shown
    immediately until deadlines are at stake; then the replica uses the time that the SLO allows.
    """
    span = settings.hold_full - settings.hold_from
    return min(1.0, max(0.0, (pressure - settings.hold_from) / span))


def _interactive_schedule(
    prefill: Prefill, first_token_s: float, pressure: float, settings: Settings
) -> Schedule:
    qos = prefill.request.qos
    if settings.token_timing is TokenTiming.ENVELOPE:
        due_s = qos.deadline_s + prefill.generated_tokens * qos.tbt_s
        return Schedule(max(due_s, first_token_s) + qos.tbt_s, qos.tbt_s)
    share = hold_share(pressure, settings)
    if settings.token_timing is TokenTiming.GAPS or share == 0 or prefill.generated_tokens:
        return Schedule(None, qos.tbt_s)
    # Two gaps short of the deadline, so that a late token still meets it.
    left_s = qos.deadline_s - 2 * qos.tbt_s - first_token_s
    first_s = first_token_s + share * max(0.0, left_s)
    return Schedule(first_s + qos.tbt_s, qos.tbt_s, Release(first_s, qos.tbt_s))


def _batch_schedule(
    prefill: Prefill, first_token_s: float, lengths: DecodeLengths, settings: Settings
) -> Schedule:
    request, pace_s = prefill.request, settings.batch_tbt_s
    to_come = max(1.0, lengths.high_tokens(request) - (prefill.generated_tokens + 1))
    start_s = max(first_token_s, request.qos.deadline_s - to_come * pace_s)
    return Schedule(start_s + pace_s, pace_s)
