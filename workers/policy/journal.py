"""What the policy decided about requests that their owners would ask about, each thing once.

Relegated, restored and expired; and parked or reclaimed, with the reason. Who starts and who
resumes is in a plan's chunks already.
"""

from collections import OrderedDict
from collections.abc import Callable, Container, Sequence

from workers.policy.decision import Decision, DecisionKind, Forecast
from workers.policy.plan import Chunk
from workers.policy.queue import Entry
from workers.policy.request import Request


class Journal:
    def __init__(self) -> None:
        self._decisions: list[Decision] = []
        self._relegated: set[str] = set()
        self._running: str | None = None
        """The prompt that the last plan left unfinished."""
        self._unreported: dict[int, OrderedDict[str, None]] = {}
        """Waiting requests by rank whose relegation would still have to be reported, oldest first;
        no rank is empty."""

    def take(self) -> tuple[Decision, ...]:
        """Everything since the last call."""
        decisions, self._decisions = tuple(self._decisions), []
        return decisions

    def queued(self, entry: Entry) -> None:
        """A request waits."""
        if entry.request_id not in self._relegated:
            self._unreported.setdefault(entry.rank, OrderedDict())[entry.request_id] = None

    def unqueued(self, entry: Entry) -> None:
        """A request waits no more."""
        ids = self._unreported.get(entry.rank)
        if ids is not None and entry.request_id in ids:
            del ids[entry.request_id]
            if not ids:
                del self._unreported[entry.rank]

    def forget(self, request_id: str) -> None:
        """A request is gone."""
        self._relegated.discard(request_id)

    def beyond_cutoff(
        self, cutoff: int, now_s: float, forecast: Callable[[str], Forecast], limit: int
    ) -> None:
        """Report requests beyond the cutoff as relegated, at most `limit` of them."""
        left = limit
        for rank in [rank for rank in self._unreported if rank > cutoff]:
            ids = self._unreported[rank]
            while ids and left:
                request_id, _ = ids.popitem(last=False)
                self.relegated(request_id, "not all can be met", now_s, forecast(request_id))
                left -= 1
            if not ids:
                del self._unreported[rank]

    def relegated(self, request_id: str, reason: str, now_s: float, forecast: Forecast) -> None:
        if request_id not in self._relegated:
            self._relegated.add(request_id)
            self._note(request_id, DecisionKind.RELEGATED, reason, now_s, forecast)

    def started_in_time(self, request_id: str, now_s: float) -> None:
        """A prompt that was waiting, and was not overdue, enters an iteration."""
        self.restored(request_id, "capacity is left", now_s)

    def restored(self, request_id: str, reason: str, now_s: float) -> None:
        """A request yields no longer; nothing is said of one that did not."""
        if request_id in self._relegated:
            self._relegated.discard(request_id)
            self._note(request_id, DecisionKind.RESTORED, reason, now_s)

    def reclaimed(self, request_id: str, reason: str, now_s: float) -> None:
        self._note(request_id, DecisionKind.RECLAIMED, reason, now_s)

    def expired(self, request: Request, now_s: float, forecast: Forecast) -> None:
        decision = Decision.expired(request.request_id, request.qos, now_s, forecast)
        self._decisions.append(decision)

    def planned(
        self, chunks: Sequence[Chunk], started: Container[str], *, unfinished: bool, now_s: float
    ) -> None:
        """Report the prompt that was parked, if any; `started` are the prompts in progress."""
        ids = [chunk.request_id for chunk in chunks]
        before = self._running
        if before is not None and before in started and before not in ids:
            yields = before in self._relegated
            reason = "others can still be met" if yields else "a closer deadline"
            self._note(before, DecisionKind.PARKED, reason, now_s)
        self._running = ids[-1] if ids and unfinished else None

    def _note(
        self,
        request_id: str,
        kind: DecisionKind,
        reason: str,
        now_s: float,
        forecast: Forecast | None = None,
    ) -> None:
        self._decisions.append(Decision(request_id, kind, now_s, reason, forecast))
