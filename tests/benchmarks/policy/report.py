"""The tables and the picture of docs/scheduler.md, from the results of the benchmark.

`python -m tests.benchmarks.policy.report --results bench-policy.json --png overload.png`
"""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import Field

from niyama.command_settings import CommandSettings
from tests.benchmarks.policy import day
from tests.benchmarks.policy.busy_hour import LOADS, POOLS
from tests.benchmarks.policy.jitserve import MULTIPLES, OWN_POLICIES, POLICIES, RATES, SEEDS
from tests.benchmarks.policy.parts import (
    ABLATIONS,
    CAPACITY_POLICIES,
    OVERLOAD_BASELINES,
    OVERLOAD_SEEDS,
    OVERLOADS,
    REFERENCE_QPS,
)
from workers.simulator.capacity import SCORINGS
from workers.simulator.devices import LAWS

Results = Mapping[str, dict[str, Any]]
OVERLOAD_LINES = (
    *(f"niyama seed {seed}" for seed in OVERLOAD_SEEDS),
    *(f"{policy} seed 1" for policy in OVERLOAD_BASELINES),
)
MISSING = "-"
_SINGLE_RUNS = ("burst", "cached", "diurnal", "fairness", "held-out", "minute", "nonnegative")
_PARTS_OF_A_RUN = ("important", "interactive", "batch", "value_kept", "fairness")
_SHOWN_DAY = ("code", "smooth")
_SHARED = "niyama/no-alternation"
"""Serves all tiers of a day: what it carries on devices without that quirk, too."""
_SHOWN = 1.6
"""The overload that is shown in detail."""


class ReportSettings(CommandSettings):
    """Print what the benchmark measured as tables in Markdown."""

    results: Path = Field(description="What tests.benchmarks.policy.run wrote")
    png: Path | None = Field(default=None, description="Plot misses over load to this PNG file")
    day_png: Path | None = Field(
        default=None, description="Plot the GPUs of a day (Azure Code) to this PNG file"
    )


def main(arguments: list[str]) -> int:
    settings = ReportSettings.from_command_line(arguments, "report-scheduler")
    results: Results = json.loads(settings.results.read_text())
    tables = (_capacity, _overload, _classes, _ablation, _day, _silos, _jitserve, _learned, _others)
    print("\n\n".join("\n".join(table(results)) for table in tables))
    if settings.png is not None:
        from tests.benchmarks.policy.plots import plot_overload  # matplotlib is an extra

        plot_overload(_curves(results), settings.png)
    if settings.day_png is not None and (found := _busy(results, *_SHOWN_DAY)) is not None:
        from tests.benchmarks.policy.plots import plot_day

        plot_day(found, day.FLEETS_QPS[-1], day.HOURS_APART[1], settings.day_png)
    return 0


def _capacity(results: Results) -> Iterable[str]:
    """Requests/s by TTFT only / envelope / true gaps."""
    yield from _head("policy", REFERENCE_QPS)
    for policy in CAPACITY_POLICIES:
        cells = []
        for dataset in REFERENCE_QPS:
            found = results.get(f"capacity {dataset} {policy}", {})
            cells.append(" / ".join(_number(found.get(scoring)) for scoring in SCORINGS))
        yield _row(policy, cells)
    limits = [results.get(f"bound {dataset}", {}) for dataset in REFERENCE_QPS]
    yield _row("limit", [_number(limit.get("throughput_limit_qps")) for limit in limits])


def _overload(results: Results) -> Iterable[str]:
    """% missed at each multiple of the reference."""
    yield from _head("policy", REFERENCE_QPS)
    for line in OVERLOAD_LINES:
        yield _row(
            line,
            [
                _missed([results.get(f"overload {dataset} {x} {line}") for x in OVERLOADS])
                for dataset in REFERENCE_QPS
            ],
        )
    bounds = [
        results.get(f"bound {dataset}", {}).get("least_missed", {}) for dataset in REFERENCE_QPS
    ]
    yield _row("bound", [" / ".join(_percent(b.get(str(x))) for x in OVERLOADS) for b in bounds])


