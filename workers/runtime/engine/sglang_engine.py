"""SGLang as this project's engine, in the worker's process and event loop."""

import asyncio
import math
import shutil
import tempfile
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any

from workers.engine.load import EngineLoad, together
from workers.engine.port import (
    EngineDead,
    EngineStartError,
    FinishReason,
    GenerationRequest,
    GenerationUpdate,
    PreparedRequest,
)
from workers.engine.scheduling import SchedulingOptions
from workers.engine.watchdog import Watchdog
from workers.policy.decision import Decision
from workers.runtime import messages
from workers.runtime.engine import warm_up
from workers.runtime.engine.arguments import server_arguments
from workers.runtime.engine.decision_inbox import DecisionInbox
from workers.runtime.engine.grammar_queue import GrammarQueue
from workers.runtime.engine.launch import launch
from workers.runtime.engine.logs import logging_variables
from workers.runtime.engine.pacer import on_schedule
from workers.runtime.engine.preparations import Preparations
from workers.runtime.engine.running import Running, run
from workers.runtime.engine.start_limit import start_limit, too_long
from workers.runtime.engine.updates import UpdateReader


class SglangEngine:
    """Implements `workers.engine.port.Engine` with SGLang's runtime and Niyama's scheduler in it.

    SGLang's two child processes belong to the process and the thread that call `start`. When one
    of them dies or hangs, everything in the engine raises EngineDead: the worker exits, and Kafka
    gives its jobs to another.
    """

    def __init__(
        self,
        model_path: str,
        served_name: str | None = None,
        arguments: Sequence[str] = (),
        log_level: str = "warning",
        scheduling: SchedulingOptions | None = None,
        worker_flags: Collection[str] = (),
        *,
        start_limit_s: float = 3600.0,
        hang_limit_s: float = 60.0,
    ) -> None:
        """`arguments` are for SGLang's server. `scheduling`: by default, a worker's defaults.
        `worker_flags` are suggested when SGLang lacks an argument. A start that takes longer than
        `start_limit_s` fails; an engine without a sign of life for `hang_limit_s` is dead.
        """
        self.model = served_name or model_path
        self._model_path = model_path
        self._arguments = arguments
        self._worker_flags = worker_flags
        self._log_level = log_level
        self._scheduling = scheduling or SchedulingOptions()
        self._start_limit_s = start_limit_s
        self._hang_limit_s = hang_limit_s
        self._folder = tempfile.mkdtemp(prefix="niyama-engine-")
        self._inbox = DecisionInbox(f"ipc://{self._folder}/decisions")
        self._grammar_checks: GrammarQueue | None = None
        self._preparations: Preparations[PreparedRequest] | None = None
        self._cancelled: set[str] = set()
        self._started: Running | None = None
        self._watching: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def _running(self) -> Running:
        if self._started is None:
            raise EngineDead("the engine was not started")
        return self._started

    @property
    def silence_s(self) -> float:
        running = self._running
        return math.inf if running.death.done() else running.watchdog.silence_s

    @property
    def context_tokens(self) -> int | None:
        return self._started.limits.context_tokens if self._started is not None else None

    @property
    def load(self) -> EngineLoad | None:
        return together(self._inbox.loads.values())

    # ---- start and close

    async def start(self) -> None:
        self._inbox.open()
        with start_limit(self._start_limit_s):
            runtime = self._launch()
        self._started = run(runtime, Watchdog(self._hang_limit_s))
        self._grammar_checks = GrammarQueue(self._started.grammars, time.time)
        self._preparations = Preparations(
            partial(self._translate, self._started),
            threads=self._started.translator.threads,
            name="tokenizer",
            clock=time.time,
        )
        try:
            async with asyncio.timeout(self._start_limit_s):
                await self._warm_up(self._started)
        except TimeoutError as error:
            raise too_long(self._start_limit_s) from error
        except EngineDead as error:
            raise EngineStartError(f"SGLang died as soon as it had started: {error}") from error
        # In SGLang's processes, too: what is there now stays, and a search through it takes long.
        await self._started.manager.freeze_gc()
        warm_up_grammars = self._started.grammars.warm_up
        threading.Thread(target=warm_up_grammars, name="grammars-warm-up", daemon=True).start()
        # Not before: the first iterations may compile kernels for minutes.
        self._watching = asyncio.create_task(self._started.die_if_hung())

    async def close(self) -> None:
        self._closed = True
        if self._watching is not None:
            self._watching.cancel()
        if self._started is not None:
            await self._started.close()
        self._inbox.close()
        for stage in self._stages:
            stage.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _launch(self) -> Any:
        environment = self._scheduling.variables() | {
            messages.ADDRESS_VARIABLE: self._inbox.address,
            **logging_variables(self._folder, self._log_level),
        }
        return launch(
            lambda: server_arguments(
                self._model_path, self._arguments, self._log_level, self._worker_flags
            ),
            self._model_path,
            environment,
            self._folder,
        )

    async def _warm_up(self, running: Running) -> None:
        """One token through every part, so that `ready` means it.

        On a device that the scheduler does not know, iterations of all sizes follow, so that it
        can measure what they take.
        """
        await self._try_out(warm_up.FIRST_TOKEN)
        if not running.latency_is_known:
            chunk_tokens = running.manager.server_args.chunked_prefill_size
            for requests in warm_up.profile(chunk_tokens, running.limits.context_tokens):
                await asyncio.gather(*(self._try_out(request) for request in requests))
            await running.manager.flush_cache()

    async def _try_out(self, request: GenerationRequest) -> None:
        async for _ in self.generate(await self.prepare(request)):
            pass

    # ---- requests

    async def prepare(self, request: GenerationRequest) -> PreparedRequest:
        running = self._running
        running.raise_if_dead()
        assert self._preparations is not None
        assert self._grammar_checks is not None
        await self._grammar_checks.check(request)
        return await self._preparations.prepare(request)

    @property
    def _stages(self) -> list[GrammarQueue | Preparations[PreparedRequest]]:
        """What a request passes on its way to SGLang."""
        stages = (self._grammar_checks, self._preparations)
        return [stage for stage in stages if stage is not None]

    @staticmethod
    def _translate(running: Running, request: GenerationRequest) -> PreparedRequest:
        with running.watchdog.running("the tokenizer"):
            return running.translator.prepare(request)

    async def generate(self, prepared: PreparedRequest) -> AsyncIterator[GenerationUpdate]:
        self._running.raise_if_dead()
        reader = UpdateReader(prepared, self._cancelled)
        updates = self._updates(self._running, prepared, reader)
        async with aclosing(on_schedule(updates, lambda: reader.release, time.monotonic)) as shown:
            async for update in shown:
                yield update

    async def _updates(
        self, running: Running, prepared: PreparedRequest, reader: UpdateReader
    ) -> AsyncGenerator[GenerationUpdate, None]:
        """As SGLang generates them."""
        try:
            async for output in running.manager.generate_request(prepared.payload):
                running.raise_if_dead()
                update = reader.read(output)
                yield update
                if update.finish_reason is FinishReason.TOO_LARGE:
                    return
        except ValueError as error:
            raise reader.refused(error) from error
        finally:
            self._cancelled.discard(prepared.request_id)
            if not reader.finished:
                running.manager.abort_request(prepared.request_id)

    def abort(self, request_id: str) -> None:
        manager = self._running.manager
        if any(stage.abort(request_id) for stage in self._stages):
            return
        if request_id in manager.rid_to_state:
            self._cancelled.add(request_id)
            manager.abort_request(request_id)

    async def decisions(self) -> AsyncIterator[Decision]:
        death = self._running.death
        while not self._closed:
            for decision in await self._inbox.next(death):
                yield decision
