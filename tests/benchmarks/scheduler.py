"""Three ways to serve chats and batch jobs from one engine, on the same recorded workload.

Stock SGLang in order of arrival, stock SGLang with its own priority scheduling (a priority for each
tier; `--tune` compares it with other ways), and SGLang with Niyama. All three servers run all the
time, with the same model and arguments, and serve the workload one after the other, at 0.7, 1.0,
1.5 and 2.0 times the capacity that stock SGLang shows when everything is queued from the start.

    python -m tests.benchmarks.scheduler          # the tiny model, on a CPU
    python -m tests.benchmarks.scheduler --gpu    # an 8B shape with random weights, on a GPU
    python -m tests.benchmarks.scheduler --tune   # the ways to use SGLang's priorities, compared
"""

import argparse
import asyncio
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from rich.progress import Progress

from tests.benchmarks.figures import console, milliseconds, percentile, show
from tests.benchmarks.servers import (
    CPU,
    GPU,
    NIYAMA_PLUGINS,
    STOCK_PLUGINS,
    Machine,
    sglang_server,
)
from tests.benchmarks.workload import (
    TIERS,
    Priority,
    Run,
    Served,
    Server,
    Tier,
    capacity,
    play,
    record,
)
from workers.latency.fit import Sample
from workers.latency.profiles import load_profile

_CHAT, _SOON, _LATER = 200, 100, 0  # further apart than the threshold of SGLang's preemption


def by_kind(tier: Tier, arrival_ms: float) -> int:
    return _CHAT if tier.is_chat else _LATER


def by_tier(tier: Tier, arrival_ms: float) -> int:
    return {"chat": _CHAT, "soon": _SOON}.get(tier.name, _LATER)


def by_deadline(tier: Tier, arrival_ms: float) -> int:
    """The earliest deadline first, where low values go first."""
    return round(arrival_ms + tier.due_ms)


@dataclass(frozen=True, slots=True)
class System:
    plugins: str = STOCK_PLUGINS
    arguments: tuple[str, ...] = ()
    priority: Priority | None = None


def _prioritizing(priority: Priority, *arguments: str) -> System:
    return System(STOCK_PLUGINS, ("--enable-priority-scheduling", *arguments), priority)


_LOW_FIRST = "--schedule-low-priority-values-first"
_THRESHOLD = "--priority-scheduling-preemption-threshold"
PRIORITIES = {
    "chats higher": _prioritizing(by_kind),
    "by tier": _prioritizing(by_tier),
    "by tier, no preemption": _prioritizing(by_tier, "--disable-priority-preemption"),
    "by tier, eager": _prioritizing(by_tier, "--schedule-conservativeness", "0.3"),
    "by tier, half chunks": _prioritizing(by_tier, "--chunked-prefill-size", "64"),
    "by deadline": _prioritizing(by_deadline, _LOW_FIRST, _THRESHOLD, "5000"),
    "by deadline, no preemption": _prioritizing(
        by_deadline, _LOW_FIRST, "--disable-priority-preemption"
    ),
}
"""What `--tune` compares. The chunk size is the CPU's."""
SYSTEMS = {
    "SGLang, FCFS": System(),
    "SGLang, priorities": PRIORITIES["by tier"],
    "SGLang + Niyama": System(NIYAMA_PLUGINS),
}
LOADS = (0.7, 1.0, 1.5, 2.0)
TUNING_LOADS = (1.0, 1.5)
ROUNDS = 2
RUN_S = 30.0
CAPACITY_REQUESTS = 80

Finished = Callable[[float, str, Run], None]
"""Called with the load and the system of each run."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is compared: which systems, at which loads, for how long."""

    systems: Mapping[str, System]
    loads: tuple[float, ...] = LOADS
    rounds: int = ROUNDS
    run_s: float = RUN_S
    capacity_requests: int = CAPACITY_REQUESTS


async def compare(
    machine: Machine, folder: Path, plan: Plan, finished: Finished = lambda *_: None
) -> tuple[float, dict[float, dict[str, list[Run]]]]:
    """Stock SGLang's capacity in requests/s, and the runs by load and system.

    The first of the systems is stock SGLang. All servers run at the same time.
    """
    model = machine.make_model(folder / "model")
    tiers = TIERS[machine.name]
    os.environ["NIYAMA_LATENCY_DIR"] = f"{folder}/latency"
    async with AsyncExitStack() as stack:
        servers = {}
        for name, system in plan.systems.items():
            console.print(f"starting {name}")
            server = sglang_server(model, system.plugins, *system.arguments, machine=machine)
            servers[name] = Server(await stack.enter_async_context(server), system.priority)
        stock, *others = servers.values()
        for each in others:
            await capacity(each, tiers, plan.capacity_requests)  # warms up
        requests_per_s = await capacity(stock, tiers, plan.capacity_requests)
        return requests_per_s, await _runs(servers, tiers, requests_per_s, plan, finished)


