"""What a worker shows of its engine, and of what it has."""

from dataclasses import replace

import pytest

from niyama.telemetry.measurements import Measurements
from tests.support.metrics import numbers
from workers.engine.load import EngineLoad, Iterations, together
from workers.latency.model import Regime
from workers.metrics import observe_engine
from workers.policy.load import ChatForecast, QueueLoad
from workers.policy.qos import Kind

QUEUE = QueueLoad(
    waiting=3,
    prefilling=2,
    overdue=1,
    demand=0.5,
    tokens_per_s=1000.0,
    backlog_s={Kind.BATCH: (0.0, 0.0, 1.0, 2.0, 3.0, 7.5)},
    chats=(ChatForecast(128, 0.25),),
)


@pytest.fixture
def measurements() -> Measurements:
    return Measurements()


def test_what_the_scheduler_last_said_is_shown(measurements: Measurements) -> None:
    load = EngineLoad(4, 100.0, 20.0, used_kv_tokens=7, kv_tokens=9, queue=QUEUE)
    observe_engine(measurements, lambda: load)
    assert numbers(measurements, "niyama.scheduler.demand") == {(): 0.5}
    assert numbers(measurements, "niyama.scheduler.requests") == {
        ("decode",): 4,
        ("waiting",): 3,
        ("prefill",): 2,
        ("overdue",): 1,
    }
    backlog = numbers(measurements, "niyama.scheduler.backlog")
    assert backlog["batch",] == 7.5
    assert backlog["interactive",] == 0
    assert numbers(measurements, "niyama.scheduler.predicted_ttft") == {("128",): 0.25}
    assert numbers(measurements, "niyama.scheduler.kv.used") == {(): 7}
    assert numbers(measurements, "niyama.scheduler.throughput") == {
        ("input",): 100,
        ("output",): 20,
    }


def test_no_ttft_is_predicted_of_a_chat_that_the_model_has_no_room_for(
    measurements: Measurements,
) -> None:
    chats = (ChatForecast(128, 0.25), ChatForecast(1024, 2.0), ChatForecast(8192, 60.0))
    load = EngineLoad(0, 0.0, 0.0, queue=replace(QUEUE, chats=chats))
    observe_engine(measurements, lambda: load, context_tokens=8192)
    found = numbers(measurements, "niyama.scheduler.predicted_ttft")
    assert found == {("128",): 0.25, ("1024",): 2.0}


def test_nothing_is_shown_of_an_engine_that_has_said_nothing(measurements: Measurements) -> None:
    observe_engine(measurements, lambda: None)
    assert measurements.collect() == []


def test_iterations_of_all_replicas_are_added_up(measurements: Measurements) -> None:
    replicas = [Iterations(), Iterations()]
    for replica in replicas:
        replica.launched(0.02, 256, Regime.SMALL)
        replica.launched(0.01, 0, Regime.DECODES)
        replica.launched(None, 0, Regime.DECODES)  # without a plan
        replica.ended([0.021, 0.012])
        replica.ended([0.5])
    loads = [EngineLoad(0, 0.0, 0.0, iterations=each.counts()) for each in replicas]
    observe_engine(measurements, lambda: together(loads))
    assert numbers(measurements, "niyama.scheduler.iteration.prediction_ratio") == {
        ("decodes",): 2,
        ("small",): 2,
        ("large",): 0,
    }
    assert numbers(measurements, "niyama.scheduler.iteration.duration") == {(): 6}
    assert numbers(measurements, "niyama.scheduler.chunk") == {(): 2}
