"""SGLang as this project's engine, in the worker's process and event loop."""

import asyncio
import atexit
import shutil
import signal
import tempfile
import time
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import zmq
import zmq.asyncio
from sglang.srt.managers.io_struct import AbortReq

from workers.engine.port import (
    EngineDead,
    GenerationRequest,
    GenerationUpdate,
    PreparedRequest,
)
from workers.policy.decision import Decision
from workers.runtime import messages
from workers.runtime.engine import warm_up
from workers.runtime.engine.arguments import server_arguments
from workers.runtime.engine.launch import kill_processes, launch
from workers.runtime.engine.limits import TokenLimits
from workers.runtime.engine.release import on_schedule
from workers.runtime.engine.requests import RequestTranslator
from workers.runtime.engine.updates import UpdateReader
from workers.runtime.messages import SCHEDULER_INFO_KEY
from workers.runtime.settings import SchedulingOptions

_FINAL_DECISIONS_MS = 50
"""How long the final decisions of a scheduler that died are waited for."""


@dataclass(frozen=True, slots=True)
class _Serving:
    """What there is once SGLang runs."""

    limits: TokenLimits
    translator: RequestTranslator
    output_loop: "asyncio.Task[None]"


class SglangEngine:
    """Implements `workers.engine.port.Engine` with SGLang's runtime and Niyama's scheduler in it.

    SGLang's two child processes belong to the process and the thread that call `start`. When one
    of them dies, everything in the engine raises EngineDead: the worker exits, and Kafka gives
    its jobs to another.
    """

    def __init__(
        self,
        model_path: str,
        served_name: str | None = None,
        arguments: Sequence[str] = (),
        log_level: str = "warning",
        scheduling: SchedulingOptions | None = None,
        worker_flags: Collection[str] = (),
    ) -> None:
        """`arguments` are for SGLang's server. `scheduling`: by default, a worker's defaults.
        `worker_flags` are suggested when SGLang lacks an argument.
        """
        self.model = served_name or model_path
        self._model_path = model_path
        self._arguments = arguments
        self._worker_flags = worker_flags
        self._log_level = log_level
        self._scheduling = scheduling or SchedulingOptions()
        self._folder = tempfile.mkdtemp(prefix="niyama-engine-")
        self._tokenizer_thread = ThreadPoolExecutor(1, thread_name_prefix="tokenizer")
        self._cancelled: set[str] = set()
        self._death: asyncio.Future[str] | None = None
        """Done, with the reason, when the engine is dead; None before `start`."""
        self._closed = False
        self._inbox: Any = None
        self._runtime: Any = None
        """SGLang's engine; None before `start`."""
        self._serving: _Serving | None = None

    @property
    def context_tokens(self) -> int:
        return self._served.limits.context_tokens

    @property
    def kv_tokens(self) -> int:
        return self._served.limits.kv_tokens

    @property
    def _served(self) -> _Serving:
        if self._serving is None:
            raise EngineDead("the engine was not started")
        return self._serving

    @property
    def _manager(self) -> Any:
        """SGLang's tokenizer manager: takes requests, and gives their outputs."""
        return self._runtime.tokenizer_manager

    # ---- start and close

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._death = loop.create_future()
        self._inbox = self._open_inbox()
        self._runtime = self._launch()
        # Its own exit handler would kill every child of this process, not only its own.
        atexit.unregister(self._runtime.shutdown)
        atexit.register(self._stop_children)
        info = self._runtime._scheduler_init_result.scheduler_infos[0]
        self._serving = self._serve(loop, info)
        await self._warm_up(info[SCHEDULER_INFO_KEY])

    async def close(self) -> None:
        self._closed = True
        if self._runtime is not None:
            self._die("the engine was closed")
            if self._serving is not None:
                self._serving.output_loop.cancel()
            asyncio.get_running_loop().remove_signal_handler(signal.SIGQUIT)
            await asyncio.to_thread(self._stop_children)
        if self._inbox is not None:
            self._inbox.close(linger=0)
        self._tokenizer_thread.shutdown(wait=False)
        shutil.rmtree(self._folder, ignore_errors=True)

    # ---- requests

    async def prepare(self, request: GenerationRequest) -> PreparedRequest:
        self._raise_if_dead()
        loop = asyncio.get_running_loop()
        prepare = self._served.translator.prepare
        return await loop.run_in_executor(self._tokenizer_thread, prepare, request)

    async def generate(self, prepared: PreparedRequest) -> AsyncIterator[GenerationUpdate]:
        self._raise_if_dead()
        reader = UpdateReader(prepared, self._cancelled)
        updates = self._updates(prepared, reader)
        async with aclosing(on_schedule(updates, lambda: reader.release, time.time)) as shown:
            async for update in shown:
                yield update

    async def _updates(
        self, prepared: PreparedRequest, reader: UpdateReader
    ) -> AsyncGenerator[GenerationUpdate, None]:
        """As SGLang generates them."""
        try:
            async for output in self._manager.generate_request(prepared.payload):
                self._raise_if_dead()
                yield reader.read(output)
        except ValueError as error:
            raise reader.refused(error) from error
        finally:
            self._cancelled.discard(prepared.request_id)
            if not reader.finished:
                self._manager.abort_request(prepared.request_id)

    def abort(self, request_id: str) -> None:
        if request_id in self._manager.rid_to_state:
            self._cancelled.add(request_id)
            self._manager.abort_request(request_id)

    async def decisions(self) -> AsyncIterator[Decision]:
        while not self._closed:
            for decision in messages.decode(await self._next_message()):
                yield decision

    # ---- starting

    def _launch(self) -> Any:
        environment = self._scheduling.variables() | {messages.ADDRESS_VARIABLE: self._address}
        return launch(
            lambda: server_arguments(
                self._model_path, self._arguments, self._log_level, self._worker_flags
            ),
            self._model_path,
            environment,
            self._folder,
        )

    def _serve(self, loop: asyncio.AbstractEventLoop, info: Mapping[str, Any]) -> _Serving:
        output_loop = self._run_manager(loop)
        limits = TokenLimits(
            self._manager.context_len, info["max_total_num_tokens"], info["max_req_input_len"]
        )
        translator = RequestTranslator(self._manager, self._runtime.template_manager, limits)
        return _Serving(limits, translator, output_loop)

    def _run_manager(self, loop: asyncio.AbstractEventLoop) -> "asyncio.Task[None]":
        """Run SGLang's output loop in ours, leaving SIGTERM and SIGINT to the worker.

        The manager would start it by itself, and take SIGTERM for a drain of its own.
        """
        self._manager.event_loop = loop
        output_loop: asyncio.Task[None] = loop.create_task(self._manager.handle_loop())
        output_loop.add_done_callback(lambda _: self._die("SGLang's output loop ended"))
        # A failing child, and the watchdog that finds a dead one, send SIGQUIT.
        loop.add_signal_handler(signal.SIGQUIT, self._die, "a process of SGLang died; see its log")
        return output_loop

    async def _warm_up(self, scheduler_info: Mapping[str, Any]) -> None:
        """One token through every part, so that `ready` means it.

        On a device that the scheduler does not know, iterations of all sizes follow, so that it
        can measure what they take.
        """
        await self._try_out(warm_up.FIRST_TOKEN)
        if not scheduler_info["latency_is_known"]:
            chunk_tokens = self._manager.server_args.chunked_prefill_size
            for requests in warm_up.profile(chunk_tokens, self.context_tokens):
                await asyncio.gather(*(self._try_out(request) for request in requests))
            await self._manager.flush_cache()

    async def _try_out(self, request: GenerationRequest) -> None:
        async for _ in self.generate(await self.prepare(request)):
            pass

    # ---- dying

    def _die(self, reason: str) -> None:
        """End everything that waits for the engine. Safe to call again."""
        if self._death is None or self._death.done():
            return
        self._death.set_result(reason)
        for request_id in list(self._manager.rid_to_state):
            self._manager._handle_abort_req(AbortReq(rid=request_id))

    def _raise_if_dead(self) -> None:
        if self._death is None:
            raise EngineDead("the engine was not started")
        if self._death.done():
            raise EngineDead(self._death.result())

    def _stop_children(self) -> None:
        self._manager._subprocess_watchdog.stop()
        kill_processes(self._runtime.get_all_child_pids())

    # ---- decisions

    @property
    def _address(self) -> str:
        return f"ipc://{self._folder}/decisions"

    def _open_inbox(self) -> zmq.asyncio.Socket:
        inbox = zmq.asyncio.Context.instance().socket(zmq.PULL)
        inbox.bind(self._address)
        return inbox

    async def _next_message(self) -> bytes:
        assert self._death is not None, "the engine was not started"
        # What a scheduler decided before it died is read before its death is reported.
        if self._death.done() and not await self._inbox.poll(_FINAL_DECISIONS_MS):
            self._raise_if_dead()
        receiving: asyncio.Future[bytes] = asyncio.ensure_future(self._inbox.recv())
        waiting: set[asyncio.Future[Any]] = {receiving, self._death}
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            return await receiving if receiving.done() else messages.encode([])
        finally:
            receiving.cancel()
