"""How busy an engine says that it is."""

from dataclasses import replace

from workers.engine.load import EngineLoad, TokenRates, together
from workers.policy.load import ChatForecast, QueueLoad
from workers.policy.qos import Kind

QUEUE = QueueLoad(
    waiting=3,
    prefilling=1,
    overdue=2,
    demand=0.5,
    tokens_per_s=1_000.0,
    backlog_s={Kind.BATCH: (0.0, 4.0)},
    chats=(ChatForecast(128, 0.2),),
)
LOAD = EngineLoad(5, 100.0, 50.0, used_kv_tokens=10, kv_tokens=40, queue=QUEUE)


def test_rates_are_of_the_last_second() -> None:
    now_s = 10.0
    rates = TokenRates(lambda: now_s)
    rates.add(prompt_tokens=300, generated_tokens=30)
    assert rates.per_s() == (0.0, 0.0)
    now_s = 12.0
    assert rates.per_s() == (150.0, 15.0)
    rates.add(generated_tokens=10)
    assert rates.per_s() == (150.0, 15.0)  # asked again within the second
    now_s = 13.0
    assert rates.per_s() == (0.0, 10.0)


def test_replicas_count_together_and_the_busiest_says_how_long_things_take() -> None:
    busier = replace(
        QUEUE,
        demand=0.9,
        backlog_s={Kind.BATCH: (1.0, 3.0), Kind.TASK: (2.0, 2.0)},
        chats=(ChatForecast(128, 0.7),),
    )
    both = together([LOAD, replace(LOAD, decodes=2, queue=busier)])
    assert both == EngineLoad(
        7,
        200.0,
        100.0,
        used_kv_tokens=20,
        kv_tokens=80,
        queue=QueueLoad(
            waiting=6,
            prefilling=2,
            overdue=4,
            demand=0.9,
            tokens_per_s=2_000.0,
            backlog_s={Kind.BATCH: (1.0, 4.0), Kind.TASK: (2.0, 2.0)},
            chats=(ChatForecast(128, 0.7),),
        ),
    )


def test_what_an_engine_does_not_know_stays_unknown() -> None:
    assert together([]) is None
    assert together([EngineLoad(1, 2.0, 3.0)]) == EngineLoad(1, 2.0, 3.0)


def test_where_one_replica_would_relegate_a_chat_nobody_promises_it_a_ttft() -> None:
    relegating = replace(QUEUE, chats=(ChatForecast(128, None),))
    both = together([LOAD, replace(LOAD, queue=relegating)])
    assert both is not None
    assert both.queue is not None
    assert both.queue.chats == relegating.chats
