"""What is measured, one stage after the other; each saves what it has found as it goes."""

import asyncio
import random
import shutil
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from tests.benchmarks import scheduler
from tests.benchmarks.figures import percentile
from tests.benchmarks.gpu import analysis, recording
from tests.benchmarks.gpu.bench import Bench, cancelled, describe, prompt
from tests.benchmarks.gpu.recording import Iteration
from tests.benchmarks.workload import TIERS, Run
from workers.engine.port import Engine
from workers.latency.fit import FitError, fit
from workers.latency.profiles import Profile, load_profile, save_profile
from workers.policy.qos import RequestQos

PROFILE = "profile.json"


# ---- start-up and learning


async def start_up(bench: Bench) -> None:
    """A worker's engine on a device that it does not know, and its first seconds of load."""
    shutil.rmtree(bench.latency_folder, ignore_errors=True)
    began_s = time.monotonic()
    with bench.recorded("start-up") as path:
        async with bench.engine() as engine:
            ready_s, ready_at = time.monotonic() - began_s, time.time()
            learned = _learned(bench)
            await _mixed_load(bench, engine)
    iterations = recording.read(path)
    warm_up = [each for each in iterations if each.ended_s <= ready_at]
    served = [each for each in iterations if each.ended_s > ready_at]
    result: dict[str, object] = {
        "ready_s": ready_s,
        "warm_up_iterations": len(warm_up),
        "warm_up_s": sum(each.duration_s for each in warm_up),
        "learned": asdict(learned.latency) if learned else None,
        "kv_tokens": learned.kv_tokens if learned else None,
        "error_by_second": _by_second(served, ready_at),
        "iterations": [row._asdict() for row in analysis.by_kind(served)],
    }
    bench.save("start-up", result, complete=True)


