"""A job's trace: which are kept once it is known how the job ended, and what their spans say."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode, format_span_id, format_trace_id

from schemas import ChatMessage, EventType, JobError, JobRequest, JobResult, JobTimes, Usage
from schemas.headers import Headers, trace_context
from schemas.times import TimeParts
from tests.support.records import TRACEPARENT, FakeRecord
from tests.support.spans import KeptSpans
from workers.engine.port import PrefillChunk, PrefillChunks
from workers.job import Job
from workers.policy.decision import Decision, DecisionKind, Forecast
from workers.policy.qos import RequestQos
from workers.tracing.job_trace import MAX_DECISIONS, JobTrace, NoTrace
from workers.tracing.spans import SpanMaker
from workers.tracing.traces import KEPT_AT_ONCE_S, KEPT_PER_S, JobTraces, Share

ARRIVED_S = 1000.0
JOB_ID = UUID(int=7)
CHAT = RequestQos.interactive(ARRIVED_S, ttft_s=1.0, tbt_s=0.1, tenant="t")
BATCH = RequestQos.batch(ARRIVED_S, ttlt_s=60.0)
UNSAMPLED = [("traceparent", TRACEPARENT[:-1] + b"0")]
RECORD = FakeRecord(b"{}", "jobs", partition=3, offset=17)
ASKED = JobRequest(
    model="m", messages=[ChatMessage(role="user", content="hi")], max_tokens=100, qos="chat"
)


@dataclass
class Setting:
    """Traces of a worker that samples nothing by itself, at a time that the test sets."""

    sample_ratio: float = 0.0
    now_s: float = ARRIVED_S

    def __post_init__(self) -> None:
        self.spans = KeptSpans()
        maker = SpanMaker(self.spans.processor.on_end, Resource.get_empty(), "group", "events")
        self.traces = JobTraces(maker, self.sample_ratio, lambda: self.now_s)

    def chat(
        self,
        qos: RequestQos = CHAT,
        headers: Headers = UNSAMPLED,
        first_token_s: float = 0.5,
        attempt: int = 1,
    ) -> JobTrace:
        """A job that was read at 0.1 s, admitted at 0.2 s and started at 0.3 s."""
        job = Job(JOB_ID, ASKED, qos)
        trace = self.traces.begin(RECORD, attempt, job, headers, ARRIVED_S + 0.1)
        trace.admitted(ARRIVED_S + 0.2)
        trace.decided(Decision("r", DecisionKind.STARTED, ARRIVED_S + 0.3))
        trace.first_token(ARRIVED_S + first_token_s)
        return trace

    def completed(self, trace: JobTrace, after_s: float = 0.9, gap_ms: float = 50.0) -> None:
        usage = Usage(prompt_tokens=12, completion_tokens=4, cached_tokens=8)
        trace.ended(
            EventType.COMPLETED,
            ARRIVED_S + after_s,
            usage=usage,
            largest_gap_ms=gap_ms,
            result=JobResult(text="x", finish_reason="stop"),
        )
        self.now_s = ARRIVED_S + after_s + 0.01
        self.deliver(trace)

    def deliver(self, trace: JobTrace | NoTrace) -> str | None:
        kept = self.traces.keep(trace)
        self.traces.delivered(trace)
        return kept

    def span(self, name: str) -> ReadableSpan:
        [found] = [span for span in self.spans.all if span.name == name]
        return found

    def attributes(self, name: str) -> dict[str, Any]:
        return dict(self.span(name).attributes or {})


def _interval(span: ReadableSpan) -> tuple[float, float]:
    """In seconds after the arrival."""
    assert span.start_time is not None
    assert span.end_time is not None
    start_s, end_s = span.start_time / 1e9 - ARRIVED_S, span.end_time / 1e9 - ARRIVED_S
    return pytest.approx(start_s, abs=1e-5), pytest.approx(end_s, abs=1e-5)


# ---- which are kept


def test_nothing_is_kept_of_an_unsampled_job_that_was_in_time() -> None:
    setting = Setting()

    setting.completed(setting.chat())

    assert not setting.spans.all


@pytest.mark.parametrize(
    ("qos", "first_token_s", "after_s", "gap_ms"),
    [
        pytest.param(CHAT, 1.1, 1.2, 50.0, id="its first token"),
        pytest.param(CHAT, 0.5, 0.9, 101.0, id="one of its gaps"),
        pytest.param(BATCH, 0.5, 60.1, 101.0, id="its last token"),
    ],
)
def test_a_late_job_is_kept(
    qos: RequestQos, first_token_s: float, after_s: float, gap_ms: float
) -> None:
    setting = Setting()

    setting.completed(setting.chat(qos, first_token_s=first_token_s), after_s, gap_ms)

    assert setting.attributes("process jobs")["niyama.trace.kept_because"] == ("late",)


def test_a_relegated_job_is_kept() -> None:
    setting = Setting()
    trace = setting.chat()
    trace.decided(Decision("r", DecisionKind.RELEGATED, ARRIVED_S + 0.25, "overload"))

    setting.completed(trace)

    assert setting.attributes("process jobs")["niyama.trace.kept_because"] == ("relegated",)


def test_a_retried_job_is_kept() -> None:
    setting = Setting()

    setting.completed(setting.chat(attempt=2))

    kept = setting.attributes("process jobs")
    assert kept["niyama.trace.kept_because"] == ("retried",)
    assert kept["niyama.job.attempt"] == 2


def test_a_failed_job_is_kept_with_its_error() -> None:
    setting = Setting()
    trace = setting.chat()

    trace.ended(
        EventType.FAILED, ARRIVED_S + 0.6, error=JobError(code="too_large", message="too much")
    )
    setting.deliver(trace)

    for name in ("process jobs", "chat m"):
        assert setting.span(name).status.status_code is StatusCode.ERROR
        assert setting.attributes(name)["error.type"] == "too_large"


def test_the_id_of_a_trace_is_told_when_it_is_kept() -> None:
    setting = Setting()
    kept, other = setting.chat(attempt=2), setting.chat()
    for trace in (kept, other):
        trace.ended(EventType.COMPLETED, ARRIVED_S + 0.9)

    assert setting.deliver(other) is None
    assert setting.deliver(kept) == TRACEPARENT.decode().split("-")[1]


def test_a_cancelled_job_is_not_late() -> None:
    setting = Setting()
    trace = setting.chat(first_token_s=2.0)

    trace.ended(EventType.CANCELLED, ARRIVED_S + 3)
    setting.deliver(trace)

    assert not setting.spans.all


def test_a_refused_record_is_a_span_that_failed() -> None:
    setting = Setting()
    error = JobError(code="unknown_qos", message="no")

    trace = setting.traces.refused(RECORD, 1, JOB_ID, UNSAMPLED, error, ARRIVED_S)
    setting.deliver(trace)

    assert [span.name for span in setting.spans.all] == ["send events", "process jobs"]
    assert setting.attributes("process jobs")["error.type"] == "unknown_qos"


def test_a_sampled_job_is_kept_however_it_ended() -> None:
    setting = Setting()

    setting.completed(setting.chat(headers=[("traceparent", TRACEPARENT)]))

    assert setting.attributes("process jobs")["niyama.trace.kept_because"] == ("sampled",)


@pytest.mark.parametrize("sample_ratio", [0.0, 1.0])
def test_jobs_whose_producer_does_not_trace_are_sampled_by_the_worker(sample_ratio: float) -> None:
    setting = Setting(sample_ratio)

    setting.completed(setting.chat(headers=()))

    assert bool(setting.spans.all) == bool(sample_ratio)


@given(st.binary(max_size=70) | st.text("0f-", min_size=55, max_size=55).map(str.encode))
def test_a_traceparent_that_means_nothing_begins_a_new_trace(value: bytes) -> None:
    setting = Setting(sample_ratio=1.0)

    setting.completed(setting.chat(headers=trace_context([("traceparent", value)])), after_s=5)

    contexts = {span.get_span_context().trace_id for span in setting.spans.all}  # type: ignore[union-attr]
    assert len(contexts) <= 1


def test_of_two_traceparents_the_first_counts() -> None:
    setting = Setting()
    other = TRACEPARENT.replace(b"0af7", b"ffff")

    trace = setting.chat(headers=[("traceparent", TRACEPARENT), ("traceparent", other)])
    setting.completed(trace)

    assert trace.traceparent.encode()[:35] == TRACEPARENT[:35]
    for span in setting.spans.all:
        assert span.parent is not None
        assert span.parent.trace_id == trace.trace_id == span.context.trace_id


def test_in_an_overload_only_so_many_are_kept_in_a_second_and_the_rest_is_counted() -> None:
    setting = Setting()
    per_s = KEPT_PER_S[Share.OUTCOME]
    at_once = int(per_s * KEPT_AT_ONCE_S)

    for _ in range(at_once + 10):
        setting.completed(setting.chat(first_token_s=2.0))

    assert (setting.traces.kept, setting.traces.dropped) == (at_once, 10)
    setting.completed(setting.chat(first_token_s=2.0), after_s=0.9 + 1.5 / per_s)
    assert setting.traces.kept == at_once + 1


@pytest.mark.parametrize("headers", [UNSAMPLED, [("traceparent", TRACEPARENT)]])
def test_records_that_are_no_jobs_take_no_late_jobs_trace(headers: Headers) -> None:
    setting = Setting()
    error = JobError(code="invalid_json", message="no")
    for _ in range(1_000):
        setting.deliver(setting.traces.refused(RECORD, 1, JOB_ID, headers, error, ARRIVED_S))
    kept = setting.traces.kept

    setting.completed(setting.chat(first_token_s=2.0))

    assert kept == KEPT_PER_S[Share.REFUSED] * KEPT_AT_ONCE_S
    assert setting.traces.kept == kept + 1


@pytest.mark.parametrize(
    ("kind", "code", "share"),
    [
        (EventType.FAILED, "invalid_request", Share.REFUSED),
        (EventType.FAILED, "prompt_too_long", Share.REFUSED),
        (EventType.FAILED, "too_large", Share.REFUSED),
        (EventType.EXPIRED, None, Share.EXPIRED),
    ],
)
def test_jobs_that_could_not_but_fail_take_no_late_jobs_trace(
    kind: EventType, code: Any, share: Share
) -> None:
    setting = Setting()
    error = code and JobError(code=code, message="no")
    for _ in range(1_000):
        trace = setting.chat()
        trace.ended(kind, ARRIVED_S + 0.6, error=error)
        setting.deliver(trace)
    kept = setting.traces.kept

    setting.completed(setting.chat(first_token_s=2.0))

    assert kept == KEPT_PER_S[share] * KEPT_AT_ONCE_S
    assert setting.traces.kept == kept + 1


def test_garbage_does_not_take_the_trace_of_a_job_that_killed_its_workers() -> None:
    setting = Setting()
    for code in ["invalid_json"] * 1_000 + ["too_many_attempts"]:
        error = JobError(code=code, message="no")
        kept = setting.deliver(
            setting.traces.refused(RECORD, 1, JOB_ID, UNSAMPLED, error, ARRIVED_S)
        )
    assert kept is not None


def test_a_producer_that_samples_everything_takes_no_late_jobs_trace() -> None:
    setting = Setting()
    for _ in range(1_000):
        setting.completed(setting.chat(headers=[("traceparent", TRACEPARENT)]))
    kept = setting.traces.kept

    setting.completed(setting.chat(first_token_s=2.0))

    assert kept == KEPT_PER_S[Share.SAMPLED] * KEPT_AT_ONCE_S
    assert setting.traces.kept == kept + 1


def test_a_trace_that_cannot_be_made_harms_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    setting = Setting()
    monkeypatch.setattr(SpanMaker, "make", lambda *_: 1 / 0)

    setting.completed(setting.chat(first_token_s=2.0))

    assert setting.traces.dropped == 1


# ---- what they say


def test_the_phases_of_a_job_follow_one_another() -> None:
    setting = Setting()
    trace = setting.chat(first_token_s=1.2)
    chunks = (
        PrefillChunk(ARRIVED_S + 0.3, ARRIVED_S + 0.4, 256, iteration=41, predicted_s=0.09),
        PrefillChunk(ARRIVED_S + 0.6, ARRIVED_S + 0.7, 100, iteration=45, predicted_s=0.05),
    )
    trace.prefilled(PrefillChunks(chunks))
    trace.decided(Decision("r", DecisionKind.PARKED, ARRIVED_S + 0.4, "a closer deadline"))
    trace.decided(Decision("r", DecisionKind.RESUMED, ARRIVED_S + 0.6))

    setting.completed(trace, after_s=2.0)

    assert {
        span.name: _interval(span) for span in setting.spans.all if span.name != "prefill chunk"
    } == {
        "admission": (0.1, 0.2),
        "queue": (0.2, 0.3),
        "parked": (0.4, 0.6),
        "prefill": (0.3, 0.7),
        "decode": (0.7, 2.0),
        "chat m": (0.2, 2.0),
        "send events": (2.0, 2.01),
        "process jobs": (0.1, 2.01),
    }
    computed = [dict(s.attributes or {}) for s in setting.spans.all if s.name == "prefill chunk"]
    assert [each["niyama.iteration"] for each in computed] == [41, 45]
    assert [each["niyama.chunk.tokens"] for each in computed] == [256, 100]
    events = {event.name: dict(event.attributes or {}) for event in setting.span("chat m").events}
    assert events["niyama.parked"]["niyama.reason"] == "a closer deadline"
    assert events["niyama.parked"]["niyama.slack"] == pytest.approx(0.6)
    assert events["niyama.first_token"]["niyama.slack"] == pytest.approx(-0.2)


def test_a_prompt_that_was_cut_off_shows_the_chunks_that_ran_and_no_decode() -> None:
    setting = Setting()
    trace = setting.chat()
    trace.first_token_s = None
    ran = PrefillChunk(ARRIVED_S + 0.3, ARRIVED_S + 0.4, 256, iteration=41, predicted_s=0.09)
    trace.prefill = PrefillChunks((ran,))
    trace.decided(Decision("r", DecisionKind.RETRACTED, ARRIVED_S + 0.5, "memory"))

    setting.completed(trace, after_s=2.0)

    spans = {span.name: _interval(span) for span in setting.spans.all}
    assert spans["prefill chunk"] == (0.3, 0.4)
    assert spans["prefill"] == (0.3, 2.0)
    assert "decode" not in spans
    assert "niyama.retracted" in {event.name for event in setting.span("chat m").events}


def test_a_forecast_is_told_with_the_decision_that_was_made_on_it() -> None:
    setting = Setting()
    trace = setting.chat()
    forecast = Forecast(queue_wait_s=4.0, finish_s=ARRIVED_S + 5)
    trace.decided(Decision("r", DecisionKind.RELEGATED, ARRIVED_S + 0.25, "overload", forecast))

    setting.completed(trace)

    events = {event.name: dict(event.attributes or {}) for event in setting.span("chat m").events}
    assert events["niyama.relegated"]["niyama.forecast.queue_wait"] == 4.0
    assert events["niyama.relegated"]["niyama.forecast.slack"] == -4.0


def test_it_says_where_the_time_went() -> None:
    setting = Setting()
    trace = setting.chat(first_token_s=2.0)
    times = JobTimes(
        until_first_token=TimeParts(queue_s=1.5, computing_s=0.5), until_end=TimeParts(decode_s=3)
    )
    trace.ended(EventType.COMPLETED, ARRIVED_S + 5, times=times)

    setting.deliver(trace)

    told = setting.attributes("process jobs").items()
    assert {name: value for name, value in told if name.startswith("niyama.time.")} == {
        "niyama.time.until_first_token.queue": 1.5,
        "niyama.time.until_first_token.computing": 0.5,
        "niyama.time.until_end.decode": 3,
    }


def test_all_spans_are_of_the_trace_in_the_record_and_hang_together() -> None:
    setting = Setting()
    trace = setting.chat(headers=[("traceparent", TRACEPARENT)])

    setting.completed(trace)

    trace_id, parent_id = TRACEPARENT.decode().split("-")[1:3]
    process, chat = setting.span("process jobs"), setting.span("chat m")
    for span in setting.spans.all:
        assert format_trace_id(span.context.trace_id) == trace_id
    assert process.parent is not None
    assert format_span_id(process.parent.span_id) == parent_id
    assert chat.parent == process.context
    assert setting.span("queue").parent == chat.context
    assert trace.traceparent == f"00-{trace_id}-{format_span_id(chat.context.span_id)}-01"


def test_spans_are_named_and_described_by_the_semantic_conventions() -> None:
    setting = Setting()

    setting.completed(setting.chat(first_token_s=2.0), after_s=3.0)

    assert setting.span("process jobs").kind is SpanKind.CONSUMER
    process = setting.attributes("process jobs")
    assert (
        process.items()
        >= {
            "messaging.system": "kafka",
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.destination.name": "jobs",
            "messaging.destination.partition.id": "3",
            "messaging.consumer.group.name": "group",
            "messaging.kafka.offset": 17,
            "messaging.message.conversation_id": str(JOB_ID),
            "niyama.job.deadline_at": "1970-01-01T00:16:41.000+00:00",
            "niyama.job.outcome": "completed",
            "niyama.tenant": "t",
        }.items()
    )
    assert process["niyama.topic_wait"] == pytest.approx(0.1)
    assert (
        setting.attributes("chat m").items()
        >= {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "sglang",
            "gen_ai.request.model": "m",
            "gen_ai.request.max_tokens": 100,
            "gen_ai.usage.input_tokens": 12,
            "gen_ai.usage.output_tokens": 4,
            "gen_ai.usage.cache_read.input_tokens": 8,
            "gen_ai.response.finish_reasons": ("stop",),
            "niyama.slack": -2.0,
        }.items()
    )


def test_a_job_that_is_parked_without_end_has_a_bounded_trace() -> None:
    setting = Setting()
    trace = setting.chat(first_token_s=2.0)
    for _ in range(1000):
        trace.decided(Decision("r", DecisionKind.PARKED, ARRIVED_S + 0.4))

    setting.completed(trace)

    assert len(trace.decisions) == MAX_DECISIONS
    assert setting.attributes("chat m")["niyama.events.left_out"] == 1001 - MAX_DECISIONS
