"""`python -m tests.chaos`: faults from a seed against the real stack, every job reconciled.

The exit status is 0 when every job ended as it should, 1 when one did not, 2 when there was no run.
"""

import argparse
import asyncio
import logging
import random
import signal
import tempfile
from pathlib import Path

from rich.console import Console

from tests.chaos import faults, hostile
from tests.chaos.report import Narrator, Report, show, write
from tests.chaos.run import Options, Run
from tests.chaos.workload import ENGINES

JOBS_PER_S = {"null": 10.0, "sglang": 1.0}
REPORTS = Path("build/chaos")


def main() -> int:
    arguments = _parser().parse_args()
    if arguments.list:
        print(_kinds())
        return 0
    options = _options(arguments)
    console = Console(highlight=False)
    console.print(f"seed {options.seed}")
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # a broker that is away is no news
    path = arguments.report or REPORTS / f"seed-{options.seed}.json"
    with tempfile.TemporaryDirectory(prefix="niyama-chaos-") as folder, Narrator(console) as said:
        Path(folder).chmod(0o755)  # Postgres may have to enter it as a user of its own
        try:
            report = asyncio.run(_report(Run(options, Path(folder), said)))
        except (KeyboardInterrupt, asyncio.CancelledError):
            console.print(f"interrupted; seed {options.seed}")
            return 2
        write(report, path, Path(folder))
    show(report, console)
    console.print(f"{'passed' if report.passed else 'FAILED'}; seed {options.seed}; {path}")
    return 0 if report.passed else 1


async def _report(run: Run) -> Report:
    """SIGTERM ends the run like Ctrl-C: in order, with everything that it has started."""
    task = asyncio.ensure_future(run.report())
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await task


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    add = parser.add_argument
    add("--seed", type=int, help="draws jobs, faults and hostile records; default: a new one")
    add("--minutes", type=float, default=3.0, help="of load and faults (default: 3)")
    add("--jobs", type=int, help="default: 10 a second, with SGLang 1 a second")
    add("--workers", type=int, default=3, help="(default: 3)")
    add("--engine", choices=sorted(ENGINES), default="null", help="(default: null)")
    add("--gap-s", type=float, default=5.0, help="mean time between faults (default: 5)")
    add("--settle-s", type=float, default=120.0, help="for jobs to end afterwards (default: 120)")
    kinds = "names, comma-separated; all (the default); none; and -name to leave one out"
    add("--faults", default="all", help=kinds)
    add("--hostile", default="all", help=kinds)
    add("--report", type=Path, help=f"the JSON file (default: {REPORTS}/seed-N.json)")
    add("--list", action="store_true", help="show the kinds of faults and hostile records")
    return parser


def _options(arguments: argparse.Namespace) -> Options:
    engine = arguments.engine
    jobs = arguments.jobs
    if jobs is None:
        jobs = round(JOBS_PER_S[engine] * 60 * arguments.minutes)
    return Options(
        seed=random.SystemRandom().randrange(10**6) if arguments.seed is None else arguments.seed,
        minutes=arguments.minutes,
        jobs=jobs,
        workers=arguments.workers,
        engine=engine,
        faults=chosen(arguments.faults, faults.kinds_for(engine)),
        hostile=chosen(arguments.hostile, hostile.kinds_for(engine)),
        gap_s=arguments.gap_s,
        settle_s=arguments.settle_s,
    )


def chosen(text: str, known: list[str]) -> tuple[str, ...]:
    """The kinds that `text` names. Exits with a message when there is no such kind."""
    sets = {"all": known, "none": []}
    words = text.split(",")
    if words[0].startswith("-"):
        words = ["all", *words]
    picked: list[str] = []
    for word in words:
        name = word.removeprefix("-")
        if name not in sets and name not in known:
            raise SystemExit(f"no kind {name!r}; --list shows them")
        named = sets.get(name, [name])
        if word.startswith("-"):
            picked = [kind for kind in picked if kind not in named]
        else:
            picked += [kind for kind in named if kind not in picked]
    return tuple(picked)


def _kinds() -> str:
    lines = []
    for title, kinds in (("faults", faults.KINDS), ("hostile records", hostile.KINDS)):
        lines.append(f"{title}:")
        for kind in kinds.values():
            note = f"with {kind.engine} only" if kind.engine else ""
            lines.append(f"  {kind.name:<32} {note}".rstrip())
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
