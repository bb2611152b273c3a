"""Heartbeats among SGLang's outputs."""

import os
from dataclasses import dataclass

from workers.engine.watchdog import Watchdog
from workers.runtime.engine.heartbeats import Heartbeats, states
from workers.runtime.messages import heartbeat_id


@dataclass
class Output:
    rids: list[str]


async def test_a_heartbeat_is_a_sign_of_life_and_nothing_else() -> None:
    watchdog, handled = Watchdog(limit_s=2.0), []

    async def handle(output: Output) -> None:
        handled.append(output.rids)

    listening = Heartbeats(watchdog).taken_from(handle)
    for _ in range(5):
        assert (watchdog.tick(), watchdog.tick()) == (None, None)
        await listening(Output([heartbeat_id(0)]))
    await listening(Output(["a", "b"]))
    await listening(Output([]))
    assert handled == [["a", "b"], []]


async def test_an_engine_that_never_showed_a_sign_of_life_hangs() -> None:
    watchdog = Watchdog(limit_s=2.0)
    Heartbeats(watchdog)
    assert [watchdog.tick() for _ in range(3)] == [None, None, "SGLang"]


async def test_one_silent_replica_is_enough() -> None:
    watchdog = Watchdog(limit_s=2.0)

    async def handle(output: Output) -> None: ...

    listening = Heartbeats(watchdog).taken_from(handle)
    await listening(Output([heartbeat_id(1)]))
    found = []
    for _ in range(3):
        await listening(Output([heartbeat_id(0)]))
        found.append(watchdog.tick())
    assert found == [None, None, "SGLang"]


def test_the_state_of_a_process_is_in_words() -> None:
    assert "(running)" in states([os.getpid()])
    assert states([2**22 + 1]).endswith("is gone")
