"""From the notes of one attempt at a job to the SDK's spans."""

from collections.abc import Iterator

from opentelemetry.context import Context
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer, set_span_in_context
from opentelemetry.util.types import Attributes

from niyama.tracing import names
from niyama.tracing.context import parent_in
from schemas import EventType
from workers.policy.decision import Decision, DecisionKind
from workers.tracing import attributes
from workers.tracing.job_trace import Ending, JobFacts, JobTrace

Interval = tuple[float, float]


class PlannedIds(RandomIdGenerator):
    """Gives spans the ids that were told to others before the spans were made."""

    def __init__(self) -> None:
        self.trace_id: int | None = None
        self.span_id: int | None = None

    def generate_trace_id(self) -> int:
        planned, self.trace_id = self.trace_id, None
        return super().generate_trace_id() if planned is None else planned

    def generate_span_id(self) -> int:
        planned, self.span_id = self.span_id, None
        return super().generate_span_id() if planned is None else planned


class SpanMaker:
    """Makes all spans of one attempt at once, when it is over."""

    def __init__(self, tracer: Tracer, ids: PlannedIds, group: str, events_topic: str) -> None:
        """`ids` are the id generator of the tracer's provider; `group` is the consumer group."""
        self._tracer = tracer
        self._ids = ids
        self._group = group
        self._events_topic = events_topic

    def make(self, trace: JobTrace, kept_because: list[str], delivered_s: float) -> None:
        """The job's last event was acknowledged at `delivered_s`."""
        assert trace.ending is not None
        process = self._process(trace, trace.ending)
        process.set_attribute(names.KEPT_BECAUSE, kept_because)
        within = set_span_in_context(process, Context())
        if trace.job is not None and trace.admitted_s is not None:
            self._span(names.ADMISSION, within, (trace.taken_s, trace.admitted_s))
            self._generation(trace, trace.job, trace.ending, trace.admitted_s, within)
        if trace.message.job_id is not None:
            name = f"{names.SEND} {self._events_topic}"
            sent = self._started(name, within, trace.ending.at_s, SpanKind.PRODUCER)
            sent.set_attributes(attributes.of_sent(self._events_topic, trace.message.job_id))
            _end(sent, delivered_s)
        _end(process, delivered_s)

    # ---- the job

    def _process(self, trace: JobTrace, ending: Ending) -> Span:
        self._ids.trace_id, self._ids.span_id = trace.trace_id, trace.process_span_id
        parent = parent_in(trace.headers) or Context()
        name = f"{names.PROCESS} {trace.message.topic}"
        span = self._started(name, parent, trace.taken_s, SpanKind.CONSUMER)
        self._ids.trace_id = None
        span.set_attributes(attributes.of_message(trace.message, self._group))
        if trace.job is not None:
            span.set_attributes(attributes.of_job(trace.job.qos, trace.taken_s))
        span.set_attributes(attributes.of_times(ending.times))
        span.set_attribute(names.JOB_OUTCOME, str(ending.kind))
        _fail(span, ending)
        return span

    def _generation(
        self, trace: JobTrace, job: JobFacts, ending: Ending, start_s: float, within: Context
    ) -> None:
        self._ids.span_id = trace.chat_span_id
        chat = self._started(f"{job.operation} {job.model}", within, start_s)
        chat.set_attributes(attributes.of_generation(job, ending))
        _fail(chat, ending)
        deadline_s = job.qos.deadline_s
        for decision in trace.decisions:
            said = attributes.of_decision(decision, deadline_s)
            chat.add_event(f"niyama.{decision.kind}", said, _ns(decision.at_s))
        if trace.decisions_left_out:
            chat.set_attribute(names.EVENTS_LEFT_OUT, trace.decisions_left_out)
        if trace.first_token_s is not None:
            slack = {names.SLACK: deadline_s - trace.first_token_s}
            chat.add_event("niyama.first_token", slack, _ns(trace.first_token_s))
        self._phases(
            trace, deadline_s, (start_s, ending.at_s), set_span_in_context(chat, Context())
        )
        _end(chat, ending.at_s)

    def _phases(self, trace: JobTrace, deadline_s: float, whole: Interval, within: Context) -> None:
        start_s, end_s = whole
        started_s, computed_s = trace.started_s, _computed_s(trace)
        queued_until_s = end_s if started_s is None else started_s
        slack = {names.SLACK: deadline_s - queued_until_s}
        self._span(names.QUEUE, within, (start_s, queued_until_s), slack)
        if started_s is None:
            return
        prefilled_s = end_s if computed_s is None else computed_s
        slack = {names.SLACK: deadline_s - prefilled_s}
        self._prefill(trace, within, (started_s, prefilled_s), slack)
        if computed_s is not None:
            slack = {names.SLACK: deadline_s - end_s}
            self._span(names.DECODE, within, (computed_s, end_s), slack)

    def _prefill(
        self, trace: JobTrace, within: Context, interval: Interval, slack: Attributes
    ) -> None:
        start_s, end_s = interval
        prefill = self._started(names.PREFILL, within, start_s)
        within = set_span_in_context(prefill, Context())
        for parked in _parked(trace.decisions, end_s):
            self._span(names.PARKED, within, parked)
        if trace.prefill is not None:
            for chunk in trace.prefill.chunks:
                interval = chunk.start_s, chunk.end_s
                self._span(names.PREFILL_CHUNK, within, interval, attributes.of_chunk(chunk))
            prefill.set_attribute(names.CHUNKS_LEFT_OUT, trace.prefill.left_out)
        if slack:
            prefill.set_attributes(slack)
        _end(prefill, end_s)

    # ---- spans

    def _span(
        self, name: str, within: Context, interval: Interval, said: Attributes = None
    ) -> None:
        start_s, end_s = interval
        _end(self._started(name, within, start_s, said=said), max(start_s, end_s))

    def _started(
        self,
        name: str,
        within: Context,
        start_s: float,
        kind: SpanKind = SpanKind.INTERNAL,
        said: Attributes = None,
    ) -> Span:
        return self._tracer.start_span(name, within, kind, said, start_time=_ns(start_s))


def _computed_s(trace: JobTrace) -> float | None:
    """When the first token was computed: shown, if the engine does not say."""
    if trace.prefill is not None and trace.prefill.chunks:
        return trace.prefill.chunks[-1].end_s
    return trace.first_token_s


def _parked(decisions: list[Decision], end_s: float) -> Iterator[Interval]:
    """The intervals from a parking to what resumed it, or to the end of the prefill."""
    since_s: float | None = None
    for decision in decisions:
        if decision.kind is DecisionKind.PARKED:
            since_s = decision.at_s
        elif decision.kind is DecisionKind.RESUMED and since_s is not None:
            yield since_s, decision.at_s
            since_s = None
    if since_s is not None:
        yield since_s, end_s


def _fail(span: Span, ending: Ending) -> None:
    """Mark the span as failed, if that is how the job ended."""
    if ending.kind not in (EventType.FAILED, EventType.EXPIRED):
        return
    error = ending.error
    span.set_attribute(names.ERROR_TYPE, str(ending.kind) if error is None else error.code)
    span.set_status(StatusCode.ERROR, None if error is None else error.message)


def _end(span: Span, at_s: float) -> None:
    span.end(_ns(at_s))


def _ns(epoch_s: float) -> int:
    return int(epoch_s * 1e9)
