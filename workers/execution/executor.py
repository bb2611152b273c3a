"""One job's run on the engine, and what is reported of it.

A job counts as finished once Kafka has acknowledged its terminal event, not before. When the
engine dies, nothing is reported of the jobs that were in it: the process ends, and whoever gets
their partitions does them again.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any

from schemas import EventType, JobControl, JobError, Prediction, Usage
from workers.engine.port import (
    Engine,
    EngineDead,
    EngineError,
    FinishReason,
    InvalidRequest,
    PreparedRequest,
    PromptTooLong,
)
from workers.execution.in_flight import Roster, Work
from workers.execution.job import generation_request
from workers.execution.output import Output
from workers.execution.token_stream import TokenStream
from workers.policy.decision import Decision, DecisionKind
from workers.reporting.batch_sender import Outbox
from workers.reporting.reporter import Reporter

log = logging.getLogger(__name__)

SUSPECT_S = 5.0
"""How long the engine may take to look at a request that was handed in."""

_EVENTS = {
    DecisionKind.STARTED: EventType.STARTED,
    DecisionKind.PARKED: EventType.PARKED,
    DecisionKind.RELEGATED: EventType.RELEGATED,
    DecisionKind.RESTORED: EventType.RESTORED,
}


class Execution:
    """Runs work on the engine, each piece in a task of its own."""

    def __init__(
        self,
        engine: Engine,
        roster: Roster,
        reporter: Reporter,
        outbox: Outbox,
        *,
        commit: Callable[[], Awaitable[None]],
        max_attempts: int,
        clock: Callable[[], float],
    ) -> None:
        """``commit`` puts the state of all work on record; ``clock`` gives UTC epoch seconds."""
        self._commit = commit
        self._engine = engine
        self._roster = roster
        self._reporter = reporter
        self._outbox = outbox
        self._max_attempts = max_attempts
        self._clock = clock
        self._last_chance = asyncio.Lock()
        self._death: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def start(self, work: Work) -> None:
        """Begin with ``work``; its end is reported, unless it is released before."""
        work.flight.begun = False
        if work.subject.attempt > 1:
            reason = "an earlier attempt was lost with its worker"
            self._reporter.event(work.subject, EventType.RETRIED, reason=reason)
        work.task = asyncio.create_task(self._run(work))

    def cancel(self, request: JobControl) -> None:
        """Stop a job, if it is here; its ``cancelled`` event follows."""
        work = self._roster.of_job(request.job_id)
        if work is not None:
            work.cancelled, work.cancel_reason = True, request.reason
            self._engine.abort(work.request_id)

    def release(self, work: Work) -> None:
        """Give ``work`` up and say nothing of it: somebody else does it again."""
        self._roster.remove(work)
        if work.task is not None:
            work.task.cancel()

    def suspect(self) -> None:
        """The engine died: count it against the jobs that may have killed it.

        Those are the ones it had started, which `Work.flight` knows, and the ones that it may have
        been looking at for the first time.
        """
        since_s = self._clock() - SUSPECT_S
        for work in self._roster:
            if work.handed_in_s is not None and work.handed_in_s >= since_s:
                work.flight.begun = True

    async def watch(self) -> None:
        """Raise EngineDead when the engine dies."""
        await self._death

    async def follow_decisions(self) -> None:
        """Report the scheduler's decisions, until the engine is closed."""
        async for decision in self._engine.decisions():
            work = self._roster.of_request(decision.request_id)
            if work is not None:
                self._report(work, decision)

    async def _run(self, work: Work) -> None:
        try:
            if work.flight.history.is_last_chance(self._max_attempts):
                async with self._last_chance:
                    await self._run_alone(work)
            else:
                await self._serve(work)
        except InvalidRequest as error:
            self._refuse(work, error)
        except EngineDead as error:
            self._died(error)
        except EngineError as error:
            self._fail(work, str(error))
        except Exception as error:
            log.exception("job %s", work.job.job_id)
            self._fail(work, f"unexpected {type(error).__name__}: {error}")

    async def _run_alone(self, work: Work) -> None:
        """The only one of its kind that runs: when the engine dies now, the others are innocent.

        Its attempt is on record before it can crash this process, too.
        """
        if self._death.done():
            return
        work.flight.begun = True
        await self._commit()
        try:
            await self._serve(work)
        except EngineDead as error:
            self._died(error)

    def _died(self, error: EngineDead) -> None:
        if not self._death.done():
            self._death.set_exception(error)

    async def _serve(self, work: Work) -> None:
        work.flight.begun = True
        request = generation_request(work.job, work.request_id)
        prepared = await self._engine.prepare(request)
        self._roster.measured(work, prepared.prompt_tokens)
        usage = Usage(prompt_tokens=prepared.prompt_tokens)
        self._reporter.event(work.subject, EventType.ADMITTED, usage=usage)
        if work.cancelled:
            self._end(work, EventType.CANCELLED, reason=work.cancel_reason, usage=usage)
            return
        work.flight.begun = False  # it only waits, until the engine starts it
        work.handed_in_s = self._clock()
        output = await self._generate(work, prepared)
        self._finish(work, output)

    async def _generate(self, work: Work, prepared: PreparedRequest) -> Output:
        output = Output(keep_token_ids=work.job.request.input_ids is not None)
        stream = None
        if work.job.request.stream:
            stream = TokenStream(self._reporter, work.subject, self._clock)
        try:
            async with aclosing(self._engine.generate(prepared)) as updates:  # type: ignore[type-var]
                async for update in updates:
                    now_s = self._clock()
                    if output.add(update, now_s):
                        self._reporter.event(
                            work.subject, EventType.FIRST_TOKEN, at_s=now_s, usage=output.usage
                        )
                    if stream:
                        stream.add(update)
                    if work.cancelled:  # again: the engine may not have had it the first time
                        self._engine.abort(work.request_id)
                    if self._outbox.full:
                        await self._outbox.room()
        finally:
            if stream:
                stream.close()
        return output

    def _finish(self, work: Work, output: Output) -> None:
        measured = {"usage": output.usage, "largest_gap_ms": output.largest_gap_ms}
        if output.finish_reason is None:
            self._fail(work, "the engine ended the generation without a reason")
        elif output.ended_by is not None:
            self._expire(work, output.ended_by, **measured)
        elif output.finish_reason is FinishReason.CANCELLED:
            self._end(work, EventType.CANCELLED, reason=work.cancel_reason, **measured)
        else:
            self._end(work, EventType.COMPLETED, result=output.result(), **measured)

    def _expire(self, work: Work, decision: Decision, **measured: Any) -> None:
        prediction = _prediction(work, decision)
        reason = decision.reason
        self._end(work, EventType.EXPIRED, reason=reason, prediction=prediction, **measured)

    def _fail(self, work: Work, message: str) -> None:
        self._end(work, EventType.FAILED, error=JobError(code="engine_error", message=message))

    def _refuse(self, work: Work, error: InvalidRequest) -> None:
        code: Any = "prompt_too_long" if isinstance(error, PromptTooLong) else "invalid_request"
        self._reporter.refused(
            work.record,
            work.subject,
            JobError(code=code, message=str(error)),
            lambda: self._ended(work),
        )

    def _end(self, work: Work, kind: EventType, **details: Any) -> None:
        work.flight.begun = False  # whatever dies from here on, this job did not do it
        work.handed_in_s = None
        self._reporter.event(work.subject, kind, on_delivered=lambda: self._ended(work), **details)

    def _ended(self, work: Work) -> None:
        work.progress.finish(work.record.offset)
        self._roster.remove(work)

    def _report(self, work: Work, decision: Decision) -> None:
        if decision.kind is DecisionKind.STARTED:
            work.started = work.flight.begun = True
        if decision.kind in _EVENTS:
            self._reporter.event(
                work.subject,
                _EVENTS[decision.kind],
                at_s=decision.at_s,
                reason=decision.reason or None,
                prediction=_prediction(work, decision),
            )


def _prediction(work: Work, decision: Decision) -> Prediction:
    """The deadline, and what the scheduler expected, if it did."""
    deadline_at = _utc(work.job.qos.deadline_s)
    if (forecast := decision.forecast) is None:
        return Prediction(deadline_at=deadline_at)
    return Prediction(
        deadline_at=deadline_at,
        finish_at=_utc(forecast.finish_s),
        queue_wait_s=forecast.queue_wait_s,
    )


def _utc(epoch_s: float) -> datetime:
    return datetime.fromtimestamp(epoch_s, UTC)
