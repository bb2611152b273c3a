"""Runs jobs on the engine.

A job counts as finished once Kafka has acknowledged its terminal event, not before. When the
engine dies, nothing is reported about the jobs in it: the process exits, and the next owners of
its partitions run them again.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import aclosing

from niyama.log_lines import set_log_context
from schemas import JobControl
from workers.engine.port import (
    Engine,
    EngineDead,
    EngineError,
    GenerationUpdate,
    InvalidRequest,
    NotPrepared,
    PreparedRequest,
)
from workers.execution.engine_request import generation_request
from workers.execution.in_flight import InFlightJob, InFlightJobs
from workers.execution.job_events import JobEvents
from workers.execution.job_metrics import NoJobMetrics
from workers.execution.output import Output
from workers.execution.token_stream import TokenStream
from workers.execution.trials import CHECK_INTERVAL_S, RUN_LIMIT_S, START_LIMIT_S, Trials
from workers.offsets.partitions import Partitions
from workers.policy.decision import Decision, DecisionKind
from workers.reporting.reporter import Reporter
from workers.tracing.traces import NoTraces

log = logging.getLogger(__name__)

WAITING_AFTER_S = 3.0
"""A job submitted more recently may have crashed the engine before the engine reported it as
started."""


class Executor:
    """Runs each job in a task of its own."""

    def __init__(
        self,
        engine: Engine,
        in_flight: InFlightJobs,
        reporter: Reporter,
        *,
        partitions: Partitions,
        on_job_left: Callable[[], None],
        clock: Callable[[], float],
        metrics: NoJobMetrics | None = None,
        traces: NoTraces | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`on_job_left` is called when a job is no longer in flight. `clock` gives UTC epoch
        seconds, `monotonic` those of the clock that the engine's processes share. Without `metrics`
        nothing is measured, without `traces` nothing is traced."""
        self._engine = engine
        self._in_flight = in_flight
        self._reporter = reporter
        self._partitions = partitions
        self._on_job_left = on_job_left
        self._clock = clock
        self._monotonic = monotonic
        self._events = JobEvents(
            reporter, metrics or NoJobMetrics(), traces or NoTraces(), self._ended, clock, monotonic
        )
        self._trials = Trials(self._trial_over, lambda: engine.silence_s)
        self._engine_death: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    # ---- control

    def start(self, job: InFlightJob) -> None:
        """Run `job`. Its end is reported, unless it is released before."""
        job.taken()
        self._events.taken(job)
        if job.is_suspect:
            job.held_back()
            self._partitions.commit_soon()
        job.task = asyncio.create_task(self._run(job))

    def cancel(self, request: JobControl) -> None:
        """Cancel a job if it is here; its `cancelled` event follows."""
        for job in self._in_flight.by_job(request.job_id):
            job.cancelled, job.cancel_reason = True, request.reason
            self._trials.withdraw(job)
            self._engine.abort(job.request_id)

    def release(self, job: InFlightJob) -> None:
        """Stop `job` without reporting anything: another worker runs it again."""
        self._remove(job)
        if job.task is not None:
            job.task.cancel()

    # ---- the engine as a whole

    async def watch_engine(self) -> None:
        """Raise EngineDead when the engine dies."""
        await self._engine_death

    async def follow_decisions(self) -> None:
        """Report the scheduler's decisions until cancelled. Raises EngineDead."""
        async for decision in self._engine.decisions():
            job = self._in_flight.by_request(decision.request_id)
            if job is not None:
                self._decided(job, decision)
        raise EngineDead("it was closed")

    def engine_died(self) -> None:
        """Start nothing more that would be blamed for it."""
        self._trials.close()

    # ---- one job

    async def _run(self, job: InFlightJob) -> None:
        set_log_context(job.spec.job_id, job.trace.trace_id)
        try:
            if job.is_suspect:
                await self._try(job)
            else:
                await self._serve(job)
        except InvalidRequest as error:
            self._events.refused(job, error)
        except NotPrepared as error:
            self._events.not_prepared(job, error.ended_by)
        except EngineDead as error:
            self._report_death(error)
        except EngineError as error:
            if error.last is not None:
                self._shown(job, error.last)
            self._events.failed(job, str(error))
        except Exception as error:
            log.exception("job %s failed unexpectedly", job.spec.job_id)
            self._events.failed(job, f"unexpected {type(error).__name__}: {error}")

    def _report_death(self, error: EngineDead) -> None:
        self.engine_died()
        if not self._engine_death.done():
            self._engine_death.set_exception(error)

    async def _try(self, job: InFlightJob) -> None:
        """Run a suspect, once it is its turn. That is committed first: it may kill this process."""
        expires_s = job.spec.qos.expires_s
        timeout_s = None if expires_s is None else max(0.0, expires_s - self._clock())
        try:
            has_turn = await self._trials.turn(job, timeout_s)
            if self._trials.closed:
                return
            if job.cancelled:
                self._events.cancelled(job)
            elif not has_turn:
                self._events.expired(job, self._clock())
            else:
                job.on_trial()
                await self._partitions.write_ahead([job.tracked])
                await self._serve(job)
        finally:
            self._trials.end(job)

    def _trial_over(self, job: InFlightJob) -> None:
        job.trial_over()
        self._trials.end(job)
        self._partitions.commit_soon()

    async def _serve(self, job: InFlightJob) -> None:
        prepared = await self._prepare(job)
        self._in_flight.set_prompt_tokens(job, prepared.prompt_tokens)
        self._events.admitted(job)
        if job.cancelled:
            self._events.cancelled(job)
            return
        job.submitted()
        self._events.submitted(job)
        self._trials.limit(job, START_LIMIT_S)
        asyncio.get_running_loop().call_later(WAITING_AFTER_S, self._still_waiting, job)
        output = await self._generate(job, prepared)
        self._events.generated(job, output)

    def _still_waiting(self, job: InFlightJob) -> None:
        """Known once the engine has shown a sign of life: it may hang because of the job."""
        if not self._trials.engine_is_silent:
            job.still_waiting()
        elif not job.has_started and job in self._in_flight:
            loop = asyncio.get_running_loop()
            loop.call_later(CHECK_INTERVAL_S, self._still_waiting, job)

    async def _prepare(self, job: InFlightJob) -> PreparedRequest:
        if job.is_suspect or not job.written_ahead:
            return await self._prepare_now(job)
        held_back = self._trials.on
        if held_back:
            job.held_back()
        async with self._trials.beside():
            if held_back:
                job.preparing()
                await self._partitions.write_ahead([job.tracked])
            return await self._prepare_now(job)

    async def _prepare_now(self, job: InFlightJob) -> PreparedRequest:
        job.preparing()
        request = generation_request(job.spec, job.request_id, job.trace.traceparent)
        return await self._engine.prepare(request)

    async def _generate(self, job: InFlightJob, prepared: PreparedRequest) -> Output:
        request = job.spec.request
        output = Output(keep_token_ids=request.input_ids is not None)
        stream = TokenStream(self._reporter, job.attempt, self._clock) if request.stream else None
        try:
            async with aclosing(self._engine.generate(prepared)) as updates:  # type: ignore[type-var]
                async for update in updates:
                    self._shown(job, update)
                    # The loop's clock, because nobody sets it.
                    if output.add(update, asyncio.get_running_loop().time()):
                        self._first_token(job, output, self._clock())
                    if stream:
                        stream.add(update)
                    if job.cancelled:  # again: the engine may not have known it the first time
                        self._engine.abort(job.request_id)
        finally:
            if stream:
                stream.close()
        return output

    def _shown(self, job: InFlightJob, update: GenerationUpdate) -> None:
        job.timeline.shown(update, self._monotonic())
        if update.prefill is not None:
            job.trace.prefilled(update.prefill)

    def _first_token(self, job: InFlightJob, output: Output, now_s: float) -> None:
        self._events.first_token(job, output.usage, now_s)
        job.started()  # the decision that says so may come later
        if job.is_suspect:
            self._trial_over(job)

    def _decided(self, job: InFlightJob, decision: Decision) -> None:
        if decision.kind is DecisionKind.STARTED and not (job.has_started or job.has_ended):
            if job.is_suspect and self._trials.take(job):
                job.on_trial()
            job.started()
            self._trials.limit(job, RUN_LIMIT_S)
            self._partitions.commit_soon()
        self._events.decided(job, decision)

    def _ended(self, job: InFlightJob) -> None:
        job.tracked.finish()
        self._partitions.commit_soon()
        self._remove(job)

    def _remove(self, job: InFlightJob) -> None:
        self._in_flight.remove(job)
        self._on_job_left()
