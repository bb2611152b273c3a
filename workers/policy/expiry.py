"""When requests whose prefill has not started are dropped: they are not worth serving late."""

from bisect import bisect_left, insort

from workers.policy.request import Request


class Expiries:
    """Requests that expire unless their prefill starts in time."""

    def __init__(self) -> None:
        self._times_s: dict[str, float] = {}
        self._order: list[tuple[float, str]] = []
        """The same, sorted."""

    def __len__(self) -> int:
        return len(self._times_s)

    def __contains__(self, request_id: str) -> bool:
        return request_id in self._times_s

    def add(self, request: Request) -> None:
        """Requests that never expire are ignored."""
        self.remove(request.request_id)
        if (expires_s := request.qos.expires_s) is not None:
            self._times_s[request.request_id] = expires_s
            insort(self._order, (expires_s, request.request_id))

    def remove(self, request_id: str) -> None:
        """The request's prefill has started, or the request is gone; unknown ids are ignored."""
        expires_s = self._times_s.pop(request_id, None)
        if expires_s is not None:
            del self._order[bisect_left(self._order, (expires_s, request_id))]

    def take_due(self, now_s: float, limit: int) -> list[str]:
        """Take out requests that can no longer start in time, at most `limit`, the first first."""
        due = self._order[: min(limit, bisect_left(self._order, (now_s, "")))]
        del self._order[: len(due)]
        for _, request_id in due:
            del self._times_s[request_id]
        return [request_id for _, request_id in due]
