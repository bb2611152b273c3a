"""What a run shows: progress while it runs, a table and a JSON file at its end."""

import json
import math
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from niyama.local.supervisor import Notice
from tests.chaos.faults import InjectedFault, PlannedFault
from tests.chaos.hostile import SentRecord
from tests.chaos.journal import Journal
from tests.chaos.reconcile import MAX_RUN_TWICE, Fault, Verdict
from tests.chaos.recovery import Recovery
from tests.chaos.stack import Death

PLAIN_INTERVAL_S = 15.0
SHOWN_FINDINGS = 5


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that is known of a run."""

    seed: int
    options: dict[str, Any]
    started_at_s: float
    verdict: Verdict
    journal: Journal
    faults: list[InjectedFault]
    hostile: list[SentRecord]
    recoveries: list[Recovery]
    normal_overhead_s: float
    deaths: list[Death]
    planned: dict[str, int]
    """How many of what `happened` counts."""
    looks: int
    """How often the outcomes in the ledger were looked at while they changed."""

    @property
    def passed(self) -> bool:
        """Whether something happened, and nothing went wrong."""
        nothing_wrong = not (self.journal.surprises or self.unprovoked or self.missing)
        return self.verdict.passed and nothing_wrong

    @property
    def happened(self) -> dict[str, int]:
        return {
            "jobs": self.verdict.jobs,
            "faults": sum(not fault.skipped for fault in self.faults),
            "hostile records": sum(record.source is not None for record in self.hostile),
        }

    @property
    def missing(self) -> list[str]:
        """What was planned, and did not happen even once: the run shows nothing of it."""
        return [name for name, count in self.happened.items() if self.planned[name] and not count]

    @property
    def unprovoked(self) -> list[Death]:
        """Deaths that no fault caused."""
        return [death for death in self.deaths if not death.provoked]

    def numbers(self) -> dict[str, int]:
        """What has to be zero."""
        counts = {fault.value: len(self.verdict.findings.get(fault, ())) for fault in Fault}
        return counts | {
            "unexpected answers": len(self.journal.surprises),
            "unprovoked deaths": len(self.unprovoked),
            "planned without effect": len(self.missing),
        }

    def as_json(self) -> dict[str, Any]:
        verdict, happened = self.verdict, self.happened
        return {
            "seed": self.seed,
            "passed": self.passed,
            "options": self.options,
            "started_at_s": self.started_at_s,
            "jobs": verdict.jobs,
            "statuses": dict(verdict.statuses),
            "unconfirmed": dict(self.journal.unconfirmed),
            "looks_at_outcomes": self.looks,
            "faults_injected": happened["faults"],
            "hostile_records": happened["hostile records"],
            "refused_records": len(self.journal.refused),
            "must_be_zero": self.numbers(),
            "run_twice": len(verdict.run_twice),
            "run_twice_share": verdict.run_twice_share,
            "other_records_run": verdict.other_records_run,
            "tokens": verdict.tokens,
            "tokens_generated_twice": verdict.tokens_again,
            "normal_overhead_s": self.normal_overhead_s,
            "recoveries": [asdict(each) for each in self.recoveries],
            "findings": {
                fault.value: [asdict(each) for each in found]
                for fault, found in verdict.findings.items()
            },
            "run_twice_findings": [asdict(each) for each in verdict.run_twice],
            "surprises": self.journal.surprises,
            "deaths": [asdict(death) for death in self.deaths],
            "faults": [asdict(fault) for fault in self.faults],
            "hostile": [asdict(record) for record in self.hostile],
        }


def write(report: Report, path: Path, stack_folder: Path) -> None:
    """The JSON file; beside it, when something is wrong, the logs of all parts."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report.as_json(), indent=2, default=str) + "\n")
    if report.passed:
        return
    logs = path.with_suffix(".logs")
    logs.mkdir(exist_ok=True)
    for log in stack_folder.glob("*/*.log*"):
        shutil.copy(log, logs / f"{log.parent.name}-{log.name}")


