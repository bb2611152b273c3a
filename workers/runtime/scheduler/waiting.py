"""SGLang's waiting queue: by request id, and narrowed to what a plan admits."""

from bisect import bisect_left
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from workers.runtime.scheduler.handover import Handover
from workers.runtime.scheduler.seams import EngineRequest, EngineScheduler


class _Known(NamedTuple):
    req: EngineRequest
    tokens: int


class WaitingRequests:
    """The requests in SGLang's `waiting_queue`, which keeps all of them in order of arrival.

    Nothing here that happens in every iteration looks at the whole queue.
    """

    def __init__(self, scheduler: EngineScheduler) -> None:
        self._scheduler = scheduler
        self._known: dict[str, _Known] = {}
        self._tokens = 0
        self._places = 0
        """Given to requests so far; each is higher than the one before it."""
        self._whole_queue: list[EngineRequest] | None = None
        """While SGLang makes a batch from a part of it."""

    def __contains__(self, request_id: str) -> bool:
        return request_id in self._known

    def get(self, request_id: str) -> EngineRequest | None:
        known = self._known.get(request_id)
        return None if known is None else known.req

    def tokens(self) -> int:
        """What SGLang counts as pending: the lengths of the requests in its queue."""
        queue = self._scheduler.waiting_queue
        if len(queue) != len(self._known):  # SGLang has taken some and told nobody
            left = {req.rid for req in queue}
            for request_id in self._known.keys() - left:
                self.forget(request_id)
        return self._tokens

    def appended(self, req: EngineRequest) -> None:
        """SGLang has appended `req` to its queue."""
        if self._whole_queue is not None:  # to the part that it sees; it is not in the plan
            self._whole_queue.append(self._scheduler.waiting_queue.pop())
        self.forget(req.rid)
        self._places += 1
        req.niyama.place = self._places
        self._known[req.rid] = _Known(req, req.seqlen)
        self._tokens += req.seqlen

    def forget(self, request_id: str) -> None:
        """SGLang has taken this request, if it was one, from its queue."""
        if (known := self._known.pop(request_id, None)) is not None:
            self._tokens -= known.tokens

    def take(self, request_ids: Collection[str]) -> None:
        """Take requests from SGLang's queue. They stay known by id until they are forgotten."""
        for request_id in request_ids:
            _delete(self._known[request_id].req, self._scheduler.waiting_queue)

    @contextmanager
    def narrowed_to(self, handover: Handover, decodes: int) -> Iterator[None]:
        """Let SGLang make one batch from what it is handed, and from nothing else.

        Within, its queue has the requests of the handover alone, its chunk size is the tokens of
        the handover and of the `decodes` that join the batch, and the prompt in progress has its
        limit. Afterwards all four fields are as before, also when SGLang raised; the queue lacks
        what SGLang admitted, and has what arrived meanwhile.
        """
        scheduler, queue = self._scheduler, self._scheduler.waiting_queue
        handed = [self._known[request_id].req for request_id in handover.order]
        chunk_tokens = scheduler.chunked_prefill_size
        self._whole_queue, scheduler.waiting_queue = queue, list(handed)
        scheduler.chunked_prefill_size = handover.prefill_tokens + decodes
        scheduler.policy.in_progress_limit_tokens = handover.in_progress_tokens or None
        try:
            yield
        finally:
            left = {req.rid for req in scheduler.waiting_queue}
            self._whole_queue, scheduler.waiting_queue = None, queue
            scheduler.chunked_prefill_size = chunk_tokens
            scheduler.policy.in_progress_limit_tokens = None
        for req in handed:
            if req.rid not in left:
                _delete(req, queue)
                self.forget(req.rid)


def _delete(req: EngineRequest, queue: list[EngineRequest]) -> None:
    """SGLang appends to its queue and deletes from it, so places rise; if not, look for it."""
    at = bisect_left(queue, req.niyama.place, key=lambda each: each.niyama.place)
    if at < len(queue) and queue[at] is req:
        del queue[at]
    else:
        queue.remove(req)
