"""The results as Markdown, to be pasted into docs/scheduler.md."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

Result = Mapping[str, Any]
"""Of one stage, as in its file."""


def is_complete(folder: Path, stage: str) -> bool:
    found = _load(folder, stage)
    return found is not None and bool(found["complete"])


def write_summary(folder: Path) -> None:
    parts = []
    for stage, section in SECTIONS.items():
        if (found := _load(folder, stage)) is not None:
            machine = ", ".join(f"{name} {value}" for name, value in found["machine"].items())
            unfinished = "" if found["complete"] else " (unfinished)"
            heading = f"### {stage}{unfinished}\n\n{machine}\n"
            parts.append(f"{heading}\n{section(found['result'])}")
    (folder / "summary.md").write_text("\n".join(parts))


def _load(folder: Path, stage: str) -> dict[str, Any] | None:
    path = folder / f"{stage}.json"
    try:
        found: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError):  # not there, or interrupted while it was written
        return None
    return found


def start_up(result: Result) -> str:
    errors = " ".join(f"{error:.0%}" for error in result["error_by_second"])
    lines = [
        f"Ready after {result['ready_s']:.0f} s, of which {result['warm_up_s']:.1f} s were"
        f" {result['warm_up_iterations']} iterations of the warm-up."
        f" KV for {result['kv_tokens']} tokens.",
        f"Median error of the predictions, second by second under load: {errors}.",
        _iterations_table(result["iterations"]),
    ]
    return "\n\n".join(lines) + "\n"


def iterations(result: Result) -> str:
    fitted = result.get("held_out_error")
    lines = [_iterations_table(result["by_kind"])]
    if fitted is not None:
        lines.append(
            f"Fitted to every other of {result['recorded']} iterations, the model's median error"
            f" on the rest is {fitted:.1%}; the profile is in `{result['profile']}`."
        )
    return "\n\n".join(lines) + "\n"


def schedulers(result: Result) -> str:
    lines = []
    for load, rows in result["by_load"].items():
        lines += [f"{load} times stock SGLang's capacity:", _table(result["columns"], rows)]
    if "requests_per_s" in result:
        lines.append(f"Stock SGLang's capacity: {result['requests_per_s']:.1f} requests/s.")
        lines.append(_plans_table({"": result["plans"]}))
    return "\n\n".join(lines) + "\n"


def plans(result: Result) -> str:
    return _plans_table(result["by_waiting"]) + "\n"


SECTIONS: Mapping[str, Callable[[Result], str]] = {
    "start-up": start_up,
    "iterations": iterations,
    "schedulers": schedulers,
    "plans": plans,
}


def _iterations_table(rows: Sequence[Result]) -> str:
    names = ["", "prompt tokens", "context", "iterations", "measured p50", "predicted p50"]
    return _table(
        [*names, "error p50", "p90"],
        [
            [
                *(row["kind"], row["chunk"], row["context"], str(row["iterations"])),
                *(f"{row['measured_ms']:.1f} ms", f"{row['predicted_ms']:.1f} ms"),
                *(f"{row['error_p50']:.0%}", f"{row['error_p90']:.0%}"),
            ]
            for row in rows
        ],
    )


def _plans_table(by_waiting: Mapping[str, Result]) -> str:
    return _table(
        ["waiting", "plans", "plan p50", "p99", "max", "iteration p50", "share of the time"],
        [
            [
                *(waiting, str(cost["plans"])),
                *(f"{cost[name]:.2f} ms" for name in ("plan_p50_ms", "plan_p99_ms", "plan_max_ms")),
                *(f"{cost['iteration_p50_ms']:.1f} ms", f"{cost['share']:.1%}"),
            ]
            for waiting, cost in by_waiting.items()
        ],
    )


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
