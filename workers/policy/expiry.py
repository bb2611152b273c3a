"""When requests whose prefill has not started are dropped: they are not worth serving late."""

import heapq

from workers.policy.request import Request

_MAX_STALE = 64
"""Entries of requests that are gone, beyond as many as are still here, before they are cleared."""


class Expiries:
    """Requests that expire unless their prefill starts in time."""

    def __init__(self) -> None:
        self._times_s: dict[str, float] = {}
        self._heap: list[tuple[float, str]] = []

    def __len__(self) -> int:
        return len(self._times_s)

    def __contains__(self, request_id: str) -> bool:
        return request_id in self._times_s

    def add(self, request: Request) -> None:
        """Requests that never expire are ignored."""
        if (expires_s := request.qos.expires_s) is not None:
            self._times_s[request.request_id] = expires_s
            heapq.heappush(self._heap, (expires_s, request.request_id))

    def remove(self, request_id: str) -> None:
        """The request's prefill has started, or the request is gone; unknown ids are ignored."""
        self._times_s.pop(request_id, None)
        if len(self._heap) > 2 * len(self._times_s) + _MAX_STALE:
            self._heap = [(at_s, request_id) for request_id, at_s in self._times_s.items()]
            heapq.heapify(self._heap)

    def take_due(self, now_s: float) -> list[str]:
        """Take out the requests that can no longer start in time, in order of their times."""
        due = []
        while self._heap and self._heap[0][0] < now_s:
            at_s, request_id = heapq.heappop(self._heap)
            if self._times_s.get(request_id) == at_s:
                del self._times_s[request_id]
                due.append(request_id)
        return due
