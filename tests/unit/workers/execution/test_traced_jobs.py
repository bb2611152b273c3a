"""A traced job's engine knows its trace, and its spans are made when Kafka has its end."""

import itertools
import json
import logging
from collections.abc import AsyncIterator
from dataclasses import replace
from uuid import uuid4

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.trace import format_trace_id

from niyama.log_lines import LineFormatter
from schemas import EventType, JobEvent, JobRequest, QosCatalog
from schemas.headers import Headers
from tests.support.consumer_group import FakeConsumer, FakeGroup, partitions_of
from tests.support.metrics import job_metrics
from tests.support.records import TRACEPARENT, FakeRecord, tracked
from tests.support.senders import FakeSender
from tests.support.spans import KeptSpans
from workers.engine.null import NullEngine
from workers.engine.port import (
    EngineError,
    FinishReason,
    GenerationRequest,
    GenerationUpdate,
    InvalidRequest,
    PrefillChunk,
    PrefillChunks,
    PreparedRequest,
)
from workers.execution.executor import Executor
from workers.execution.in_flight import InFlightJob, InFlightJobs
from workers.job import Job, qos_of
from workers.reporting.job_attempt import JobAttempt
from workers.reporting.reporter import Reporter
from workers.tracing.job_trace import JobTrace
from workers.tracing.spans import SpanMaker
from workers.tracing.traces import JobTraces

NOW_S = 1030.2


class TellingEngine(NullEngine):
    """Tells how it has computed the prompt of whoever has a trace."""

    def __init__(self) -> None:
        super().__init__("m")
        self.traceparents: list[str | None] = []

    async def prepare(self, request: GenerationRequest) -> PreparedRequest:
        self.traceparents.append(request.traceparent)
        return await super().prepare(request)

    async def generate(self, prepared: PreparedRequest) -> AsyncIterator[GenerationUpdate]:
        chunk = PrefillChunk(NOW_S, NOW_S + 0.1, 7, iteration=12, predicted_s=0.2)
        prefill = PrefillChunks((chunk,))
        yield GenerationUpdate("a", (1,), 7, 1, 0, FinishReason.STOP, prefill=prefill)


class FailingEngine(TellingEngine):
    """Gives a prompt up after its first chunk."""

    async def generate(self, prepared: PreparedRequest) -> AsyncIterator[GenerationUpdate]:
        async for update in super().generate(prepared):
            error = EngineError("no memory")
            error.last = replace(update, token_ids=(), finish_reason=FinishReason.CANCELLED)
            raise error
        yield update


class RefusingEngine(NullEngine):
    """Finds every job invalid."""

    async def prepare(self, request: GenerationRequest) -> PreparedRequest:
        raise InvalidRequest("no")


class Harness:
    """An executor, and a clock that goes on by a millisecond whenever it is read."""

    def __init__(self, reporter: Reporter, engine: NullEngine) -> None:
        self.spans, self.in_flight = KeptSpans(), InFlightJobs()
        self.ticks = itertools.count()
        maker = SpanMaker(self.spans.processor.on_end, Resource.get_empty(), "group", "events")
        self.executor = Executor(
            engine,
            self.in_flight,
            reporter,
            partitions=partitions_of(FakeConsumer(FakeGroup())),
            metrics=job_metrics(),
            on_job_left=lambda: None,
            clock=lambda: NOW_S + next(self.ticks) / 1000,
            traces=JobTraces(maker, 0.0, lambda: NOW_S),
        )

    def start(self, headers: Headers = (("traceparent", TRACEPARENT),)) -> InFlightJob:
        record = FakeRecord(headers=headers)
        request = JobRequest(model="m", prompt="p", qos="chat")
        qos = qos_of(request, QosCatalog.shipped().resolve("chat"), NOW_S)
        job = Job(uuid4(), request, qos)
        attempt = JobAttempt.of(record, job.job_id, 1)
        in_flight = self.in_flight.add(job, tracked(record), attempt)
        self.executor.start(in_flight)
        return in_flight


async def test_spans_are_made_once_the_end_is_acknowledged(
    sender: FakeSender, reporter: Reporter
) -> None:
    engine = TellingEngine()
    harness = Harness(reporter, engine)
    job = harness.start()
    assert job.task is not None
    await job.task

    assert not harness.spans.all
    sender.deliver(-1)

    names = {span.name for span in harness.spans.all}
    assert names >= {f"process {job.tracked.record.topic}", "text_completion m", "admission"}
    assert engine.traceparents == [job.trace.traceparent]


async def test_a_job_that_the_engine_gives_up_tells_what_it_computed(
    sender: FakeSender, reporter: Reporter
) -> None:
    harness = Harness(reporter, FailingEngine())
    job = harness.start()
    assert job.task is not None
    await job.task

    assert isinstance(job.trace, JobTrace)
    assert job.trace.prefill is not None
    assert [chunk.iteration for chunk in job.trace.prefill.chunks] == [12]


async def test_nothing_is_made_of_a_job_that_goes_to_another_worker(
    sender: FakeSender, reporter: Reporter
) -> None:
    harness = Harness(reporter, TellingEngine())
    job = harness.start()

    harness.executor.release(job)

    assert not harness.spans.all


async def test_the_trace_of_a_refused_job_and_its_event_say_the_same_of_its_end(
    sender: FakeSender, reporter: Reporter
) -> None:
    harness = Harness(reporter, RefusingEngine("m"))
    job = harness.start()
    assert job.task is not None
    await job.task
    sender.deliver(0)  # the dead letter
    sender.deliver(1)

    event = JobEvent.model_validate_json(sender.values()[1])
    assert event.type is EventType.FAILED
    assert event.times is not None
    [span] = [span for span in harness.spans.all if span.name == "send events"]
    [process] = [span for span in harness.spans.all if span.name.startswith("process ")]
    assert span.start_time is not None
    assert span.start_time / 1e9 == pytest.approx(event.at.timestamp(), abs=1e-5)
    told = {name for name in process.attributes or {} if name.startswith("niyama.time.")}
    assert told == {
        f"niyama.time.until_end.{part.removesuffix('_s')}"
        for part in event.times.until_end.model_dump(exclude_none=True)
    }
    assert job.has_ended
    assert event.trace_id == format_trace_id(process.context.trace_id)


@pytest.mark.parametrize("headers", [[("traceparent", TRACEPARENT)], []])
async def test_what_is_logged_of_a_job_names_the_trace_that_its_spans_have(
    sender: FakeSender, reporter: Reporter, headers: Headers
) -> None:
    logged: list[str] = []

    class LoggingEngine(RefusingEngine):
        async def prepare(self, request: GenerationRequest) -> PreparedRequest:
            logged.append(LineFormatter(None).format(logging.makeLogRecord({"msg": "slow"})))
            return await super().prepare(request)

    harness = Harness(reporter, LoggingEngine("m"))
    job = harness.start(headers)
    assert job.task is not None
    await job.task
    sender.deliver(0)
    sender.deliver(1)

    line = json.loads(logged[0])
    assert {format_trace_id(span.context.trace_id) for span in harness.spans.all} == {
        line["trace_id"]
    }
    assert line["job_id"] == str(job.spec.job_id)
