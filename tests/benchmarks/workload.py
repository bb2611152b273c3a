"""Chats and batch jobs for one engine, as recorded once and played to every server."""

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import httpx

from tests.benchmarks.servers import CPU, GPU, Generation, generate

BATCH_TOGETHER = 6


@dataclass(frozen=True, slots=True)
class Tier:
    """One kind of job: its share of the requests, its QoS, its sizes in tokens."""

    name: str
    share: float
    qos: dict[str, float]
    prompt_tokens: tuple[int, int]
    output_tokens: tuple[int, int]

    @property
    def is_chat(self) -> bool:
        return "ttft_ms" in self.qos

    @property
    def due_ms(self) -> float:
        """From the arrival to the deadline: of the first token, or of the last."""
        return self.qos["ttft_ms"] if self.is_chat else 1000 * self.qos["ttlt_s"]


TIERS = {
    CPU.name: (
        Tier("chat", 0.6, {"ttft_ms": 1000.0, "tbt_ms": 200.0}, (40, 160), (12, 24)),
        Tier("soon", 0.2, {"ttlt_s": 15.0}, (300, 1000), (12, 24)),
        Tier("later", 0.2, {"ttlt_s": 120.0}, (300, 1000), (12, 24)),
    ),
    GPU.name: (
        Tier("chat", 0.6, {"ttft_ms": 1000.0, "tbt_ms": 50.0}, (100, 2000), (50, 250)),
        Tier("soon", 0.2, {"ttlt_s": 20.0}, (2000, 8000), (50, 250)),
        Tier("later", 0.2, {"ttlt_s": 120.0}, (2000, 8000), (50, 250)),
    ),
}


@dataclass(frozen=True, slots=True)
class Recorded:
    """One request of the workload; `at` is in units of the mean time between requests."""

    at: float
    tier: Tier
    prompt: str
    max_tokens: int


Priority = Callable[[Tier, float], int]
"""SGLang's priority of a request of a tier that arrives at this time, in milliseconds."""


@dataclass(frozen=True, slots=True)
class Server:
    url: str
    priority: Priority | None = None


@dataclass(frozen=True, slots=True)
class Served:
    recorded: Recorded
    generation: Generation

    @property
    def in_time(self) -> bool:
        """Batch: the last token. Chat: the first, and the others by the schedule of its QoS."""
        seen, qos = self.generation, self.recorded.tier.qos
        if not self.recorded.tier.is_chat:
            return seen.total_s <= qos["ttlt_s"]
        at_s, due_s = seen.ttft_s, qos["ttft_ms"] / 1000
        late = at_s > due_s
        for gap_s in seen.gaps_s:
            at_s, due_s = at_s + gap_s, due_s + qos["tbt_ms"] / 1000
            late = late or at_s > due_s
        return not late


@dataclass(frozen=True, slots=True)
class Run:
    served: list[Served]
    total_s: float

    @property
    def tokens(self) -> int:
        return sum(len(s.recorded.prompt) + s.recorded.max_tokens for s in self.served)


def record(tiers: Sequence[Tier], requests: int, seed: int) -> list[Recorded]:
    """Chats at random moments; batch jobs six at a time, as a queue is filled."""
    choose = random.Random(seed)
    recorded = []
    for tier in tiers:
        at = 0.0
        for number in range(round(requests * tier.share)):
            if tier.is_chat:
                at = choose.uniform(0, requests)
            elif number % BATCH_TOGETHER == 0:
                at = choose.uniform(0, requests * 0.8)
            recorded.append(_request(choose, tier, at))
    return sorted(recorded, key=lambda request: request.at)


def _request(choose: random.Random, tier: Tier, at: float) -> Recorded:
    # A character is a token of this model.
    prompt = "".join(choose.choices("abcdefghij ", k=choose.randint(*tier.prompt_tokens)))
    return Recorded(at, tier, prompt, choose.randint(*tier.output_tokens))


async def play(server: Server, recorded: Sequence[Recorded], interval_s: float) -> Run:
    """Send the workload, one request every `interval_s` on average, and wait for its end."""
    limits = httpx.Limits(max_connections=None)
    start_s = time.perf_counter()
    async with httpx.AsyncClient(trust_env=False, limits=limits) as client:

        async def send(request: Recorded) -> Served:
            await asyncio.sleep(start_s + request.at * interval_s - time.perf_counter())
            fields = {}
            if server.priority is not None:
                arrival_ms = 1000 * request.at * interval_s
                fields = {"priority": server.priority(request.tier, arrival_ms)}
            seen = await generate(
                client, server.url, request.prompt, request.max_tokens, request.tier.qos, **fields
            )
            return Served(request, seen)

        served = await asyncio.gather(*(send(request) for request in recorded))
    return Run(served, time.perf_counter() - start_s)


async def capacity(server: Server, tiers: Sequence[Tier], requests: int) -> float:
    """Requests per second when everything is queued from the start; the first run warms up."""
    for seed in (1, 2):
        run = await play(server, record(tiers, requests, seed), 0.0)
    return requests / run.total_s
