"""When prompts and tokens are due, and when the reader may see the tokens."""

from typing import NamedTuple

from workers.policy.decode_length import DecodeLengths
from workers.policy.qos import Kind
from workers.policy.release import Release
from workers.policy.request import Prefill
from workers.policy.settings import Settings, TokenTiming


class Schedule(NamedTuple):
    """When the tokens of a decode are due, and how they are shown."""

    next_due_s: float | None
    """Of the next token. None: `pace_s` after whatever iteration comes before it, a true gap."""
    pace_s: float
    """Between the tokens after that."""
    release: Release | None = None


def prompt_due_s(prefill: Prefill, lengths: DecodeLengths, settings: Settings) -> float:
    """When the prompt has to be computed: a batch answer needs time after it.

    At most half of its time, so that a guessed length never makes a short deadline hopeless.
    """
    request = prefill.request
    qos = request.qos
    if qos.kind is Kind.INTERACTIVE:
        return qos.deadline_s + prefill.generated_tokens * qos.tbt_s
    answer_s = lengths.high_tokens(request) * settings.batch_tbt_s
    return qos.deadline_s - min(answer_s, (qos.deadline_s - qos.arrival_s) / 2)


def decode_schedule(
    prefill: Prefill, end_s: float, pressure: float, lengths: DecodeLengths, settings: Settings
) -> Schedule:
    """Of a prompt that was complete, and had its first token, at `end_s`."""
    if prefill.request.qos.kind is Kind.INTERACTIVE:
        return _interactive_schedule(prefill, end_s, pressure, settings)
    request, pace_s = prefill.request, settings.batch_tbt_s
    to_come = max(1.0, lengths.high_tokens(request) - (prefill.generated_tokens + 1))
    return Schedule(max(end_s, request.qos.deadline_s - to_come * pace_s) + pace_s, pace_s)


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
    if settings.timing is TokenTiming.ENVELOPE:
        return Schedule(qos.deadline_s + (prefill.generated_tokens + 1) * qos.tbt_s, qos.tbt_s)
    share = hold_share(pressure, settings)
    if settings.timing is TokenTiming.GAPS or share == 0 or prefill.generated_tokens:
        return Schedule(None, qos.tbt_s)
    # Two gaps short of the deadline, so that a late token still meets it.
    left_s = qos.deadline_s - 2 * qos.tbt_s - first_token_s
    first_s = first_token_s + share * max(0.0, left_s)
    return Schedule(first_s + qos.tbt_s, qos.tbt_s, Release(first_s, qos.tbt_s))
