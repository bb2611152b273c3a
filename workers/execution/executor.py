"""Runs jobs on the engine.

A job counts as finished once Kafka has acknowledged its terminal event, not before. When the
engine dies, nothing is reported about the jobs in it: the process exits, and the next owners of
its partitions run them again.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import aclosing

from schemas import JobControl
from workers.engine.port import Engine, EngineDead, EngineError, InvalidRequest, PreparedRequest
from workers.execution.in_flight import InFlightJob, InFlightJobs
from workers.execution.job import generation_request
from workers.execution.job_events import JobEvents
from workers.execution.output import Output
from workers.execution.token_stream import TokenStream
from workers.offsets.attempts import CrashLimit
from workers.policy.decision import Decision, DecisionKind
from workers.reporting.reporter import Reporter

log = logging.getLogger(__name__)

CRASH_SUSPECT_S = 5.0
"""A job submitted this recently may have crashed the engine before the engine reported it as
started."""


class Executor:
    """Runs each job in a task of its own."""

    def __init__(
        self,
        engine: Engine,
        in_flight: InFlightJobs,
        reporter: Reporter,
        *,
        commit: Callable[[], Awaitable[None]],
        on_job_left: Callable[[], None],
        crash_limit: CrashLimit,
        clock: Callable[[], float],
    ) -> None:
        """`commit` commits the state of all jobs, `on_job_left` is called when one is no longer in
        flight, and `clock` gives UTC epoch seconds."""
        self._engine = engine
        self._in_flight = in_flight
        self._reporter = reporter
        self._commit = commit
        self._on_job_left = on_job_left
        self._crash_limit = crash_limit
        self._clock = clock
        self._events = JobEvents(reporter, self._ended)
        self._exclusive = asyncio.Lock()
        self._engine_death: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    # ---- control

    def start(self, job: InFlightJob) -> None:
        """Run `job`. Its end is reported, unless it is released before."""
        job.queued()
        if job.attempt.number > 1:
            self._events.retried(job)
        job.task = asyncio.create_task(self._run(job))

    def cancel(self, request: JobControl) -> None:
        """Cancel a job if it is here; its `cancelled` event follows."""
        job = self._in_flight.by_job(request.job_id)
        if job is not None:
            job.cancelled, job.cancel_reason = True, request.reason
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
        """Report the scheduler's decisions until the engine is closed."""
        async for decision in self._engine.decisions():
            job = self._in_flight.by_request(decision.request_id)
            if job is not None:
                self._decided(job, decision)

    def attribute_crash(self) -> None:
        """The engine died: count an attempt for every job that may have crashed it.

        Those are the jobs that it had started, for which the attempt counts already, and those
        that it may have been looking at for the first time.
        """
        since_s = self._clock() - CRASH_SUSPECT_S
        for job in self._in_flight:
            job.may_have_crashed(since_s)

    # ---- one job

    async def _run(self, job: InFlightJob) -> None:
        try:
            if self._crash_limit.is_last_chance(job.tracked.pending.history):
                await self._run_exclusively(job)
            else:
                await self._serve(job)
        except InvalidRequest as error:
            self._events.refused(job, error)
        except EngineDead as error:
            self._report_death(error)
        except EngineError as error:
            self._events.failed(job, str(error))
        except Exception as error:
            log.exception("job %s", job.spec.job_id)
            self._events.failed(job, f"unexpected {type(error).__name__}: {error}")

    async def _run_exclusively(self, job: InFlightJob) -> None:
        """Run the only job on its last chance, so that a crash can be attributed to it.

        The attempt is committed first, in case the job crashes this process, too.
        """
        async with self._exclusive:
            if self._engine_death.done():
                return
            job.preparing()
            await self._commit()
            try:
                await self._serve(job)
            except EngineDead as error:
                # Before the lock is released: the next job must not start on a dead engine.
                self._report_death(error)

    def _report_death(self, error: EngineDead) -> None:
        if not self._engine_death.done():
            self._engine_death.set_exception(error)

    async def _serve(self, job: InFlightJob) -> None:
        job.preparing()
        prepared = await self._engine.prepare(generation_request(job.spec, job.request_id))
        self._in_flight.set_prompt_tokens(job, prepared.prompt_tokens)
        self._events.admitted(job)
        if job.cancelled:
            self._events.cancelled(job)
            return
        job.submitted(self._clock())
        output = await self._generate(job, prepared)
        self._events.generated(job, output)

    async def _generate(self, job: InFlightJob, prepared: PreparedRequest) -> Output:
        request = job.spec.request
        output = Output(keep_token_ids=request.input_ids is not None)
        stream = TokenStream(self._reporter, job.attempt, self._clock) if request.stream else None
        try:
            async with aclosing(self._engine.generate(prepared)) as updates:  # type: ignore[type-var]
                async for update in updates:
                    now_s = self._clock()
                    if output.add(update, now_s):
                        self._events.first_token(job, output.usage, now_s)
                    if stream:
                        stream.add(update)
                    if job.cancelled:  # again: the engine may not have known it the first time
                        self._engine.abort(job.request_id)
        finally:
            if stream:
                stream.close()
        return output

    def _decided(self, job: InFlightJob, decision: Decision) -> None:
        if decision.kind is DecisionKind.STARTED:
            job.started()
        self._events.decided(job, decision)

    def _ended(self, job: InFlightJob) -> None:
        job.tracked.finish()
        self._remove(job)

    def _remove(self, job: InFlightJob) -> None:
        self._in_flight.remove(job)
        self._on_job_left()
