"""Engines whose pace the test sets."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator

from workers.engine.null import NullEngine
from workers.engine.port import GenerationRequest, GenerationUpdate, PreparedRequest


class GatedEngine(NullEngine):
    """Generates immediately, except for jobs whose prompt names a gate that is still closed.

    A prompt that starts with `gate` waits after its first token, one that starts with `unstarted`
    before it.
    """

    def __init__(self) -> None:
        super().__init__("null", token_delay_s=0.001)
        self.gates: dict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self.seen: list[str] = []
        """The prompts of all generations, in the order in which they were submitted."""
        self._prompts: dict[str, str] = {}

    async def prepare(self, request: GenerationRequest) -> PreparedRequest:
        self._prompts[request.request_id] = request.prompt or ""
        return await super().prepare(request)

    async def generate(self, prepared: PreparedRequest) -> AsyncIterator[GenerationUpdate]:
        prompt = self._prompts[prepared.request_id]
        self.seen.append(prompt)
        if prompt.startswith("unstarted"):
            await self.gates[prompt].wait()
        async for update in super().generate(prepared):
            if prompt.startswith("gate") and update.completion_tokens == 1:
                yield update
                await self._gate(prepared.request_id, prompt)
            else:
                yield update

    async def _gate(self, request_id: str, prompt: str) -> None:
        while not self.gates[prompt].is_set() and request_id not in self._aborted:
            await asyncio.sleep(0.005)
