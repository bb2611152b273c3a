"""`niyama simulate`."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

from niyama.errors import ConfigurationError
from workers.engine.scheduling import parse_weights
from workers.latency.profiles import Profile, load_profile
from workers.simulator.capacity import Capacity, capacity_of, gpus_for
from workers.simulator.cluster import RoundRobin, Router, TierAware
from workers.simulator.devices import EXACT, FIRST_GUESS_PROFILE, LAWS, exact_profile
from workers.simulator.drafts import Drafts
from workers.simulator.engine import SimulationError
from workers.simulator.experiment import Experiment
from workers.simulator.policies import policy_factory
from workers.simulator.replica import Iteration
from workers.simulator.settings import (
    SimulateSettings,
    parse_rates,
    parse_square,
    parse_tiers,
)
from workers.simulator.silo import SILO, run_silo
from workers.simulator.summary import Summary
from workers.simulator.tables import (
    capacity_table,
    intervals_table,
    misses_table,
    sweep_table,
    title_of,
    value_table,
)
from workers.simulator.traces import read_trace

_INTERRUPTED = 130
"""What a shell reports for a command ended by Ctrl-C."""


def main(arguments: list[str]) -> int:
    """Simulate and print. Raises NiyamaError with a message for the user."""
    settings = SimulateSettings.from_command_line(arguments, "niyama simulate")
    for name in settings.policies:
        if name != SILO:
            policy_factory(name)
    experiment = build_experiment(settings)
    console = Console()
    try:
        if settings.find_capacity or settings.gpus_for is not None:
            _search(settings, experiment, console)
        else:
            _sweep(settings, experiment, console)
    except SimulationError as error:
        raise ConfigurationError(str(error)) from error
    except KeyboardInterrupt:
        return _INTERRUPTED
    return 0


def build_experiment(settings: SimulateSettings) -> Experiment:
    """Raises ConfigurationError for traces, profiles and combinations that cannot work."""
    trace = read_trace(settings.trace)
    if settings.arrivals == "trace" and trace.arrivals_s is None:
        raise ConfigurationError(f"{settings.trace} has no arrival times: use --arrivals poisson")
    return Experiment(
        trace=trace,
        profile=_profile(settings),
        law=LAWS.get(settings.law),
        learn=settings.learn,
        overlap=settings.overlap,
        tiers=parse_tiers(settings.slo),
        duration_s=settings.duration_s,
        warm_up_s=settings.warm_up_s,
        seed=settings.seed,
        noise=settings.noise,
        low_importance=settings.low_importance,
        tenants=parse_weights(settings.tenants),
        kv_tokens=settings.kv_tokens,
        trace_arrivals=settings.arrivals == "trace",
        square_wave=parse_square(settings.square) if settings.arrivals == "square" else None,
        predictor_factor=settings.predictor_factor,
        settings=replace(settings.policy_settings(), max_chunk_tokens=settings.max_chunk_tokens),
        drafts=_drafts(settings),
        replicas=settings.replicas,
        router=_router(settings.interactive_replicas),
    )


def _profile(settings: SimulateSettings) -> Profile:
    if settings.profile == EXACT:
        return exact_profile(LAWS[settings.law])
    if settings.profile == FIRST_GUESS_PROFILE.name:
        return FIRST_GUESS_PROFILE
    return load_profile(settings.profile)


def _drafts(settings: SimulateSettings) -> Drafts | None:
    if settings.speculate is None:
        return None
    return Drafts(settings.speculate, settings.draft_tokens)


def _router(interactive_replicas: int) -> Callable[[], Router]:
    if interactive_replicas:
        return partial(TierAware, interactive=interactive_replicas)
    return RoundRobin


def _sweep(settings: SimulateSettings, experiment: Experiment, console: Console) -> None:
    rates = parse_rates(settings.qps)
    if experiment.square_wave is not None:
        wave = experiment.square_wave
        rates = [(wave.low + wave.high) / 2]
    results: list[Summary] = []
    try:
        _run_all(settings, experiment, rates, results)
    finally:  # an interrupted sweep shows what it has
        if results:
            _show(results, settings, experiment, console)
    _write_json(settings.json_out, [result.as_dict() for result in results])
    if settings.png is not None:
        from workers.simulator.plots import plot_sweep  # matplotlib is an extra

        plot_sweep(results, settings.png)
    if settings.timeline is not None:
        _timeline(experiment, settings.policies[0], rates[0], settings.timeline)


def _show(
    results: list[Summary], settings: SimulateSettings, experiment: Experiment, console: Console
) -> None:
    if settings.seeds > 1:
        console.print(intervals_table(results, title_of(experiment)))
    else:
        console.print(sweep_table(results, experiment))
        console.print(misses_table(results))
        if experiment.tenants or experiment.low_importance:
            console.print(value_table(results))


def _run_all(
    settings: SimulateSettings, experiment: Experiment, rates: list[float], results: list[Summary]
) -> None:
    """Every policy at every rate with every seed, added to `results` one by one."""
    seeded = [replace(experiment, seed=settings.seed + i) for i in range(settings.seeds)]
    with _progress() as progress:
        total = len(rates) * len(settings.policies) * len(seeded)
        task = progress.add_task("simulating", total=total)
        for policy in settings.policies:
            progress.update(task, description=policy)
            run = _runner(experiment, policy, settings.scoring)
            for qps in rates:
                progress.update(task, description=f"{policy} at {qps:g}/s")
                for each in seeded:
                    results.append(run(each, qps, _tracker(progress, task, len(results))))


def _timeline(experiment: Experiment, policy: str, qps: float, path: Path) -> None:
    """One second from the middle of the run."""
    from workers.simulator.plots import plot_iterations

    middle_s = experiment.duration_s / 2
    replica = experiment.replica(policy)
    iterations: list[Iteration] = []
    for sim in experiment.requests(qps):
        replica.run_until(sim.request.qos.arrival_s)
        replica.submit(sim)
        if iterations and replica.now_s > iterations[0].start_s + 1.0:
            break
        if replica.now_s > middle_s:
            replica.on_iteration = iterations.append
    if not iterations:
        raise ConfigurationError("no request arrives in the middle of the run: raise --qps")
    second = [i for i in iterations if i.start_s < iterations[0].start_s + 1.0]
    plot_iterations(second, f"{policy}, {experiment.trace.name} at {qps:g} requests/s", path)


_Run = Callable[[Experiment, float, Callable[[float], None]], Summary]


def _runner(experiment: Experiment, policy: str, scoring: str) -> _Run:
    """Runs a policy at a rate. The pools of silo are sized first, by what they can carry."""
    if policy != SILO:
        return lambda each, qps, progress: each.run(policy, qps, progress)
    capacities = [pool.capacity_qps for pool in capacity_of(experiment, SILO, scoring).pools]
    if min(capacities) == 0:
        raise ConfigurationError("silo meets these SLOs at no rate: leave it out, or relax --slo")
    return lambda each, qps, progress: run_silo(each, capacities, qps, progress)


def _tracker(progress: Progress, task: TaskID, done: int) -> Callable[[float], None]:
    return lambda share: progress.update(task, completed=done + share)


def _search(settings: SimulateSettings, experiment: Experiment, console: Console) -> None:
    capacities: list[Capacity] = []
    with _progress() as progress:
        task = progress.add_task("searching", total=None)
        for policy in settings.policies:
            progress.update(task, description=f"capacity of {policy}")
            capacities.append(capacity_of(experiment, policy, settings.scoring))
    if settings.gpus_for is not None:
        answers = [(c.policy, gpus_for(settings.gpus_for, c)) for c in capacities]
    else:
        answers = None
    console.print(capacity_table(capacities, settings.scoring, settings.gpus_for, answers))
    _write_json(settings.json_out, [capacity.as_dict() for capacity in capacities])
    if settings.png is not None:
        from workers.simulator.plots import plot_sweep

        runs = [run for capacity in capacities for run in _named_runs(capacity)]
        plot_sweep(sorted(runs, key=lambda run: run.qps), settings.png)


def _named_runs(capacity: Capacity) -> list[Summary]:
    """The runs of all pools; those of several pools are called after them."""
    if len(capacity.pools) == 1:
        return list(capacity.pools[0].runs)
    return [
        replace(run, policy=f"{capacity.policy}, {pool.name}")
        for pool in capacity.pools
        for run in pool.runs
    ]


def _progress() -> Progress:
    """On stderr, and only for a terminal: standard output has the results and nothing else."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
    return Progress(
        *columns,
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


def _write_json(path: Path | None, results: list[dict[str, object]]) -> None:
    if path is not None:
        path.write_text(json.dumps(_finite(results), indent=1, allow_nan=False) + "\n")


def _finite(value: object) -> object:
    """JSON has no infinity: what never came is null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return value
