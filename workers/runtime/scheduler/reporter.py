"""Reporting what the scheduler did with a request: each decision once, when it takes effect."""

from dataclasses import replace
from typing import Protocol

from workers.policy.decision import Decision, DecisionKind
from workers.policy.plan import IterationPlan
from workers.runtime.scheduler.seams import EngineRequest
from workers.runtime.scheduler.waiting import WaitingRequests


class Sender(Protocol):
    def add(self, decision: Decision) -> None: ...

    def flush(self) -> None: ...


class DecisionReporter:
    def __init__(self, sender: Sender) -> None:
        self._sender = sender

    def planned(self, plan: IterationPlan, waiting: WaitingRequests, now_s: float) -> None:
        """Report which waiting requests are relegated, and note which are restored.

        A restored one is in the plan, and SGLang may not take it: then it is relegated as before.
        """
        for decision in plan.decisions:
            req = waiting.get(decision.request_id)
            if req is None:
                continue
            if decision.kind is DecisionKind.RESTORED:
                req.niyama.restored = decision
            elif decision.kind is DecisionKind.RELEGATED:
                req.niyama.restored = None
                if not req.niyama.relegated:
                    req.niyama.relegated = True
                    self._sender.add(replace(decision, at_s=now_s))

    def parked(self, req: EngineRequest, plan: IterationPlan, now_s: float) -> None:
        reasons = [d.reason for d in plan.decisions if d.request_id == req.rid]
        self._sender.add(Decision(req.rid, DecisionKind.PARKED, now_s, ", ".join(reasons)))

    def launched(self, req: EngineRequest, now_s: float) -> None:
        """A chunk of the request's prompt runs: its first, its first after parking, or another."""
        progress = req.niyama
        if progress.relegated and progress.restored is not None:
            self._sender.add(replace(progress.restored, at_s=now_s))
            progress.relegated, progress.restored = False, None
        if not progress.started:
            progress.started = True
            self._sender.add(Decision(req.rid, DecisionKind.STARTED, now_s))
        elif progress.parked:
            self._sender.add(Decision(req.rid, DecisionKind.RESUMED, now_s))
        progress.parked, progress.keeps_kv = False, True

    def retracted(self, req: EngineRequest, now_s: float) -> None:
        """SGLang took its KV back while it was decoding, or in the middle of its prompt."""
        reason = "memory for running decodes"
        self._sender.add(Decision(req.rid, DecisionKind.RETRACTED, now_s, reason))

    def flush(self) -> None:
        """Send what was reported since the last time. Never blocks."""
        self._sender.flush()
