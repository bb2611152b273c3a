"""The engine as a policy sees it: prompts not computed yet, decodes running, and their KV."""

from workers.policy.decodes import Decodes
from workers.policy.plan import IterationResult
from workers.policy.request import Prefill, Request


class EngineState:
    """Book-keeping that every policy needs; it decides nothing."""

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

    def compute(self, result: IterationResult) -> tuple[list[Prefill], list[Prefill]]:
        """Account for the chunks of one iteration: prompts (completed, still in progress)."""
        completed, in_progress = [], []
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
                in_progress.append(prefill)
        return completed, in_progress

    def retract(self, request_id: str) -> Prefill:
        """A decode lost its KV: it becomes a prompt again, longer by what it has generated."""
        request, generated = self.decodes.remove(request_id)
        prefill = self.prefills[request_id] = Prefill(request)
        prefill.generated_tokens = generated
        prefill.lose_kv()
        return prefill

    def reserved_kv_tokens(self) -> int:
        """KV that the prompts in progress still need to complete."""
        return sum(prefill.remaining_tokens for prefill in self.started.values())