def show(report: Report, console: Console) -> None:
    """The final tables."""
    console.print(_outcome(report))
    if report.recoveries:
        console.print(_recovery(report))
    for fault, findings in report.verdict.findings.items():
        for finding in findings[:SHOWN_FINDINGS]:
            line = f"{fault.value}: {finding.job_id} ({finding.origin}) {finding.sentence}"
            console.print(escape(line), soft_wrap=True)
    for name in report.missing:
        console.print(f"planned without effect: not one of {report.planned[name]:,} {name}")
    for surprise in report.journal.surprises[:SHOWN_FINDINGS]:
        console.print(escape(f"unexpected answer: {surprise}"), soft_wrap=True)
    for death in report.unprovoked[:SHOWN_FINDINGS]:
        line = f"unprovoked death: {death.part}: {' '.join(death.detail.split())[-600:]}"
        console.print(escape(line), soft_wrap=True)


def _outcome(report: Report) -> Table:
    verdict = report.verdict
    happened = report.happened
    ends = ", ".join(f"{count:,} {status}" for status, count in sorted(verdict.statuses.items()))
    table = Table("", "measured", "allowed", title=f"Chaos, seed {report.seed}")
    table.add_row("acknowledged jobs", f"{verdict.jobs:,} ({ends})", "")
    table.add_row("never confirmed", f"{report.journal.unconfirmed.total():,}", "")
    skipped = len(report.faults) - happened["faults"]
    table.add_row("faults", f"{happened['faults']} (and {skipped} skipped)", "")
    table.add_row("hostile records", f"{happened['hostile records']}", "")
    table.add_row("looks at outcomes", f"{report.looks:,}", "")
    for name, count in report.numbers().items():
        style = "red" if count else "green"
        table.add_row(name, f"[{style}]{count:,}[/{style}]", "0")
    share = verdict.run_twice_share
    style = "red" if share > MAX_RUN_TWICE else "green"
    table.add_row(
        "run to their end twice",
        f"[{style}]{len(verdict.run_twice):,} ({share:.1%})[/{style}]",
        f"{MAX_RUN_TWICE:.0%}",
    )
    table.add_row("run for another record of their id", f"{verdict.other_records_run:,}", "")
    again = verdict.tokens_again / max(1, verdict.tokens)
    table.add_row("tokens generated twice", f"{verdict.tokens_again:,} ({again:.1%})", "")
    return table


def _recovery(report: Report) -> Table:
    title = f"Until chats take at most {report.normal_overhead_s:.1f} s longer than their tokens"
    table = Table("after", "p50", "max", "measured", "overtaken", title=title)
    for each in report.recoveries:
        table.add_row(
            each.kind,
            _seconds(each.median_s),
            _seconds(each.max_s),
            str(each.measured),
            str(each.overtaken),
        )
    return table


def _seconds(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.1f} s"


class Narrator:
    """Progress in a terminal, plain lines elsewhere."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._start_s = time.monotonic()
        self._next_plain_s = 0.0
        columns = (
            TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()
        )  # fmt: skip
        self._progress = Progress(*columns, console=console, disable=not console.is_terminal)
        self._bar: TaskID | None = None

    def __enter__(self) -> "Narrator":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def say(self, line: str) -> None:
        """A line that stays."""
        elapsed_s = time.monotonic() - self._start_s
        self._console.print(escape(f"{elapsed_s:7.1f} s  {line}"), soft_wrap=True)

    def progress(self, text: str, done: float, total: float) -> None:
        """How far it is."""
        if self._console.is_terminal:
            if self._bar is None:
                self._bar = self._progress.add_task(text, total=total)
            self._progress.update(self._bar, description=text, completed=done, total=total)
        elif time.monotonic() >= self._next_plain_s:
            self._next_plain_s = time.monotonic() + PLAIN_INTERVAL_S
            self.say(text)

    def fault(self, fault: PlannedFault) -> None:
        lasts = f" for {fault.duration_s:.1f} s" if fault.duration_s else ""
        self.say(f"{fault.kind} {fault.target}{lasts}")

    def notice(self, notice: Notice) -> None:
        if notice.state in ("ready", "died"):
            shown = notice.detail.partition(" The end of ")[0]  # a long log follows
            self.say(f"  {notice.part} {notice.state} {shown}")