def _classes(results: Results) -> Iterable[str]:
    """% missed of interactive / batch requests, and of the tenths by prompt length, at 1.6."""
    yield from _head("interactive / batch, shortest to longest", REFERENCE_QPS)
    for line in OVERLOAD_LINES:
        runs = [results.get(f"overload {dataset} {_SHOWN} {line}") for dataset in REFERENCE_QPS]
        yield _row(line, [_by_class(run) for run in runs])


def _by_class(run: dict[str, Any] | None) -> str:
    if run is None:
        return MISSING
    tenths = " ".join(f"{100 * share:.0f}" for share in run["by_size"])
    return f"{_percent(run['interactive'])} / {_percent(run['batch'])}; {tenths}"


def _ablation(results: Results) -> Iterable[str]:
    """% missed, and the tenth with the longest prompts."""
    at = ("conv 1.08", "conv 1.6", "code 1.6")
    yield from _head("policy", at)
    for policy in ABLATIONS:
        runs = [results.get(f"ablation {where} {policy}") for where in at]
        yield _row(policy, [_missed([run]) for run in runs])


def _day(results: Results) -> Iterable[str]:
    """GPUs of three silos / two silos / the shared fleet; resized hourly, silos / shared."""
    columns = [f"{qps:g}/s" for qps in day.FLEETS_QPS]
    columns += ["fewer", "than without shedding", "resized"]
    yield from _head("trace, arrivals, hours between peaks", columns)
    for dataset in REFERENCE_QPS:
        for load in LOADS:
            found = _busy(results, dataset, load)
            plain = _busy(results, dataset, load, shedding=False)
            if found is None or plain is None:
                continue
            for apart in day.HOURS_APART:
                sizes = [day.sizes(found, qps, apart) for qps in day.FLEETS_QPS]
                rivals = [
                    replace(day.sizes(plain, qps, apart), shared=size.shared)
                    for qps, size in zip(day.FLEETS_QPS, sizes, strict=True)
                ]
                cells = [f"{s.three_silos} / {s.two_silos} / {s.shared}" for s in sizes]
                cells += [_fewer(sizes), _fewer(rivals)]
                last = f"{sizes[-1].resized_silos:.1f} / {sizes[-1].resized_shared:.1f}"
                yield _row(f"{dataset}, {load}, {apart:g}", [*cells, last])


def _fewer(sizes: Sequence[day.Sizes]) -> str:
    return " / ".join(f"{100 * each.fewer:.0f}%" for each in sizes)


def _busy(
    results: Results, dataset: str, load: str, *, shedding: bool = True
) -> day.Capacities | None:
    """None until all is measured; with `shedding`, interactive silos may serve late work last.

    The shared fleet has the lower of what it carries for hours and in bursts.
    """
    try:
        silos = results[f"busy hour {dataset} {load} Q1"]
        interactive = max(qps for name, qps in silos.items() if shedding or "shed" not in name)
        shared = results[f"capacity {dataset} {_SHARED}"]["gaps"]
        if load == "bursts":
            shared = min(shared, *results[f"busy hour {dataset} {load} all"].values())
        limit = results[f"bound {dataset}"]["throughput_limit_qps"]
    except KeyError:
        return None
    return day.Capacities(interactive, limit, shared)


def _silos(results: Results) -> Iterable[str]:
    """Requests/s of one replica in its busiest hour, by policy."""
    yield from _head("pool", REFERENCE_QPS)
    for load in LOADS:
        for pool in POOLS:
            found = [results.get(f"busy hour {name} {load} {pool}") for name in REFERENCE_QPS]
            yield _row(f"{load}, {pool}", [_by_policy(each) for each in found])


def _by_policy(found: Mapping[str, float] | None) -> str:
    if found is None:
        return MISSING
    return ", ".join(f"{policy} {qps:.2f}" for policy, qps in found.items())


