"""The parts of Niyama's scheduler, built in one place."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from workers.engine.load import TokenRates
from workers.latency.model import LatencyModel
from workers.policy.interference import Interference
from workers.runtime.scheduler.batch_maker import BatchMaker
from workers.runtime.scheduler.batch_watcher import BatchWatcher
from workers.runtime.scheduler.driver import PolicyDriver
from workers.runtime.scheduler.heartbeat import Heartbeat
from workers.runtime.scheduler.iteration_accounts import IterationAccounts
from workers.runtime.scheduler.iteration_clock import Clock, IterationClock
from workers.runtime.scheduler.lifecycle import RequestLifecycle
from workers.runtime.scheduler.load_reports import LoadReports, LoadSender
from workers.runtime.scheduler.parking import Parking
from workers.runtime.scheduler.prefix_matches import PrefixMatches
from workers.runtime.scheduler.reporter import DecisionReporter, Sender
from workers.runtime.scheduler.seams import EngineCalls
from workers.runtime.scheduler.waiting import WaitingRequests


class WorkerSender(Sender, LoadSender, Protocol):
    """What the worker is told."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What SGLang's seams call."""

    latency_is_known: bool
    """There was a latency model of this model and device at the start."""
    driver: PolicyDriver
    heartbeat: Heartbeat
    clock: IterationClock
    parking: Parking
    requests: RequestLifecycle
    batches: BatchMaker
    watcher: BatchWatcher


def assemble(
    engine: EngineCalls,
    driver: PolicyDriver,
    shared_clock: Clock,
    sender: WorkerSender,
    keep_model: Callable[[LatencyModel], None],
    *,
    latency_is_known: bool,
    paces: bool,
    has_worker: bool,
) -> Parts:
    """`keep_model` is called with each model that `driver` learns.

    `has_worker`: somebody listens for heartbeats.
    """
    clock = IterationClock(shared_clock, driver.clock_stepped)
    waiting = WaitingRequests(engine.scheduler)
    parking = Parking(engine)
    rates = TokenRates(shared_clock.own_s)
    loads = LoadReports(engine, driver, parking, clock, sender, rates)

    def show_life() -> None:
        engine.send_heartbeat()
        loads.send()

    heartbeat = Heartbeat(show_life if has_worker else _to_nobody, shared_clock.own_s)
    prefixes = PrefixMatches(engine, waiting, driver)
    reporter = DecisionReporter(sender)
    interference = Interference()
    accounts = IterationAccounts(interference)
    return Parts(
        latency_is_known,
        driver,
        heartbeat,
        clock,
        parking,
        RequestLifecycle(engine, waiting, parking, driver, clock, prefixes, reporter, interference),
        BatchMaker(engine, waiting, parking, driver, clock, prefixes, reporter, keep_model),
        BatchWatcher(engine, parking, driver, clock, reporter, rates, accounts, paces=paces),
    )


def _to_nobody() -> None:
    """In a plain SGLang server."""
