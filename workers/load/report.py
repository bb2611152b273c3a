"""One worker's load report, from what its parts know at this moment."""

import math
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from importlib.metadata import version

from schemas import LoadReport, PoolTopics
from schemas.load import (
    MAX_DEMAND,
    MAX_LABEL_CHARACTERS,
    MAX_PARTITIONS,
    MAX_PER_S,
    MAX_SECONDS,
    Backlog,
    PredictedTtft,
    SchedulerLoad,
    TopicShare,
    WorkerLimits,
)
from workers.engine.load import EngineLoad
from workers.engine.port import Engine
from workers.execution.in_flight import InFlightJobs
from workers.intake.backpressure import Limits
from workers.intake.flow_control import FlowControl
from workers.offsets.partitions import Partitions
from workers.policy.load import HORIZONS_S, QueueLoad

_CONTROL_CHARACTERS = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class WorkerLoad:
    """Looks at the parts of a worker; nothing of theirs changes."""

    def __init__(
        self,
        topics: PoolTopics,
        limits: Limits,
        engine: Engine,
        in_flight: InFlightJobs,
        partitions: Partitions,
        flow: FlowControl,
        *,
        worker_id: str,
        pool: str,
        is_draining: Callable[[], bool],
        clock: Callable[[], float],
    ) -> None:
        """`clock` gives UTC epoch seconds."""
        self._topics = topics
        self._limits = limits
        self._engine = engine
        self._in_flight = in_flight
        self._partitions = partitions
        self._flow = flow
        self._worker_id = label(worker_id)
        self._pool = pool
        self._is_draining = is_draining
        self._clock = clock
        self._started_at = self._now()
        self._version = version("niyama")  # once: it is read from a file

    def report(self) -> LoadReport:
        """As of now."""
        load = self._engine.load
        return LoadReport(
            worker_id=self._worker_id,
            pool=self._pool,
            model=label(self._engine.model),
            version=self._version,
            started_at=self._started_at,
            reported_at=self._now(),
            draining=self._is_draining(),
            limits=self._worker_limits(load),
            topics=[self._share(spec.name) for spec in self._topics.jobs],
            **_of_engine(load, self._engine.context_tokens),
        )

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock(), UTC)

    def _worker_limits(self, load: EngineLoad | None) -> WorkerLimits:
        return WorkerLimits(
            context_tokens=self._engine.context_tokens,
            kv_tokens=load.kv_tokens if load is not None else None,
            interactive_jobs=self._limits.interactive.jobs,
            batch_jobs=self._limits.batch.jobs,
        )

    def _share(self, topic: str) -> TopicShare:
        read = {tp.partition: each for tp, each in self._partitions if tp.topic == topic}
        taken = self._in_flight.load(topic)
        lags = [each.lag for each in read.values()]
        return TopicShare(
            topic=topic,
            partitions=sorted(read)[:MAX_PARTITIONS],
            jobs=taken.jobs,
            prompt_tokens=taken.prompt_tokens,
            paused=not self._flow.takes(topic),
            lag=None if None in lags else sum(each or 0 for each in lags),
        )


def label(text: str) -> str:
    """`text` as reports may have it."""
    return _CONTROL_CHARACTERS.sub("?", text)[:MAX_LABEL_CHARACTERS] or "?"


def _of_engine(load: EngineLoad | None, context_tokens: int | None) -> dict[str, object]:
    if load is None:
        return {}
    return {
        "running_decodes": load.decodes,
        "prompt_tokens_per_s": _bounded(load.prompt_tokens_per_s, MAX_PER_S),
        "generated_tokens_per_s": _bounded(load.generated_tokens_per_s, MAX_PER_S),
        "used_kv_tokens": load.used_kv_tokens,
        "scheduler": None if load.queue is None else _scheduler(load.queue, context_tokens),
    }


def _scheduler(queue: QueueLoad, context_tokens: int | None) -> SchedulerLoad:
    return SchedulerLoad(
        waiting=queue.waiting,
        prefilling=queue.prefilling,
        overdue=queue.overdue,
        demand=_bounded(queue.demand, MAX_DEMAND),
        capacity_tokens_per_s=_bounded(queue.tokens_per_s, MAX_PER_S),
        backlog=list(_backlog(queue)),
        ttft=[
            PredictedTtft(
                prompt_tokens=chat.prompt_tokens,
                ttft_s=None if chat.ttft_s is None else _bounded(chat.ttft_s, MAX_SECONDS),
            )
            for chat in queue.chats_within(context_tokens)
        ],
    )


def _backlog(queue: QueueLoad) -> Iterator[Backlog]:
    for kind, works_s in queue.backlog_s.items():
        for horizon_s, work_s in zip(HORIZONS_S, works_s, strict=True):
            yield Backlog(
                kind=kind,
                due_within_s=horizon_s if math.isfinite(horizon_s) else None,
                work_s=_seconds(work_s),
            )


def _seconds(value: float) -> float:
    return _bounded(value, MAX_SECONDS)


def _bounded(value: float, most: float) -> float:
    """Rounded, and as large as a report may say."""
    return round(min(max(value, 0.0), most), 4) if value == value else 0.0
