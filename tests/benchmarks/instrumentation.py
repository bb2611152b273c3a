"""What measuring costs: the pipeline's throughput and CPU time with metrics and without, in turn.

Two stacks with a null engine run side by side, one of them with `--no-metrics`, and take turns, so
that whatever else the machine does concerns both. `python -m tests.benchmarks.instrumentation`
"""

import argparse
import asyncio
import tempfile
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import psutil

from niyama.local.stack import LocalStack, StackOptions
from tests.benchmarks.figures import console, show
from tests.benchmarks.pipeline import MODEL, THROUGHPUT_JOBS, throughput

ROUNDS = 5
PARTS = ("gateway", "worker")


@dataclass(slots=True)
class Figures:
    """One value per round."""

    jobs_per_s: list[float] = field(default_factory=list)
    cpu_us_per_job: list[float] = field(default_factory=list)
    """Of gateway and worker together."""


async def one_round(stack: LocalStack, number: int, figures: Figures) -> None:
    before_s = cpu_s(stack)
    figures.jobs_per_s.append((await throughput(stack, number)).jobs_per_s)
    figures.cpu_us_per_job.append((cpu_s(stack) - before_s) / THROUGHPUT_JOBS * 1e6)


def cpu_s(stack: LocalStack) -> float:
    """CPU time that the gateway and the worker have taken so far."""
    pids = [stack.pid(part) for part in PARTS]
    times = [psutil.Process(pid).cpu_times() for pid in pids]
    return sum(each.user + each.system for each in times)


async def measure(rounds: int) -> dict[str, Figures]:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)  # Postgres has a user of its own
        return await _measure(rounds, Path(folder))


async def _measure(rounds: int, folder: Path) -> dict[str, Figures]:
    figures = {"on": Figures(), "off": Figures()}
    async with AsyncExitStack() as stacks:
        running = {
            name: await stacks.enter_async_context(
                LocalStack(
                    StackOptions(
                        folder / name,
                        worker_arguments=("--engine", "null", "--model", MODEL),
                        env={"NIYAMA_METRICS": "true" if name == "on" else "false"},
                    )
                )
            )
            for name in figures
        }
        for number in range(rounds + 1):
            for name in sorted(figures, reverse=number % 2 == 0):
                warming_up = number == 0
                await one_round(running[name], number, Figures() if warming_up else figures[name])
    return figures


def report(figures: dict[str, Figures]) -> None:
    rows = [
        [f"metrics {name}", f"{median(each.jobs_per_s):,.0f}", f"{median(each.cpu_us_per_job):.0f}"]
        for name, each in figures.items()
    ]
    show("Gateway and worker, median of rounds in turn", ["", "jobs/s", "CPU µs/job"], rows)
    on, off = figures["on"], figures["off"]
    console.print(
        f"on against off: {_change(on.jobs_per_s, off.jobs_per_s):+.1%} jobs/s, "
        f"{_change(on.cpu_us_per_job, off.cpu_us_per_job):+.1%} CPU time"
    )


def _change(on: Sequence[float], off: Sequence[float]) -> float:
    return median(on) / median(off) - 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of each (default: %(default)s)")
    report(asyncio.run(measure(parser.parse_args().rounds)))


if __name__ == "__main__":
    main()
