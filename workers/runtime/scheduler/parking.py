"""Parking: prompts in progress that yield to others, and the KV that they count on.

SGLang tracks one prompt in progress. Parking gives it back to the waiting queue. What it has
computed stays in the prefix cache, where its next admission finds it, unlocked: short of memory,
SGLang evicts it like any cached prefix.
"""

from collections.abc import Collection
from itertools import islice
from typing import NamedTuple

from workers.runtime.scheduler.seams import Batch, EngineCalls, EngineRequest

_TOUCH_INTERVAL = 32
"""Plans between two refreshes of the parked prefixes' place in the cache's eviction order."""


class _Kept(NamedTuple):
    req: EngineRequest
    tokens: int


class Parking:
    """Parked prompts: first those whose last chunk still runs, then those that wait again."""

    def __init__(self, engine: EngineCalls) -> None:
        self._engine = engine
        self._being_parked: list[EngineRequest] = []
        self._kept: dict[str, _Kept] = {}
        self._plans = 0

    @property
    def is_busy(self) -> bool:
        """A prompt was parked and does not wait yet: neither SGLang's queue nor a batch has it."""
        return bool(self._being_parked)

    @property
    def kept_tokens(self) -> int:
        """KV in the prefix cache that the policy counts as held by waiting requests."""
        return sum(kept.tokens for kept in self._kept.values())

    def can_park(self, req: EngineRequest, running_batch: Batch) -> bool:
        """Whether `req` could be taken up again later, and another be admitted now."""
        is_full = running_batch.batch_is_full and not running_batch.is_empty()
        return (
            not is_full
            and self._engine.shares_prefixes()
            # It negotiates with other ranks once per pass; parking may take two.
            and self._engine.scheduler.prefill_delayer is None
            and not req.skip_radix_cache_insert
            and req.session is None
            and req.input_embeds is None
            and req.positional_embed_overrides is None
            # Log probabilities of the prompt would have to be computed again.
            and not (req.return_logprob and 0 <= req.logprob_start_len < len(req.origin_input_ids))
        )

    def park(self) -> EngineRequest:
        """Take the prompt in progress from SGLang; its last chunk may still run."""
        req = self._engine.scheduler.chunked_req
        assert req is not None, "no prompt is in progress"
        self._being_parked.append(req)
        self._engine.scheduler.chunked_req = None
        return req

    def undo(self) -> None:
        """Make the prompt that was parked last the one in progress again."""
        self._engine.scheduler.chunked_req = self._being_parked.pop()

    def requeue(self) -> None:
        """Queue the parked requests whose last chunk has run; overlapped, that is a step later."""
        ready = [req for req in self._being_parked if req.inflight_middle_chunks == 0]
        self._being_parked = [req for req in self._being_parked if req.inflight_middle_chunks > 0]
        for req in ready:
            held_tokens = req.prefix_len
            # SGLang has put every finished chunk into the prefix cache already.
            self._engine.release_kv(req)
            req.reset_for_retract()
            req.niyama.parked = True
            self._engine.requeue(req)
            if req.niyama.keeps_kv:
                self._kept[req.rid] = _Kept(req, held_tokens)

    def reclaim_kv(self, request_ids: Collection[str]) -> None:
        """Let the prefix cache evict what these requests have computed."""
        in_progress = self._engine.scheduler.chunked_req
        for request_id in request_ids:
            self.forget(request_id)
            if in_progress is not None and in_progress.rid == request_id:
                in_progress.niyama.keeps_kv = False

    def forget(self, request_id: str) -> None:
        """This request, if it was parked, does not wait any more."""
        self._kept.pop(request_id, None)

    def planned(self) -> None:
        """Once per plan: keep what is counted on from being the first to be evicted.

        A part of it in each plan, so that no plan refreshes everything.
        """
        self._plans += 1
        for kept in islice(
            self._kept.values(), self._plans % _TOUCH_INTERVAL, None, _TOUCH_INTERVAL
        ):
            self._engine.touch(kept.req)
