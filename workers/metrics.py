"""What a worker is asked for when its metrics are collected."""

from collections import Counter
from collections.abc import Callable

from niyama.telemetry.instruments import shared
from niyama.telemetry.instruments import worker as instruments
from niyama.telemetry.measurements import Measurements, Observed, ObservedRows
from workers.engine.load import EngineLoad, IterationCounts
from workers.execution.in_flight import InFlightJobs
from workers.execution.job_metrics import jobs_in_flight
from workers.latency.model import Regime
from workers.offsets.partitions import Partitions
from workers.policy.load import QueueLoad
from workers.policy.qos import Kind
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
        shared.DROPPED_MESSAGES,
        lambda: [(each.given_up, (each.topic,)) for each in sender.topics],
    )
    see(
        shared.DEAD_LETTERS,
        lambda: [(count, (code,)) for code, count in list(reporter.refusals.items())],
    )


def observe_engine(
    measurements: Measurements,
    load: Callable[[], EngineLoad | None],
    context_tokens: int | None = None,
) -> None:
    """Show what the engine and its scheduler last said; it is no more than a second old.

    `context_tokens`: the most that the model has room for, if that is known.
    """

    def of_engine(values: Callable[[EngineLoad], Observed]) -> Callable[[], Observed]:
        return lambda: () if (current := load()) is None else values(current)

    def of_queue(values: Callable[[QueueLoad], Observed]) -> Callable[[], Observed]:
        return of_engine(lambda engine: () if engine.queue is None else values(engine.queue))

    def of_iterations(
        rows_of: Callable[[IterationCounts], ObservedRows],
    ) -> Callable[[], ObservedRows]:
        def rows() -> ObservedRows:
            current = load()
            counts = None if current is None else current.iterations
            return () if counts is None else rows_of(counts)

        return rows

    see, see_rows = measurements.observe, measurements.observe_rows
    see(instruments.DEMAND, of_queue(lambda queue: [(queue.demand, ())]))
    see(instruments.QUEUED_REQUESTS, of_engine(_requests))
    see(instruments.BACKLOG, of_queue(_backlog))
    see(instruments.PREDICTED_TTFT, of_queue(lambda queue: _predicted_ttft(queue, context_tokens)))
    see(instruments.KV_USED, of_engine(lambda engine: _known(engine.used_kv_tokens)))
    see(instruments.KV_SIZE, of_engine(lambda engine: _known(engine.kv_tokens)))
    see(instruments.THROUGHPUT, of_engine(_throughput))
    see_rows(instruments.PREDICTION_RATIO, of_iterations(_prediction_ratios))
    see_rows(
        instruments.ITERATION_DURATION, of_iterations(lambda counts: [(counts.duration_s, ())])
    )
    see_rows(instruments.CHUNK_TOKENS, of_iterations(lambda counts: [(counts.chunk_tokens, ())]))


def _prediction_ratios(counts: IterationCounts) -> ObservedRows:
    rows = zip(counts.prediction_ratio, Regime, strict=True)
    return [(row, (regime.name.lower(),)) for row, regime in rows]


def _requests(engine: EngineLoad) -> Observed:
    yield engine.decodes, ("decode",)
    if (queue := engine.queue) is not None:
        yield queue.waiting, ("waiting",)
        yield queue.prefilling, ("prefill",)
        yield queue.overdue, ("overdue",)


def _backlog(queue: QueueLoad) -> Observed:
    return [(queue.backlog_s[kind][-1] if kind in queue.backlog_s else 0, (kind,)) for kind in Kind]


def _predicted_ttft(queue: QueueLoad, context_tokens: int | None) -> Observed:
    chats = queue.chats_within(context_tokens)
    return [(each.ttft_s, (str(each.prompt_tokens),)) for each in chats if each.ttft_s is not None]


def _throughput(engine: EngineLoad) -> Observed:
    return [(engine.prompt_tokens_per_s, ("input",)), (engine.generated_tokens_per_s, ("output",))]


def _known(value: int | None) -> Observed:
    return () if value is None else [(value, ())]


def _partitions(partitions: Partitions) -> Observed:
    counts = Counter(tp.topic for tp, _ in partitions)
    return [(count, (topic,)) for topic, count in counts.items()]


def _watermark_lag(partitions: Partitions) -> Observed:
    lags: Counter[str] = Counter()
    for tp, progress in partitions:
        lags[tp.topic] += progress.position - progress.watermark
    return [(lag, (topic,)) for topic, lag in lags.items()]
