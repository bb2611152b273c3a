"""How much of requests is in the prefix cache: looked up for a few of them per plan.

A look-up takes time in proportion to the prompt. When many requests come at once, those that are
not looked up at once count as not cached until it is their turn; what a plan admits is looked up
in any case, when SGLang is handed it.
"""

from collections import OrderedDict

from workers.runtime.scheduler.driver import PolicyDriver
from workers.runtime.scheduler.seams import EngineCalls, EngineRequest
from workers.runtime.scheduler.waiting import WaitingRequests

_MAX_PER_PLAN = 16


class PrefixMatches:
    def __init__(self, engine: EngineCalls, waiting: WaitingRequests, driver: PolicyDriver) -> None:
        self._engine = engine
        self._waiting = waiting
        self._driver = driver
        self._left = _MAX_PER_PLAN
        self._open: OrderedDict[str, None] = OrderedDict()
        """Requests that have to be looked up, the oldest first."""

    def of_new(self, req: EngineRequest) -> int:
        """Cached tokens of a request that has just come, as far as is known."""
        if not self._left:
            self._open[req.rid] = None
            return 0
        self._left -= 1
        return self._engine.cached_tokens(req)

    def again(self, request_id: str) -> None:
        """A request waits without KV of its own. SGLang may still have what it has computed, on
        the device or, with its hierarchical cache, in host memory.
        """
        self._open[request_id] = None

    def forget(self, request_id: str) -> None:
        """The request is gone."""
        self._open.pop(request_id, None)

    def planning(self, now_s: float) -> None:
        """Before each plan: go on with those that were not looked up."""
        self._left = _MAX_PER_PLAN
        while self._open and self._left:
            self._left -= 1
            request_id, _ = self._open.popitem(last=False)
            req = self._waiting.get(request_id)
            if req is not None and (cached_tokens := self._engine.cached_tokens(req)):
                self._driver.found_cached(request_id, cached_tokens, now_s)
