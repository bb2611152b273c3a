"""SGLang once it runs: what serves requests, and how it dies."""

import asyncio
import atexit
import logging
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sglang.srt.managers.io_struct import AbortReq

from workers.engine.port import EngineDead
from workers.engine.watchdog import TICK_S, Watchdog
from workers.runtime.engine.grammar_check import GrammarCheck
from workers.runtime.engine.heartbeats import Heartbeats, states
from workers.runtime.engine.launch import kill_processes
from workers.runtime.engine.limits import TokenLimits
from workers.runtime.engine.requests import RequestTranslator
from workers.runtime.messages import SCHEDULER_INFO_KEY

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Running:
    """SGLang's engine after its start, and everything that lives as long as it does."""

    runtime: Any
    """SGLang's engine."""
    limits: TokenLimits
    translator: RequestTranslator
    output_loop: asyncio.Task[None]
    """Distributes what SGLang generates among the requests."""
    death: asyncio.Future[str]
    """Done, with the reason, when the engine is dead."""
    grammars: GrammarCheck
    watchdog: Watchdog
    """Hears SGLang's heartbeats, and watches what else the engine's work waits for."""

    @property
    def manager(self) -> Any:
        """SGLang's tokenizer manager: takes requests, and gives their outputs."""
        return self.runtime.tokenizer_manager

    @property
    def latency_is_known(self) -> bool:
        """Whether the scheduler knew at its start what iterations take on this device."""
        return bool(_scheduler_info(self.runtime)[SCHEDULER_INFO_KEY]["latency_is_known"])

    def die(self, reason: str) -> None:
        """End everything that waits for the engine. Safe to call again."""
        if self.death.done():
            return
        self.death.set_result(reason)
        for request_id in list(self.manager.rid_to_state):
            self.manager._handle_abort_req(AbortReq(rid=request_id))

    async def die_if_hung(self) -> None:
        """Hung is dead: run this from when the engine serves to its end."""
        while not self.death.done():
            await asyncio.sleep(TICK_S)
            if (hung := self.watchdog.tick()) is not None:
                processes = states(self.runtime.get_all_child_pids())
                self.die(f"{hung} has shown no sign of life for {self.watchdog.limit_s:g} s")
                log.error("%s hangs; SGLang's processes: %s", hung, processes)

    def raise_if_dead(self) -> None:
        if self.death.done():
            raise EngineDead(self.death.result())

    async def close(self) -> None:
        """Stop SGLang's processes; requests still in it raise EngineDead."""
        self.die("the engine was closed")
        self.output_loop.cancel()
        self.grammars.close()
        asyncio.get_running_loop().remove_signal_handler(signal.SIGQUIT)
        await asyncio.to_thread(_stop_children, self.runtime)


def run(runtime: Any, watchdog: Watchdog) -> Running:
    """Take over an engine that has just been launched: its outputs, its signals and its end.

    Call it in the event loop that serves. No process is left behind when it raises.
    """
    # Its own exit handler would kill every child of this process, not only its own.
    atexit.unregister(runtime.shutdown)
    atexit.register(_stop_children, runtime)
    try:
        return _serving(runtime, asyncio.get_running_loop(), watchdog)
    except BaseException:
        _stop_children(runtime)
        raise


def _serving(runtime: Any, loop: asyncio.AbstractEventLoop, watchdog: Watchdog) -> Running:
    """Run SGLang's output loop in ours, leaving SIGTERM and SIGINT to the worker.

    The manager would start it by itself, and take SIGTERM for a drain of its own.
    """
    manager, info = runtime.tokenizer_manager, _scheduler_info(runtime)
    limits = TokenLimits(
        manager.context_len, info["max_total_num_tokens"], info["max_req_input_len"]
    )
    translator = RequestTranslator(manager, runtime.template_manager, limits)
    manager.event_loop = loop
    heartbeats = Heartbeats(watchdog)
    manager._handle_batch_output = heartbeats.taken_from(manager._handle_batch_output)
    output_loop: asyncio.Task[None] = loop.create_task(manager.handle_loop())
    death: asyncio.Future[str] = loop.create_future()
    model = manager.model_config
    grammars = GrammarCheck(manager.tokenizer, model.vocab_size, model.hf_eos_token_id, watchdog)
    running = Running(runtime, limits, translator, output_loop, death, grammars, watchdog)
    output_loop.add_done_callback(lambda _: running.die("SGLang's output loop ended"))
    # A failing child, and the watchdog that finds a dead one, send SIGQUIT.
    loop.add_signal_handler(signal.SIGQUIT, running.die, "a process of SGLang died; see its log")
    return running


def _scheduler_info(runtime: Any) -> Mapping[str, Any]:
    """What the scheduler's process reported when it was ready."""
    info: Mapping[str, Any] = runtime._scheduler_init_result.scheduler_infos[0]
    return info


def _stop_children(runtime: Any) -> None:
    runtime.tokenizer_manager._subprocess_watchdog.stop()
    kill_processes(runtime.get_all_child_pids())
