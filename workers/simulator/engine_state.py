"""The engine as the baselines see it: prompts not computed yet, running decodes, their KV."""

from workers.policy.decodes import Decodes
from workers.policy.plan import IterationResult
from workers.policy.request import Prefill, Request


class EngineState:
    """Bookkeeping that every baseline needs; it decides nothing."""

    def __init__(self) -> None:
        self.prefills: dict[str, Prefill] = {}
        self.started: dict[str, Prefill] = {}
        self.decodes = Decodes()

    def add(self, request: Request) -> Prefill:
        prefill = self.prefills[request.request_id] = Prefill(request)
        return prefill

    def abort(self, request_id: str) -> None:
        self.prefills.pop(request_id, None)
        self.started.pop(request_id, None)
        if request_id in self.decodes:
            self.decodes.remove(request_id)

    def compute(self, result: IterationResult) -> list[Prefill]:
        """Account for the chunks of one iteration; returns the prompts that are complete."""
        completed = []
        for request_id, tokens in result.chunks:
            prefill = self.prefills.get(request_id)
            if prefill is None:  # aborted while it ran
                continue
            if prefill.advance(tokens):
                del self.prefills[request_id]
                self.started.pop(request_id, None)
                completed.append(prefill)
            else:
                self.started[request_id] = prefill
        return completed

    def retract(self, request_id: str) -> Prefill:
        """A decode lost its KV: it becomes a prompt again, longer by what it has generated."""
        prefill = Prefill.of_retracted(*self.decodes.remove(request_id))
        self.prefills[request_id] = prefill
        return prefill

    def reserved_kv_tokens(self) -> int:
        """KV that the prompts in progress still need to complete."""
        return sum(prefill.remaining_tokens for prefill in self.started.values())
