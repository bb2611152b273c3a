"""What a worker says of itself, from what its parts know."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from aiokafka import TopicPartition

from tests.support.records import TOPICS
from workers.engine.load import EngineLoad
from workers.engine.null import NullEngine
from workers.execution.in_flight import InFlightJobs
from workers.intake.backpressure import Budget, Limits
from workers.load.report import WorkerLoad, label
from workers.offsets.watermark import PartitionProgress
from workers.policy.load import ChatForecast, QueueLoad
from workers.policy.qos import Kind

BUDGET = Budget(jobs=7, prompt_tokens=1, memory_bytes=1)
QUEUE = QueueLoad(
    waiting=1,
    prefilling=2,
    overdue=3,
    demand=float("inf"),
    tokens_per_s=1_000.0,
    backlog_s={Kind.BATCH: (0.0, 0.0, 1.5, 2.0, 2.0, 4.0)},
    chats=(ChatForecast(128, 0.25), ChatForecast(8192, float("nan"))),
)


class Engine(NullEngine):
    """Says what the test wants it to say."""

    busy: EngineLoad | None = None

    @property
    def load(self) -> EngineLoad | None:
        return self.busy


class Partitions:
    """Two of the batch topic, one of which nobody has looked at."""

    def __init__(self) -> None:
        self.known, self.new = PartitionProgress(), PartitionProgress()
        self.known.log = range(10, 50)

    def __iter__(self) -> Iterator[tuple[TopicPartition, PartitionProgress]]:
        yield TopicPartition(TOPICS.batch.name, 4), self.known
        yield TopicPartition(TOPICS.batch.name, 1), self.new


class Flow:
    def takes(self, topic: str) -> bool:
        return topic != TOPICS.batch.name


@pytest.fixture
def engine() -> Engine:
    return Engine("a model", context_tokens=4096)


@pytest.fixture
def partitions() -> Partitions:
    return Partitions()


@pytest.fixture
def load(engine: Engine, partitions: Partitions) -> WorkerLoad:
    return WorkerLoad(
        TOPICS,
        Limits(interactive=BUDGET, batch=BUDGET),
        engine,
        InFlightJobs(),
        partitions,  # type: ignore[arg-type]
        Flow(),  # type: ignore[arg-type]
        worker_id="w\x1b[2J" + "x" * 300,
        pool="default",
        is_draining=lambda: True,
        clock=lambda: 1_000.0,
    )


def test_names_that_no_report_may_have_are_made_fit(load: WorkerLoad) -> None:
    report = load.report()
    assert report.worker_id == "w?[2J" + "x" * 251
    assert (report.model, report.draining, report.scheduler) == ("a model", True, None)
    assert label("") == "?"


def test_each_topic_says_what_is_read_taken_and_left(
    load: WorkerLoad, partitions: Partitions
) -> None:
    interactive, batch, _ = load.report().topics
    assert (interactive.partitions, interactive.paused, interactive.lag) == ([], False, 0)
    assert (batch.partitions, batch.paused, batch.lag) == ([1, 4], True, None)
    partitions.new.log = range(5)
    assert load.report().topics[1].lag == 40 + 5  # nothing below 10 is there any more
    partitions.known.take(10)
    assert load.report().topics[1].lag == 39 + 5


def test_what_the_scheduler_says_is_bounded_and_fits_the_model(
    load: WorkerLoad, engine: Engine
) -> None:
    engine.busy = EngineLoad(3, 10.0, float("nan"), 7, 9, QUEUE)
    report = load.report()
    assert (report.running_decodes, report.generated_tokens_per_s) == (3, 0.0)
    assert (report.used_kv_tokens, report.limits.kv_tokens) == (7, 9)
    assert report.scheduler is not None
    assert report.scheduler.demand == 1e8
    assert [each.prompt_tokens for each in report.scheduler.ttft] == [128]
    due = {each.due_within_s: each.work_s for each in report.scheduler.backlog}
    assert due == {1: 0, 10: 0, 60: 1.5, 600: 2, 3600: 2, None: 4}
    engine.busy = replace(engine.busy, queue=None)
    assert load.report().scheduler is None
