"""A replica whose iterations take exactly what a latency model says, and chats that arrive."""

import random
from collections.abc import Callable, Sequence

from tests.support.requests import PLENTY, chat
from workers.latency.model import NO_CHUNKS, LatencyModel
from workers.policy.plan import Chunk, IterationPlan, IterationResult
from workers.policy.policy import NiyamaPolicy
from workers.policy.request import Request

IDLE_S = 0.01


class Replica:
    """Every answer has `answer_tokens`."""

    def __init__(self, model: LatencyModel, answer_tokens: int) -> None:
        self.policy = NiyamaPolicy(model)
        self.now_s = 0.0
        self.first_token_s: dict[str, float] = {}
        self._model = model
        self._answer_tokens = answer_tokens
        self._prompt: dict[str, int] = {}
        self._computed: dict[str, int] = {}
        self._generated: dict[str, int] = {}
        """Of those that generate."""

    def add(self, request: Request) -> None:
        self._prompt[request.request_id] = request.prompt_tokens
        self._computed[request.request_id] = 0
        self.policy.add(request, self.now_s)

    def iterate(self) -> None:
        """One iteration, or a while in which nothing runs."""
        plan = self.policy.plan(self.now_s, PLENTY)
        decodes = () if plan.decodes_wait else tuple(self._generated)
        took_s = self._duration_s(plan, decodes) if plan.chunks or decodes else 0.0
        self.now_s += took_s or IDLE_S
        ended = self._generate(decodes)
        self._compute(plan.chunks)
        self.policy.observe(
            IterationResult(self.now_s, took_s, plan.chunks, ended, decoded=bool(decodes))
        )

    def _duration_s(self, plan: IterationPlan, decodes: Sequence[str]) -> float:
        computed = NO_CHUNKS
        for name, tokens in plan.chunks:
            computed = computed.beside(tokens, self._computed[name])
        context = sum(self._prompt[name] + self._generated[name] for name in decodes)
        tokens, prompt_context, pairs = computed
        return self._model.iteration_s(tokens, prompt_context, len(decodes), context, pairs)

    def _generate(self, decodes: Sequence[str]) -> tuple[str, ...]:
        for name in decodes:
            self._generated[name] += 1
        ended = tuple(name for name in decodes if self._generated[name] >= self._answer_tokens)
        for name in ended:
            del self._generated[name]
        return ended

    def _compute(self, chunks: Sequence[Chunk]) -> None:
        for name, tokens in chunks:
            self._computed[name] += tokens
            if self._computed[name] >= self._prompt[name]:
                self.first_token_s[name] = self.now_s
                self._generated[name] = 1


def offer(
    replica: Replica,
    chats_per_s: float,
    sizes: Sequence[int],
    until_s: float,
    *,
    ttft_s: float = 6.0,
    tbt_s: float = 0.1,
    seed: int = 3,
    arrives: Callable[[Request], None] = lambda request: None,
    iterated: Callable[[], None] = lambda: None,
) -> None:
    """Chats with prompts of these sizes arrive at random. `arrives` is told before the replica."""
    rng = random.Random(seed)
    next_s, count = 0.0, 0
    while replica.now_s < until_s:
        while next_s <= replica.now_s:
            size = rng.choice(sizes)
            request = chat(f"c{count}", size, arrival_s=next_s, ttft_s=ttft_s, tbt_s=tbt_s)
            arrives(request)
            replica.add(request)
            next_s, count = next_s + rng.expovariate(chats_per_s), count + 1
        replica.iterate()
        iterated()
