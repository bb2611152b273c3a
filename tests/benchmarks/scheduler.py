"""Three ways to serve chats and batch jobs from one engine, on the same recorded workload.

Stock SGLang in order of arrival, stock SGLang with its own priority scheduling (chats higher,
preemption on), and SGLang with Niyama. All three servers run all the time, with the same model and
arguments, and serve the workload one after the other, at 0.7, 1.0 and 1.5 times the capacity that
stock SGLang shows when everything is queued from the start.

    python tests/benchmarks/scheduler.py          # the tiny model, on a CPU
    python tests/benchmarks/scheduler.py --gpu    # an 8B shape with random weights, on a GPU
"""

import argparse
import asyncio
import json
import os
import random
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx
from figures import console, milliseconds, percentile, show
from rich.progress import Progress
from servers import (
    CPU,
    GPU,
    NIYAMA_PLUGINS,
    STOCK_PLUGINS,
    Generation,
    Machine,
    generate,
    sglang_server,
)

from workers.latency.fit import Sample
from workers.latency.profiles import load_profile

PRIORITIES = "--enable-priority-scheduling"
SYSTEMS = {
    "SGLang, FCFS": (STOCK_PLUGINS, ()),
    "SGLang, priorities": (STOCK_PLUGINS, (PRIORITIES,)),
    "SGLang + Niyama": (NIYAMA_PLUGINS, ()),
}
LOADS = (0.7, 1.0, 1.5)
ROUNDS = 2
RUN_S = 30.0
CAPACITY_REQUESTS = 80
BATCH_TOGETHER = 6
HIGH, LOW = 100, 0  # further apart than the threshold of SGLang's preemption


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
class Server:
    url: str
    takes_priorities: bool


@dataclass(frozen=True, slots=True)
class Recorded:
    """One request of the workload; `at` is in units of the mean time between requests."""

    at: float
    tier: Tier
    prompt: str
    max_tokens: int


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
            if server.takes_priorities:
                fields = {"priority": HIGH if request.tier.is_chat else LOW}
            seen = await generate(
                client, server.url, request.prompt, request.max_tokens, request.tier.qos, **fields
            )
            return Served(request, seen)

        served = await asyncio.gather(*(send(request) for request in recorded))
    return Run(served, time.perf_counter() - start_s)


async def capacity(server: Server, tiers: Sequence[Tier]) -> float:
    """Requests per second when everything is queued from the start; the first run warms up."""
    for seed in (1, 2):
        run = await play(server, record(tiers, CAPACITY_REQUESTS, seed), 0.0)
    return CAPACITY_REQUESTS / run.total_s


async def main(machine: Machine, run_s: float) -> None:
    tiers = TIERS[machine.name]
    with tempfile.TemporaryDirectory(prefix="niyama-bench-") as folder:
        model = machine.make_model(Path(folder) / "model")
        os.environ["NIYAMA_LATENCY_DIR"] = f"{folder}/latency"
        async with AsyncExitStack() as stack:
            servers = {}
            for name, (plugins, arguments) in SYSTEMS.items():
                console.print(f"starting {name}")
                server = sglang_server(model, plugins, *arguments, machine=machine)
                url = await stack.enter_async_context(server)
                servers[name] = Server(url, PRIORITIES in arguments)
            stock, *others = servers.values()
            for server in others:
                await capacity(server, tiers)  # warms up
            requests_per_s = await capacity(stock, tiers)
            runs = await compare(servers, tiers, requests_per_s, run_s)
        for load, by_system in runs.items():
            report(load, by_system, tiers, requests_per_s * load)
        report_latency_model(Path(folder) / "latency")


async def compare(
    servers: dict[str, Server], tiers: Sequence[Tier], requests_per_s: float, run_s: float
) -> dict[float, dict[str, list[Run]]]:
    """The runs of every system at every load; the order changes from round to round."""
    runs: dict[float, dict[str, list[Run]]] = {
        load: {name: [] for name in servers} for load in LOADS
    }
    with Progress(console=console) as progress:
        task = progress.add_task("running", total=ROUNDS * len(LOADS) * len(servers))
        for number in range(ROUNDS):
            for load in LOADS:
                recorded = record(tiers, round(requests_per_s * load * run_s), seed=3 + number)
                turns = list(servers) if number % 2 == 0 else list(reversed(servers))
                for name in turns:
                    progress.update(task, description=f"{load} times capacity, {name}")
                    run = await play(servers[name], recorded, 1 / (requests_per_s * load))
                    runs[load][name].append(run)
                    progress.advance(task)
    return runs


def report(
    load: float, runs: dict[str, list[Run]], tiers: Sequence[Tier], requests_per_s: float
) -> None:
    rows = []
    for name, rounds in runs.items():
        served = [s for run in rounds for s in run.served]
        chats = [s.generation for s in served if s.recorded.tier.is_chat]
        gaps_s = [gap_s for chat in chats for gap_s in chat.gaps_s]
        ttft_s = [chat.ttft_s for chat in chats]
        tokens_per_s = sum(run.tokens for run in rounds) / sum(run.total_s for run in rounds)
        met = [_share_in_time([s for s in served if s.recorded.tier is tier]) for tier in tiers]
        times = [percentile(ttft_s, 50), percentile(ttft_s, 99), percentile(gaps_s, 99)]
        rows.append([name, *map(milliseconds, times), *met, f"{tokens_per_s:,.0f}"])
    columns = ["", "chat TTFT p50", "p99", "gap p99", *(f"{t.name} met" for t in tiers)]
    show(f"{load} times capacity: {requests_per_s:.1f} requests/s", [*columns, "tokens/s"], rows)


def _share_in_time(served: Sequence[Served]) -> str:
    return f"{100 * sum(s.in_time for s in served) / len(served):.1f} %"


def report_latency_model(folder: Path) -> None:
    """What Niyama's server has learned of this machine: its model against what it measured."""
    (file,) = folder.glob("*.samples.json")
    model = load_profile(str(file).replace(".samples", "")).latency
    rows = []
    for name, samples in _kinds(Sample(*row) for row in json.loads(file.read_text())["samples"]):
        errors = [abs(model.iteration_s(*s.batch) / s.duration_s - 1) for s in samples]
        measured = percentile([s.duration_s for s in samples], 50)
        predicted = percentile([model.iteration_s(*s.batch) for s in samples], 50)
        error = f"{100 * percentile(errors, 50):.0f} %"
        rows.append(
            [name, str(len(samples)), milliseconds(measured), milliseconds(predicted), error]
        )
    columns = ["iterations kept", "samples", "measured p50", "predicted p50", "error p50"]
    show("Latency model, fitted while serving", columns, rows)


def _kinds(samples: Iterator[Sample]) -> list[tuple[str, list[Sample]]]:
    kinds: dict[str, list[Sample]] = {}
    for sample in samples:
        kind = "decodes only"
        if sample.prefill_tokens:
            kind = "decodes and a chunk" if sample.decodes else "a chunk only"
        kinds.setdefault(kind, []).append(sample)
    return sorted(kinds.items())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run-s", type=float, default=RUN_S, help="seconds of arrivals per run")
    parser.add_argument("--gpu", action="store_true", help="an 8B shape on a GPU")
    options = parser.parse_args()
    asyncio.run(main(GPU if options.gpu else CPU, options.run_s))