def _jitserve(results: Results) -> Iterable[str]:
    """Requests/s and tokens/s in time: their kind of workload by load, its bursts, and ours."""
    yield from _head("requests/s; tokens/s", RATES)
    for policy in POLICIES:
        cells = [
            _goodput(
                [_seeds(results, f"jitserve {name} {load} {policy}") for load in sorted(MULTIPLES)]
            )
            for name in RATES
        ]
        yield _row(policy, cells)
    for line, policies in (("{} bursty", POLICIES), ("own {}", OWN_POLICIES)):
        for policy in policies:
            names = [f"jitserve {line.format(dataset)} {policy}" for dataset in RATES]
            cells = [_goodput([[results[name]] if name in results else []]) for name in names]
            yield _row(f"{line.format('').strip()} {policy}", cells)


def _seeds(results: Results, name: str) -> list[dict[str, Any]]:
    """The same with each seed, as far as it was run."""
    names = (f"{name} seed {seed}" for seed in SEEDS)
    return [results[each] for each in names if each in results]


def _goodput(loads: Sequence[Sequence[dict[str, Any]]]) -> str:
    """Means of each load's runs."""
    requests = [_number(_mean([run["goodput_qps"] for run in runs])) for runs in loads]
    tokens = [_mean([run["goodput_tokens_per_s"] for run in runs]) for runs in loads]
    shown = [MISSING if mean is None else f"{mean:.0f}" for mean in tokens]
    return f"{' / '.join(requests)}; {' / '.join(shown)}"


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _learned(results: Results) -> Iterable[str]:
    """% of the goodput that knowing the law gives; % of gaps late with the worst seed."""
    yield from _head("law", RATES)
    for law in LAWS:
        runs = [_seeds(results, f"learned {law} {dataset}") for dataset in RATES]
        yield _row(law, [_learned_cell(each) for each in runs])


def _learned_cell(runs: Sequence[dict[str, Any]]) -> str:
    if not runs:
        return MISSING
    share = sum(run["learned_qps"] for run in runs) / sum(run["known_qps"] for run in runs)
    return f"{100 * share:.1f}; {_percent(max(run['learned_late_gaps'] for run in runs))}"


def _others(results: Results) -> Iterable[str]:
    yield from _head("part", ("result",))
    for name, result in results.items():
        kind = name.split()[0]
        if kind in _SINGLE_RUNS:
            yield _row(name, [_summary(result)])
        elif kind in ("cluster", "predictor", "silo"):
            found = {key: value for key, value in result.items() if key != "runs"}
            yield _row(name, [json.dumps(found)])


def _summary(run: dict[str, Any]) -> str:
    """% missed: in total, of parts and of tenants; and the value kept and Jain's index."""
    shown = [f"{part} {_percent(run.get(part))}" for part in _PARTS_OF_A_RUN]
    shown += [f"{name} {_percent(share)}" for name, share in run.get("tenants", {}).items() if name]
    return f"{_missed([run])}: {', '.join(shown)}"


def _curves(results: Results) -> dict[str, dict[str, list[tuple[float, float]]]]:
    """Dataset -> line -> (multiple of the reference, % missed)."""
    curves: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for dataset in REFERENCE_QPS:
        lines = curves.setdefault(dataset, {})
        for line in OVERLOAD_LINES:
            runs = [(x, results.get(f"overload {dataset} {x} {line}")) for x in OVERLOADS]
            points = [(x, 100 * run["missed"]) for x, run in runs if run is not None]
            if points and "seed 2" not in line:
                lines[line.removesuffix(" seed 1")] = points
        least = results.get(f"bound {dataset}", {}).get("least_missed", {})
        lines["bound"] = [(x, 100 * least[str(x)]) for x in OVERLOADS if str(x) in least]
    return curves


def _head(first: str, columns: Iterable[str]) -> Iterable[str]:
    names = [first, *columns]
    yield _row(names[0], names[1:])
    yield "|" + "---|" * len(names)


def _row(first: str, cells: Sequence[str]) -> str:
    return "| " + " | ".join([first, *cells]) + " |"


def _missed(runs: Sequence[dict[str, Any] | None]) -> str:
    return " / ".join(MISSING if run is None else _percent(run["missed"]) for run in runs)


def _percent(share: float | None) -> str:
    return MISSING if share is None else f"{100 * share:.2f}"


def _number(value: float | None) -> str:
    return MISSING if value is None else f"{value:.2f}"


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