async def _runs(
    servers: Mapping[str, Server],
    tiers: Sequence[Tier],
    requests_per_s: float,
    plan: Plan,
    finished: Finished,
) -> dict[float, dict[str, list[Run]]]:
    """The runs of every system at every load; the order changes from round to round."""
    runs: dict[float, dict[str, list[Run]]] = {
        load: {name: [] for name in servers} for load in plan.loads
    }
    with Progress(console=console) as progress:
        task = progress.add_task("running", total=plan.rounds * len(plan.loads) * len(servers))
        for number in range(plan.rounds):
            for load in plan.loads:
                requests = round(requests_per_s * load * plan.run_s)
                recorded = record(tiers, requests, seed=3 + number)
                turns = list(servers) if number % 2 == 0 else list(reversed(servers))
                for name in turns:
                    progress.update(task, description=f"{load} times capacity, {name}")
                    run = await play(servers[name], recorded, 1 / (requests_per_s * load))
                    runs[load][name].append(run)
                    finished(load, name, run)
                    progress.advance(task)
    return runs


# ---- what is shown


def columns(tiers: Sequence[Tier]) -> list[str]:
    return ["", "chat TTFT p50", "p99", "gap p99", *(f"{t.name} met" for t in tiers), "tokens/s"]


def row(name: str, rounds: Sequence[Run], tiers: Sequence[Tier]) -> list[str]:
    served = [s for run in rounds for s in run.served]
    chats = [s.generation for s in served if s.recorded.tier.is_chat]
    gaps_s = [gap_s for chat in chats for gap_s in chat.gaps_s]
    ttft_s = [chat.ttft_s for chat in chats]
    tokens_per_s = sum(run.tokens for run in rounds) / sum(run.total_s for run in rounds)
    met = [_share_in_time([s for s in served if s.recorded.tier is tier]) for tier in tiers]
    times = [percentile(ttft_s, 50), percentile(ttft_s, 99), percentile(gaps_s, 99)]
    return [name, *map(milliseconds, times), *met, f"{tokens_per_s:,.0f}"]


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
    names = ["iterations kept", "samples", "measured p50", "predicted p50", "error p50"]
    show("Latency model, fitted while serving", names, rows)


def _kinds(samples: Iterator[Sample]) -> list[tuple[str, list[Sample]]]:
    kinds: dict[str, list[Sample]] = {}
    for sample in samples:
        kind = "decodes only"
        if sample.prefill_tokens:
            kind = "decodes and a chunk" if sample.decodes else "a chunk only"
        kinds.setdefault(kind, []).append(sample)
    return sorted(kinds.items())


async def main(machine: Machine, plan: Plan) -> None:
    tiers = TIERS[machine.name]
    with tempfile.TemporaryDirectory(prefix="niyama-bench-") as name:
        folder = Path(name)
        requests_per_s, runs = await compare(machine, folder, plan)
        for load, by_system in runs.items():
            rows = [row(system, rounds, tiers) for system, rounds in by_system.items()]
            title = f"{load} times capacity: {requests_per_s * load:.1f} requests/s"
            show(title, columns(tiers), rows)
        if any(system.plugins == NIYAMA_PLUGINS for system in plan.systems.values()):
            report_latency_model(folder / "latency")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run-s", type=float, default=RUN_S, help="seconds of arrivals per run")
    parser.add_argument("--gpu", action="store_true", help="an 8B shape on a GPU")
    parser.add_argument("--tune", action="store_true", help="SGLang's priorities alone")
    options = parser.parse_args()
    compared = Plan(SYSTEMS, run_s=options.run_s)
    if options.tune:
        stock = {"SGLang, FCFS": SYSTEMS["SGLang, FCFS"]}
        compared = Plan(stock | PRIORITIES, TUNING_LOADS, 1, options.run_s)
    asyncio.run(main(GPU if options.gpu else CPU, compared))
