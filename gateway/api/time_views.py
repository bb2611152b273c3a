"""Where a job's time went, as the API shows it."""

from gateway.api.view import Measured, View
from gateway.ledger.breakdown import Breakdown, Parts
from schemas import TimeParts


class PartsView(TimeParts):
    """Seconds. A part that took no time is null.

    A worker reports its job's parts when the job ends. Until then, and without such a report,
    `intake_s`, `waiting_s`, `prefill_s` and `answer_s` are what is known.
    """

    earlier_attempts_s: float | None = None
    """From the first sign of an attempt that did not finish to when the last one began."""
    intake_s: float | None = None
    """Publish, queue and preparing, not told apart: until it was admitted."""
    prefill_s: float | None = None
    """Waiting, parked, computing and beside others since its prefill started, not told apart."""
    answer_s: float | None = None
    """All that came after its first token, not told apart."""


class TimesView(View):
    """Where the time went, from the job's arrival to its end, or until now."""

    total_s: Measured
    until_first_token: PartsView | None = None
    """Null: there was no token."""
    until_end: PartsView
    """From the first token on; if there was none, from the arrival."""
    clock_skew_s: Measured
    """The total less the parts: what the clocks of producer and worker disagree about, or were set
    by meanwhile. Negative: the producer's clock is ahead."""


def times_view(spent: Breakdown) -> TimesView:
    return TimesView(
        total_s=spent.total_s,
        until_first_token=spent.until_first_token and _parts(spent.until_first_token),
        until_end=_parts(spent.until_end),
        clock_skew_s=round(spent.clock_skew_s, 6),
    )


def _parts(parts: Parts) -> PartsView:
    return PartsView.model_validate(parts)
