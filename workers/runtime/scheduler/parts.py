"""The parts of Niyama's scheduler, built in one place."""

from collections.abc import Callable
from dataclasses import dataclass

from workers.latency.model import LatencyModel
from workers.runtime.scheduler.batch_maker import BatchMaker
from workers.runtime.scheduler.batch_watcher import BatchWatcher
from workers.runtime.scheduler.driver import PolicyDriver
from workers.runtime.scheduler.heartbeat import Heartbeat
from workers.runtime.scheduler.iteration_clock import Clock, IterationClock
from workers.runtime.scheduler.lifecycle import RequestLifecycle
from workers.runtime.scheduler.parking import Parking
from workers.runtime.scheduler.prefix_matches import PrefixMatches
from workers.runtime.scheduler.reporter import DecisionReporter, Sender
from workers.runtime.scheduler.seams import EngineCalls
from workers.runtime.scheduler.waiting import WaitingRequests


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
    sender: Sender,
    keep_model: Callable[[LatencyModel], None],
    *,
    latency_is_known: bool,
    paces: bool,
    has_worker: bool,
) -> Parts:
    """`keep_model` is called with each model that `driver` learns.

    `has_worker`: somebody listens for heartbeats.
    """
    send = engine.send_heartbeat if has_worker else _to_nobody
    heartbeat = Heartbeat(send, shared_clock.own_s)
    clock = IterationClock(shared_clock, driver.clock_stepped)
    waiting = WaitingRequests(engine.scheduler)
    parking = Parking(engine)
    prefixes = PrefixMatches(engine, waiting, driver)
    reporter = DecisionReporter(sender)
    return Parts(
        latency_is_known,
        driver,
        heartbeat,
        clock,
        parking,
        RequestLifecycle(engine, waiting, parking, driver, clock, prefixes),
        BatchMaker(engine, waiting, parking, driver, clock, prefixes, reporter, keep_model),
        BatchWatcher(engine, parking, driver, clock, reporter, paces=paces),
    )


def _to_nobody() -> None:
    """In a plain SGLang server."""
