"""SGLang's waiting queue: by request id, and narrowed to what a plan admits."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager

from workers.runtime.scheduler.handover import Handover
from workers.runtime.scheduler.seams import EngineRequest, EngineScheduler


class WaitingRequests:
    """The requests in SGLang's `waiting_queue`, which keeps all of them in order of arrival."""

    def __init__(self, scheduler: EngineScheduler) -> None:
        self._scheduler = scheduler
        self._by_id: dict[str, EngineRequest] = {}
        self._whole_queue: list[EngineRequest] | None = None
        """While SGLang makes a batch from a part of it."""

    def __contains__(self, request_id: str) -> bool:
        return request_id in self._by_id

    def get(self, request_id: str) -> EngineRequest | None:
        return self._by_id.get(request_id)

    def appended(self, req: EngineRequest) -> None:
        """SGLang has appended `req` to its queue."""
        if self._whole_queue is not None:  # to the part that it sees; it is not in the plan
            self._whole_queue.append(self._scheduler.waiting_queue.pop())
        self._by_id[req.rid] = req

    def forget(self, request_id: str) -> None:
        """SGLang has taken this request, if it was one, from its queue."""
        self._by_id.pop(request_id, None)

    def take(self, request_ids: Collection[str]) -> None:
        """Take requests from SGLang's queue. They stay known by id until they are forgotten."""
        self._scheduler.waiting_queue = [
            req for req in self._scheduler.waiting_queue if req.rid not in request_ids
        ]

    @contextmanager
    def narrowed_to(self, handover: Handover, decodes: int) -> Iterator[None]:
        """Let SGLang make one batch from what it is handed, and from nothing else.

        Within, its queue has the requests of the handover alone, its chunk size is the tokens of
        the handover and of the `decodes` that join the batch, and the prompt in progress has its
        limit. Afterwards all four fields are as before, also when SGLang raised; the queue lacks
        what SGLang admitted, and has what arrived meanwhile.
        """
        scheduler, queue = self._scheduler, self._scheduler.waiting_queue
        handed = [self._by_id[request_id] for request_id in handover.order]
        chunk_tokens = scheduler.chunked_prefill_size
        self._whole_queue, scheduler.waiting_queue = queue, list(handed)
        scheduler.chunked_prefill_size = handover.prefill_tokens + decodes
        scheduler.policy.in_progress_limit_tokens = handover.in_progress_tokens or None
        try:
            yield
        finally:
            left = scheduler.waiting_queue
            self._whole_queue, scheduler.waiting_queue = None, queue
            scheduler.chunked_prefill_size = chunk_tokens
            scheduler.policy.in_progress_limit_tokens = None
        for req in handed:
            if req not in left:
                queue.remove(req)
                self.forget(req.rid)
