"""Where a job's time went, as the API shows it."""

from gateway.api.view import View
from gateway.ledger.breakdown import Breakdown, Parts


class PartsView(View):
    """Seconds. A part that took no time is null."""

    publish_s: float | None = None
    """From the timestamp of its record until a worker that was reading its partition had it."""
    queue_s: float | None = None
    """In Kafka, while no worker read its partition: none was there, or had room."""
    earlier_attempts_s: float | None = None
    """From the first sign of an attempt that did not finish to when the last one began."""
    preparing_s: float | None = None
    """In the worker, before the engine had it."""
    waiting_s: float | None = None
    """In the engine, while other work went before its prompt."""
    parked_s: float | None = None
    """In the engine, after its prompt was paused for a more urgent one."""
    computing_s: float | None = None
    """In iterations that computed its prompt."""
    prefill_s: float | None = None
    """Waiting, parked and computing since its prefill started: told apart at the job's end."""
    decode_s: float | None = None
    """Generating."""
    retracted_s: float | None = None
    """From when its KV cache was taken back until it generated again."""
    paced_s: float | None = None
    """Its tokens were there, and were held back until they were due."""
    delivery_s: float | None = None
    """From the engine to the worker's report."""


class TimesView(View):
    """Where the time went, from the job's arrival to its end, or until now."""

    total_s: float
    until_first_token: PartsView | None = None
    """Null: there was no token."""
    until_end: PartsView
    """From the first token on; if there was none, from the arrival."""
    clocks_s: float
    """The total less the parts: what the clocks of producer and worker disagree about, or were set
    by meanwhile. Negative: the producer's clock is ahead."""


def times_view(spent: Breakdown) -> TimesView:
    return TimesView(
        total_s=spent.total_s,
        until_first_token=spent.until_first_token and _parts(spent.until_first_token),
        until_end=_parts(spent.until_end),
        clocks_s=round(spent.clocks_s, 6),
    )


def _parts(parts: Parts) -> PartsView:
    return PartsView(**{f"{part}_s": seconds for part, seconds in parts.items()})