async def _mixed_load(bench: Bench, engine: Engine) -> None:
    """Chats and batch jobs at random moments, for some seconds; what is left is cancelled."""
    choose, tasks = random.Random(5), []
    longest = bench.sizes.contexts[-1] // 10
    until_s = time.monotonic() + bench.sizes.load_s
    seed = 1_000_000
    while time.monotonic() < until_s:
        seed += 1
        if choose.random() < 0.7:
            qos = RequestQos.interactive(time.time(), ttft_s=1.0, tbt_s=0.1)
            text = prompt(seed, choose.randint(20, max(21, longest // 10)))
        else:
            qos = RequestQos.batch(time.time(), ttlt_s=60.0)
            text = prompt(seed, choose.randint(20, longest))
        tasks.append(asyncio.create_task(bench.run(engine, qos, text, choose.randint(10, 60))))
        await asyncio.sleep(choose.expovariate(5.0))
    await cancelled(tasks)


def _by_second(served: Sequence[Iteration], ready_at: float) -> list[float]:
    """Median relative error of the iterations of each second since the engine was ready."""
    seconds: dict[int, list[Iteration]] = {}
    for each in served:
        seconds.setdefault(int(each.ended_s - ready_at), []).append(each)
    return [percentile(analysis.errors(found), 50) for _, found in sorted(seconds.items())]


def _learned(bench: Bench) -> Profile | None:
    """The model that the engine has kept, if it has one."""
    files = [f for f in bench.latency_folder.glob("*.json") if ".samples." not in f.name]
    return load_profile(str(files[0])) if files else None


# ---- iteration times


async def iterations(bench: Bench) -> None:
    """Chunks of all sizes after contexts of all lengths, alone and beside decodes."""
    with bench.recorded("iterations") as path:
        async with bench.engine() as engine:
            for step in (_decodes_alone, _chunks_beside_decodes, _chunks_alone):
                await step(bench, engine)
                _save_iterations(bench, path, complete=False)
    _save_iterations(bench, path, complete=bench.in_time)


async def _chunks_alone(bench: Bench, engine: Engine) -> None:
    """The context comes from the prefix cache; computing it gives the largest chunks."""
    seed = 2_000_000
    for context in bench.sizes.contexts:
        seed += 1
        before = prompt(seed, context)
        if context and bench.in_time:
            await bench.batch(engine, before, 1)
        for chunk in bench.sizes.chunks * bench.sizes.repeats:
            if bench.in_time:
                seed += 1
                await bench.batch(engine, before + prompt(seed, chunk), 1)


async def _decodes_alone(bench: Bench, engine: Engine) -> None:
    seed = 3_000_000
    for count in bench.sizes.decodes:
        for context in bench.sizes.contexts[:3]:
            if bench.in_time:
                seed += 1_000
                tasks = _start_decodes(bench, engine, count, max(16, context), seed)
                await asyncio.gather(*tasks)


async def _chunks_beside_decodes(bench: Bench, engine: Engine) -> None:
    seed = 4_000_000
    for count in bench.sizes.decodes:
        seed += 1_000
        tasks = _start_decodes(bench, engine, count, bench.sizes.chunks[1], seed)
        for chunk in bench.sizes.chunks:
            for context in bench.sizes.contexts[:3]:
                if bench.in_time:
                    seed += 1
                    await bench.batch(engine, prompt(seed, context + chunk), 1)
        await cancelled(tasks)


def _start_decodes(
    bench: Bench, engine: Engine, count: int, tokens: int, seed: int
) -> list["asyncio.Task[None]"]:
    most = bench.sizes.decode_tokens
    runs = (bench.batch(engine, prompt(seed + i, tokens), most) for i in range(count))
    return [asyncio.create_task(run) for run in runs]


def _save_iterations(bench: Bench, path: Path, *, complete: bool) -> None:
    found = [each for each in recording.read(path) if each.duration_s > 0]
    result: dict[str, object] = {
        "recorded": len(found),
        "by_kind": [row._asdict() for row in analysis.by_kind(found)],
    }
    try:
        result["held_out_error"] = analysis.held_out_error(found)
        result["profile"] = _save_profile(bench, found)
    except FitError as error:
        result["no_profile"] = str(error)
    bench.save("iterations", result, complete=complete)


def _save_profile(bench: Bench, found: Sequence[Iteration]) -> str:
    """The fitted profile, which `niyama simulate --profile FILE` reads."""
    known, where = _learned(bench), describe(bench)
    provenance = ", ".join(f"{name} {value}" for name, value in where.items())
    profile = Profile(
        name=f"{where['device']}, {where['model']}".lower().replace(" ", "-"),
        latency=fit([each.sample for each in found]),
        kv_tokens=known.kv_tokens if known else 1,
        provenance=f"{len(found)} iterations of `python -m tests.benchmarks.gpu`: {provenance}",
    )
    save_profile(profile, bench.folder / PROFILE)
    return PROFILE


# ---- schedulers


async def schedulers(bench: Bench) -> None:
    """SGLang's scheduling and Niyama's, on the same workload, one load after the other."""
    machine, sizes = bench.machine(), bench.sizes
    tiers = TIERS[machine.name]
    runs: dict[float, dict[str, list[Run]]] = {}
    result: dict[str, object] = {"columns": scheduler.columns(tiers)}

    def finished(load: float, system: str, run: Run) -> None:
        runs.setdefault(load, {}).setdefault(system, []).append(run)
        tables = {
            str(load): [scheduler.row(name, rounds, tiers) for name, rounds in by_system.items()]
            for load, by_system in runs.items()
        }
        bench.save("schedulers", result | {"by_load": tables}, complete=False)

    plan = scheduler.Plan(scheduler.SYSTEMS, sizes.loads, 1, sizes.run_s, sizes.capacity_requests)
    with bench.recorded("schedulers") as path:
        requests_per_s, _ = await scheduler.compare(machine, bench.folder, plan, finished)
    result["requests_per_s"] = requests_per_s
    result["plans"] = analysis.plan_cost(recording.read(path))._asdict()
    result["by_load"] = {
        str(load): [scheduler.row(name, rounds, tiers) for name, rounds in by_system.items()]
        for load, by_system in runs.items()
    }
    bench.save("schedulers", result, complete=True)


# ---- plans


async def plans(bench: Bench) -> None:
    """What plans cost beside iterations while thousands of requests wait."""
    with bench.recorded("plans") as path:
        async with bench.engine() as engine:
            result: dict[str, object] = {}
            for waiting in bench.sizes.waiting:
                if bench.in_time:
                    result[str(waiting)] = await _cost_while_waiting(bench, engine, waiting, path)
                    bench.save("plans", {"by_waiting": result}, complete=False)
    bench.save("plans", {"by_waiting": result}, complete=bench.in_time)


async def _cost_while_waiting(
    bench: Bench, engine: Engine, waiting: int, path: Path
) -> dict[str, float]:
    seed, choose = 5_000_000 + 10_000 * waiting, random.Random(waiting)
    top = bench.sizes.chunks[-1]
    jobs = [prompt(seed + i, choose.randint(16, top)) for i in range(waiting)]
    tasks = [asyncio.create_task(bench.batch(engine, text, 50)) for text in jobs]
    before = len(recording.read(path))
    until_s, number = time.monotonic() + bench.sizes.waiting_s, 0
    while time.monotonic() < until_s:
        number += 1
        chat = RequestQos.interactive(time.time(), ttft_s=1.0, tbt_s=0.1)
        await bench.run(engine, chat, prompt(seed - number, 100), 20)
    await cancelled(tasks)
    return analysis.plan_cost(recording.read(path)[before:])._asdict()


STAGES: dict[str, Callable[[Bench], Awaitable[None]]] = {
    "start-up": start_up,
    "iterations": iterations,
    "schedulers": schedulers,
    "plans": plans,
}
