"""Requests entering and leaving the scheduler, as the policy is to know them."""

from dataclasses import replace

from workers.policy.account import Account
from workers.policy.custom_params import from_custom_params
from workers.policy.interference import Interference
from workers.policy.request import Request
from workers.runtime.messages import TRACEPARENT_KEY
from workers.runtime.scheduler.chunk_notes import ChunkNotes
from workers.runtime.scheduler.driver import PolicyDriver
from workers.runtime.scheduler.iteration_clock import IterationClock
from workers.runtime.scheduler.parking import Parking
from workers.runtime.scheduler.prefix_keys import prefix_keys
from workers.runtime.scheduler.prefix_matches import PrefixMatches
from workers.runtime.scheduler.progress import Progress
from workers.runtime.scheduler.reporter import DecisionReporter
from workers.runtime.scheduler.seams import EngineCalls, EngineRequest
from workers.runtime.scheduler.waiting import WaitingRequests

_DELIVERY_SHARE = 0.05
"""Share of a TBT that is reserved for delivery: two processes pass a token on before its reader
sees it, some sooner, some later."""


class RequestLifecycle:
    def __init__(
        self,
        engine: EngineCalls,
        waiting: WaitingRequests,
        parking: Parking,
        driver: PolicyDriver,
        clock: IterationClock,
        prefixes: PrefixMatches,
        reporter: DecisionReporter,
        interference: Interference,
    ) -> None:
        self._engine = engine
        self._waiting = waiting
        self._parking = parking
        self._driver = driver
        self._clock = clock
        self._prefixes = prefixes
        self._reporter = reporter
        self._interference = interference

    def entering(self, req: EngineRequest) -> None:
        """SGLang is about to queue or to refuse `req`, which may be one that it had before.

        Notes a new request's quality of service; an unreadable one is answered with the reason.
        """
        if hasattr(req, "niyama"):
            return
        now_s, params = self._clock.now_s, req.sampling_params.custom_params
        try:
            qos = from_custom_params(params, now_s)
        except ValueError as error:
            qos = from_custom_params(None, now_s)
            req.set_finish_with_abort(str(error))
        is_traced = params is not None and TRACEPARENT_KEY in params
        account = Account(self._clock.own_s(), self._interference)
        req.niyama = Progress(qos, account, chunks=ChunkNotes() if is_traced else None)

    def queued(self, req: EngineRequest) -> None:
        """SGLang has queued `req`: it is new, was parked, or was retracted."""
        self._waiting.appended(req)
        if not req.niyama.queued:
            req.niyama.queued = True
            self._driver.arrived(self._policy_request(req), self._clock.now_s)
        else:
            if not req.niyama.parked:
                req.niyama.account.retracted(len(req.output_ids), self._clock.own_s())
                self._reporter.retracted(req, self._clock.now_s)
                self._driver.retracted(req.rid, self._clock.now_s)
            if not req.niyama.parked or not req.niyama.keeps_kv:
                self._prefixes.again(req.rid)

    def dropped(self, req: EngineRequest) -> None:
        """SGLang has ended `req` outside a batch: it was aborted, refused, or has expired."""
        self._waiting.forget(req.rid)
        self._parking.forget(req.rid)
        self._prefixes.forget(req.rid)
        self._driver.aborted(req.rid)

    def _policy_request(self, req: EngineRequest) -> Request:
        qos = req.niyama.qos
        # As SGLang decides when it makes a batch, at the end of `_get_new_batch_prefill_raw`.
        mixes = self._engine.scheduler.is_mixed_chunk and not req.return_logprob
        return Request(
            request_id=req.rid,
            qos=replace(qos, tbt_s=qos.tbt_s * (1 - _DELIVERY_SHARE)),
            prompt_tokens=len(req.origin_input_ids),
            cached_tokens=self._prefixes.of_new(req),
            prefix_keys=prefix_keys(req) if self._engine.shares_prefixes() else (),
            max_output_tokens=req.sampling_params.max_new_tokens,
            prompt_mixes=mixes and req.input_embeds is None,
            decode_mixes=mixes and req.beam_group is None,
        )
