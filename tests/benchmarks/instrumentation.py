"""What measuring costs: CPU time per job in each process, and throughput, with metrics and without.

Two stacks with a null engine run side by side, one of them with `--no-metrics`, and take turns, so
that whatever else the machine does concerns both. The CPU time of a job says more than throughput
where other programs run, too. The producer is the same in both: its difference is the noise.
`python -m tests.benchmarks.instrumentation`
"""

import argparse
import asyncio
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import psutil

from niyama.local.stack import LocalStack, StackOptions
from tests.benchmarks.figures import console, show
from tests.benchmarks.pipeline import MODEL, throughput

ROUNDS = 9
JOBS = 5_000
PARTS = ("gateway", "worker")
PRODUCER = "producer"
MODES = ("on", "off")


@dataclass(frozen=True, slots=True)
class Round:
    """What one round with one of the stacks took."""

    jobs_per_s: float
    cpu_us_per_job: Mapping[str, float]
    """By process."""


async def one_round(stack: LocalStack, number: int, jobs: int) -> Round:
    before = cpu_s(stack)
    jobs_per_s = (await throughput(stack, number, jobs)).jobs_per_s
    after = cpu_s(stack)
    return Round(jobs_per_s, {name: (after[name] - before[name]) / jobs * 1e6 for name in after})


def cpu_s(stack: LocalStack) -> dict[str, float]:
    """CPU time that each process has taken so far; this one publishes."""
    taken = {PRODUCER: time.process_time()}
    for part in PARTS:
        times = psutil.Process(stack.pid(part)).cpu_times()
        taken[part] = times.user + times.system
    return taken


async def measure(rounds: int, jobs: int) -> dict[str, list[Round]]:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)  # Postgres has a user of its own
        async with AsyncExitStack() as stacks:
            running = {
                mode: await stacks.enter_async_context(LocalStack(_options(Path(folder), mode)))
                for mode in MODES
            }
            return await _in_turn(running, rounds, jobs)


def _options(folder: Path, mode: str) -> StackOptions:
    return StackOptions(
        folder / mode,
        worker_arguments=("--engine", "null", "--model", MODEL),
        env={"NIYAMA_METRICS": "true" if mode == "on" else "false"},
    )


async def _in_turn(
    running: Mapping[str, LocalStack], rounds: int, jobs: int
) -> dict[str, list[Round]]:
    done: dict[str, list[Round]] = {mode: [] for mode in running}
    for number in range(rounds + 1):
        for mode in sorted(running, reverse=number % 2 == 0):
            made = await one_round(running[mode], number, jobs)
            console.print(f"round {number}, {mode}: {made.jobs_per_s:,.0f} jobs/s")
            if number > 0:  # the first one warms up
                done[mode].append(made)
    return done


def report(done: Mapping[str, Sequence[Round]]) -> None:
    on, off = done["on"], done["off"]
    rows = [
        _row(
            f"{name}, CPU µs/job",
            min,
            [each.cpu_us_per_job[name] for each in on],
            [each.cpu_us_per_job[name] for each in off],
        )
        for name in (*PARTS, PRODUCER)
    ]
    rows.append(
        _row("jobs/s", max, [each.jobs_per_s for each in on], [each.jobs_per_s for each in off])
    )
    columns = ["", "on, best", "off, best", "difference", "of the medians"]
    show(f"Metrics on and off, {len(on)} rounds of each in turn", columns, rows)


def _row(
    name: str, best: Callable[[Sequence[float]], float], on: Sequence[float], off: Sequence[float]
) -> list[str]:
    differences = [of(on) / of(off) - 1 for of in (best, median)]
    return [
        name,
        *(f"{best(values):,.0f}" for values in (on, off)),
        *(f"{difference:+.1%}" for difference in differences),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of each (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=JOBS, help="in a round (default: %(default)s)")
    options = parser.parse_args()
    console.print(f"{options.rounds} rounds of {options.jobs:,} jobs with each of two stacks")
    report(asyncio.run(measure(options.rounds, options.jobs)))


if __name__ == "__main__":
    main()
