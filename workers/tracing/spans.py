"""From the notes of one attempt at a job to spans.

Spans are made here with all that is known of them, at the end. The SDK's tracers, for spans that
begin now, take ten times as long, and would choose ids where others have been told them before.
"""

import random
from collections.abc import Callable, Iterator, Sequence

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.util.types import AttributeValue

from niyama.tracing import names
from niyama.tracing.context import span_context_in
from niyama.tracing.send import send_attributes
from schemas import EventType
from workers.job import Job
from workers.policy.decision import Decision, DecisionKind
from workers.tracing import attributes
from workers.tracing.job_trace import Ending, JobTrace

Interval = tuple[float, float]
Export = Callable[[ReadableSpan], None]

_SCOPE = InstrumentationScope(names.SCOPE)
_KEPT = TraceFlags(TraceFlags.SAMPLED)


class SpanMaker:
    """Makes all spans of one attempt at once, when it is over."""

    def __init__(self, export: Export, resource: Resource, group: str, events_topic: str) -> None:
        """`export` takes each span; `resource` describes this process, `group` is the consumer
        group."""
        self._export = export
        self._resource = resource
        self._group = group
        self._events_topic = events_topic

    def make(self, trace: JobTrace, delivered_s: float) -> None:
        """The job's last event was acknowledged at `delivered_s`."""
        ending = trace.ending
        assert ending is not None
        process = _context(trace.trace_id, trace.process_span_id)
        if trace.job is not None and trace.admitted_s is not None:
            self._span(names.ADMISSION, process, (trace.taken_s, trace.admitted_s))
            self._generation(trace, trace.job, ending, trace.admitted_s, process)
        if trace.job_id is not None:
            self._span(
                f"{names.SEND} {self._events_topic}",
                process,
                (ending.at_s, delivered_s),
                send_attributes(self._events_topic, trace.job_id),
                kind=SpanKind.PRODUCER,
            )
        self._span(
            f"{names.PROCESS} {trace.record.topic}",
            span_context_in(trace.headers),
            (trace.taken_s, delivered_s),
            self._of_process(trace, ending) | {names.KEPT_BECAUSE: tuple(trace.kept_because)},
            process,
            kind=SpanKind.CONSUMER,
            status=_status(ending),
        )

    def _of_process(self, trace: JobTrace, ending: Ending) -> dict[str, AttributeValue]:
        job = {} if trace.job is None else attributes.of_job(trace.job.qos, trace.taken_s)
        return {
            **attributes.of_record(trace, self._group),
            **job,
            **attributes.of_times(ending.times),
            **_error(ending),
            names.JOB_OUTCOME: str(ending.kind),
        }

    def _generation(
        self, trace: JobTrace, job: Job, ending: Ending, start_s: float, process: SpanContext
    ) -> None:
        chat = _context(trace.trace_id, trace.chat_span_id)
        self._phases(trace, job.qos.deadline_s, (start_s, ending.at_s), chat)
        said = {**attributes.of_generation(job, ending), **_error(ending)}
        if trace.decisions_left_out:
            said[names.EVENTS_LEFT_OUT] = trace.decisions_left_out
        self._span(
            f"{job.operation} {job.request.model}",
            process,
            (start_s, ending.at_s),
            said,
            chat,
            events=_events(trace, job.qos.deadline_s),
            status=_status(ending),
        )

    def _phases(
        self, trace: JobTrace, deadline_s: float, whole: Interval, chat: SpanContext
    ) -> None:
        start_s, end_s = whole
        started_s, computed_s = trace.started_s, _computed_s(trace)
        queued_until_s = end_s if started_s is None else started_s
        slack = {names.SLACK: deadline_s - queued_until_s}
        self._span(names.QUEUE, chat, (start_s, queued_until_s), slack)
        if started_s is None:
            return
        prefilled_s = end_s if computed_s is None else computed_s
        slack = {names.SLACK: deadline_s - prefilled_s}
        self._prefill(trace, (started_s, prefilled_s), slack, chat)
        if computed_s is not None:
            slack = {names.SLACK: deadline_s - end_s}
            self._span(names.DECODE, chat, (computed_s, end_s), slack)

    def _prefill(
        self, trace: JobTrace, interval: Interval, slack: dict[str, float], chat: SpanContext
    ) -> None:
        prefill = _context(trace.trace_id)
        for parked in _parked(trace.decisions, interval[1]):
            self._span(names.PARKED, prefill, parked)
        said: dict[str, AttributeValue] = {**slack}
        if trace.prefill is not None:
            for chunk in trace.prefill.chunks:
                ran = chunk.start_s, chunk.end_s
                self._span(names.PREFILL_CHUNK, prefill, ran, attributes.of_chunk(chunk))
            said[names.CHUNKS_LEFT_OUT] = trace.prefill.left_out
        self._span(names.PREFILL, chat, interval, said, prefill)

    def _span(
        self,
        name: str,
        parent: SpanContext | None,
        interval: Interval,
        said: dict[str, AttributeValue] | dict[str, float] | None = None,
        context: SpanContext | None = None,
        *,
        kind: SpanKind = SpanKind.INTERNAL,
        events: Sequence[Event] = (),
        status: Status | None = None,
    ) -> None:
        """Export a span. Without a `context` of its own it is nobody's parent."""
        start_s, end_s = interval
        if context is None:
            assert parent is not None
            context = _context(parent.trace_id)
        self._export(
            ReadableSpan(
                name,
                context,
                parent,
                self._resource,
                said,
                events,
                kind=kind,
                status=status or Status(),
                start_time=_ns(start_s),
                end_time=_ns(max(start_s, end_s)),
                instrumentation_scope=_SCOPE,
            )
        )


def _context(trace_id: int, span_id: int | None = None) -> SpanContext:
    """Of a span here, by default with an id of its own."""
    return SpanContext(trace_id, span_id or random.getrandbits(64) or 1, False, _KEPT)


def _events(trace: JobTrace, deadline_s: float) -> list[Event]:
    found = [
        Event(f"niyama.{each.kind}", attributes.of_decision(each, deadline_s), _ns(each.at_s))
        for each in trace.decisions
    ]
    if (first_s := trace.first_token_s) is not None:
        found.append(Event("niyama.first_token", {names.SLACK: deadline_s - first_s}, _ns(first_s)))
    return found


def _computed_s(trace: JobTrace) -> float | None:
    """When the first token was computed: shown, if the engine does not say."""
    if trace.first_token_s is not None and trace.prefill is not None and trace.prefill.chunks:
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


def _failed(ending: Ending) -> bool:
    return ending.kind in (EventType.FAILED, EventType.EXPIRED)


def _error(ending: Ending) -> dict[str, AttributeValue]:
    if not _failed(ending):
        return {}
    return {names.ERROR_TYPE: str(ending.kind) if ending.error is None else ending.error.code}


def _status(ending: Ending) -> Status:
    if not _failed(ending):
        return Status()
    return Status(StatusCode.ERROR, None if ending.error is None else ending.error.message)


def _ns(epoch_s: float) -> int:
    return int(epoch_s * 1e9)
