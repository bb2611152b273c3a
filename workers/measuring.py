"""What a worker is asked for when its metrics are collected."""

from collections import Counter

from niyama.telemetry import instruments
from niyama.telemetry.measurements import Measurements, Observed
from workers.execution.in_flight import InFlightJobs
from workers.execution.job_metrics import jobs_in_flight
from workers.offsets.partitions import Partitions
from workers.reporting.batch_sender import BatchSender
from workers.reporting.reporter import Reporter


def observe(
    measurements: Measurements,
    in_flight: InFlightJobs,
    partitions: Partitions,
    sender: BatchSender,
    reporter: Reporter,
) -> None:
    """Show what these have, and what they have counted."""
    see = measurements.observe
    see(instruments.JOBS_IN_FLIGHT, lambda: jobs_in_flight(in_flight))
    see(instruments.PARTITIONS, lambda: _partitions(partitions))
    see(instruments.WATERMARK_LAG, lambda: _watermark_lag(partitions))
    see(instruments.UNSENT, lambda: [(each.unsent_bytes, (each.topic,)) for each in sender.topics])
    see(
        instruments.SENT_MESSAGES,
        lambda: [(each.delivered, (each.topic,)) for each in sender.topics],
    )
    see(
        instruments.DROPPED_MESSAGES,
        lambda: [(each.given_up, (each.topic,)) for each in sender.topics],
    )
    see(
        instruments.DEAD_LETTERS,
        lambda: [(count, (code,)) for code, count in list(reporter.refusals.items())],
    )


def _partitions(partitions: Partitions) -> Observed:
    counts = Counter(tp.topic for tp, _ in partitions)
    return [(count, (topic,)) for topic, count in counts.items()]


def _watermark_lag(partitions: Partitions) -> Observed:
    lags: Counter[str] = Counter()
    for tp, progress in partitions:
        lags[tp.topic] += progress.position - progress.watermark
    return [(lag, (topic,)) for topic, lag in lags.items()]
