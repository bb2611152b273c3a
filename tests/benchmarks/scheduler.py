"""Three ways to serve chats and batch jobs from one engine, on the same recorded workload.

Stock SGLang in order of arrival, stock SGLang with its own priority scheduling (chats higher,
preemption on), and SGLang with Niyama. All three servers run all the time, with the same model and
arguments, and take the workload in turn, at 0.7, 1.0 and 1.5 times the capacity that stock SGLang
shows when everything is queued at once. ``python tests/benchmarks/scheduler.py``
"""

import argparse
import asyncio
import random
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx
from figures import console, milliseconds, percentile, show
from servers import NIYAMA_PLUGINS, STOCK_PLUGINS, Generation, generate, sglang_server

from workers.runtime.tiny_model import make_tiny_model

PRIORITIES = "--enable-priority-scheduling"
SYSTEMS = {
    "stock, first come first served": (STOCK_PLUGINS, ()),
    "stock, priority scheduling": (STOCK_PLUGINS, (PRIORITIES,)),
    "Niyama": (NIYAMA_PLUGINS, ()),
}
LOADS = (0.7, 1.0, 1.5)
RUN_S = 40.0
CAPACITY_REQUESTS = 80
BATCH_SHARE = 0.3
BATCH_TOGETHER = 6
CHAT_QOS = {"ttft_ms": 1000.0, "tbt_ms": 200.0}
BATCH_QOS = {"ttlt_s": 90.0}
CHAT_PRIORITY, BATCH_PRIORITY = 100, 0  # further apart than the threshold of preemption


@dataclass(frozen=True, slots=True)
class Server:
    url: str
    takes_priorities: bool


@dataclass(frozen=True, slots=True)
class Recorded:
    """One request of the workload; `at` is in units of the mean time between requests."""

    at: float
    is_chat: bool
    prompt: str
    max_tokens: int


@dataclass(frozen=True, slots=True)
class Served:
    recorded: Recorded
    generation: Generation

    @property
    def in_time(self) -> bool:
        """Chat: the first token, and every later one by the schedule that its QoS sets."""
        seen = self.generation
        if not self.recorded.is_chat:
            return seen.total_s <= BATCH_QOS["ttlt_s"]
        at_s, due_s = seen.ttft_s, CHAT_QOS["ttft_ms"] / 1000
        late = at_s > due_s
        for gap_s in seen.gaps_s:
            at_s, due_s = at_s + gap_s, due_s + CHAT_QOS["tbt_ms"] / 1000
            late = late or at_s > due_s
        return not late


@dataclass(frozen=True, slots=True)
class Run:
    served: list[Served]
    total_s: float

    @property
    def tokens_per_s(self) -> float:
        tokens = sum(len(s.recorded.prompt) + s.recorded.max_tokens for s in self.served)
        return tokens / self.total_s


def record(requests: int, seed: int) -> list[Recorded]:
    """Chats at random moments; batch jobs six at a time, as a queue is filled."""
    choose = random.Random(seed)
    batches = round(requests * BATCH_SHARE)
    recorded = [_chat(choose, choose.uniform(0, requests)) for _ in range(requests - batches)]
    for number in range(batches):
        if number % BATCH_TOGETHER == 0:
            at = choose.uniform(0, requests * 0.8)
        recorded.append(_batch(choose, at))
    return sorted(recorded, key=lambda request: request.at)


def _chat(choose: random.Random, at: float) -> Recorded:
    return Recorded(at, True, _text(choose, choose.randint(40, 160)), choose.randint(12, 24))


def _batch(choose: random.Random, at: float) -> Recorded:
    return Recorded(at, False, _text(choose, choose.randint(400, 1000)), choose.randint(12, 24))


def _text(choose: random.Random, tokens: int) -> str:
    """The tiny model's tokens are bytes."""
    return "".join(choose.choices("abcdefghij ", k=tokens))


async def play(server: Server, recorded: Sequence[Recorded], interval_s: float) -> Run:
    """Send the workload, one request every `interval_s` on average, and wait for its end."""
    limits = httpx.Limits(max_connections=None)
    start_s = time.perf_counter()
    async with httpx.AsyncClient(trust_env=False, limits=limits) as client:

        async def send(request: Recorded) -> Served:
            await asyncio.sleep(start_s + request.at * interval_s - time.perf_counter())
            qos = CHAT_QOS if request.is_chat else BATCH_QOS
            fields = {}
            if server.takes_priorities:
                fields = {"priority": CHAT_PRIORITY if request.is_chat else BATCH_PRIORITY}
            seen = await generate(
                client, server.url, request.prompt, request.max_tokens, qos, **fields
            )
            return Served(request, seen)

        served = await asyncio.gather(*(send(request) for request in recorded))
    return Run(served, time.perf_counter() - start_s)


async def capacity(server: Server) -> float:
    """Requests per second when everything is queued at once; the first run warms up."""
    for seed in (1, 2):
        run = await play(server, record(CAPACITY_REQUESTS, seed), 0.0)
    return CAPACITY_REQUESTS / run.total_s


async def main(run_s: float) -> None:
    runs: dict[float, dict[str, Run]] = {}
    with tempfile.TemporaryDirectory(prefix="niyama-bench-") as folder:
        model = make_tiny_model(Path(folder) / "tiny")
        async with AsyncExitStack() as stack:
            servers = {}
            for name, (plugins, arguments) in SYSTEMS.items():
                url = await stack.enter_async_context(sglang_server(model, plugins, *arguments))
                servers[name] = Server(url, PRIORITIES in arguments)
            stock, *others = servers.values()
            for server in others:
                await capacity(server)  # they warm up, too
            requests_per_s = await capacity(stock)
            console.print(f"capacity: {requests_per_s:.2f} requests/s")
            recorded = record(round(requests_per_s * run_s), seed=3)
            for load in LOADS:
                runs[load] = {}
                for name, server in servers.items():
                    run = await play(server, recorded, 1 / (requests_per_s * load))
                    runs[load][name] = run
                    console.print(f"{load} times capacity: {name}: {run.total_s:.0f} s")
    for load, by_system in runs.items():
        report(load, by_system, requests_per_s * load)


def report(load: float, runs: dict[str, Run], requests_per_s: float) -> None:
    rows = []
    for name, run in runs.items():
        chats = [s for s in run.served if s.recorded.is_chat]
        batches = [s for s in run.served if not s.recorded.is_chat]
        ttft_s = [s.generation.ttft_s for s in chats]
        gaps_s = [gap_s for s in chats for gap_s in s.generation.gaps_s]
        rows.append(
            [
                name,
                *(milliseconds(percentile(ttft_s, percent)) for percent in (50, 99)),
                milliseconds(percentile(gaps_s, 99)),
                _share(chats),
                _share(batches),
                f"{run.tokens_per_s:,.0f}",
            ]
        )
    columns = ["", "chat TTFT p50", "p99", "gap p99", "chats in time", "batch in time", "tokens/s"]
    show(f"{load} times capacity, {requests_per_s:.1f} requests/s", columns, rows)


def _share(served: Sequence[Served]) -> str:
    return f"{100 * sum(s.in_time for s in served) / len(served):.1f} %"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run-s", type=float, default=RUN_S, help="length of a run at capacity")
    asyncio.run(main(parser.parse_args().run_s))
