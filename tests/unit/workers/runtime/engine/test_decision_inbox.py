"""The worker's end of the scheduler's decisions, over a real socket."""

import asyncio
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from workers.engine.load import EngineLoad
from workers.engine.port import EngineDead
from workers.policy.decision import Decision, DecisionKind
from workers.policy.load import ChatForecast, QueueLoad
from workers.policy.qos import Kind
from workers.runtime.engine.decision_inbox import DecisionInbox
from workers.runtime.messages import DecisionSender

STARTED = Decision("a", DecisionKind.STARTED, 12.5)
PARKED = Decision("a", DecisionKind.PARKED, 12.75, "for b")

QUEUE = QueueLoad(1, 2, 3, 0.5, 900.0, {Kind.TASK: (0.0, 1.5)}, (ChatForecast(128, 0.25),))
LOAD = EngineLoad(4, 10.0, 20.5, used_kv_tokens=7, kv_tokens=9, queue=QUEUE)


@pytest.fixture
def inbox(tmp_path: Path) -> Iterator[DecisionInbox]:
    inbox = DecisionInbox(f"ipc://{tmp_path}/decisions")
    inbox.open()
    yield inbox
    inbox.close()


@pytest.fixture
def sender(inbox: DecisionInbox) -> Iterator[DecisionSender]:
    sender = DecisionSender(inbox.address)
    yield sender
    sender.close()


async def test_decisions_arrive_message_by_message(
    inbox: DecisionInbox, sender: DecisionSender
) -> None:
    death = asyncio.get_running_loop().create_future()
    sender.add(STARTED)
    sender.add(PARKED)
    sender.flush()
    assert await inbox.next(death) == [STARTED, PARKED]


async def test_how_busy_the_scheduler_is_comes_between_decisions(
    inbox: DecisionInbox, sender: DecisionSender
) -> None:
    death = asyncio.get_running_loop().create_future()
    sender.send_load(LOAD, replica=1)
    sender.add(STARTED)
    sender.flush()
    assert await inbox.next(death) == []
    assert await inbox.next(death) == [STARTED]
    assert inbox.loads == {1: LOAD}


async def test_what_a_scheduler_said_long_ago_is_not_how_busy_it_is(
    tmp_path: Path,
) -> None:
    death, now_s = asyncio.get_running_loop().create_future(), 100.0
    inbox = DecisionInbox(f"ipc://{tmp_path}/decisions", lambda: now_s)
    inbox.open()
    sender = DecisionSender(inbox.address)
    for replica in (0, 1):
        sender.send_load(LOAD, replica)
        await inbox.next(death)
        now_s += 2
    assert inbox.loads == {0: LOAD, 1: LOAD}
    now_s += 2  # the first one hangs
    assert inbox.loads == {}
    sender.send_load(LOAD, 0)
    await inbox.next(death)
    assert inbox.loads == {0: LOAD, 1: LOAD}
    sender.close()
    inbox.close()


async def test_a_death_ends_the_wait_and_is_raised_next(inbox: DecisionInbox) -> None:
    death = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(death.set_result, "its process died")
    assert await inbox.next(death) == []
    with pytest.raises(EngineDead, match="its process died"):
        await inbox.next(death)


async def test_final_decisions_are_read_before_the_death_is_reported(
    inbox: DecisionInbox, sender: DecisionSender
) -> None:
    death = asyncio.get_running_loop().create_future()
    sender.add(STARTED)
    sender.flush()
    death.set_result("its process died")
    assert await inbox.next(death) == [STARTED]
    with pytest.raises(EngineDead, match="its process died"):
        await inbox.next(death)


def test_an_inbox_that_was_never_opened_can_be_closed(tmp_path: Path) -> None:
    DecisionInbox(f"ipc://{tmp_path}/decisions").close()


async def test_a_load_that_cannot_be_read_is_passed_over_and_said_once(
    inbox: DecisionInbox, sender: DecisionSender, caplog: pytest.LogCaptureFixture
) -> None:
    death = asyncio.get_running_loop().create_future()
    for message in (b'{"replica": 0}', b'{"replica": ', b"{}"):
        sender._send(message)
    sender.send_load(LOAD, replica=0)
    assert [await inbox.next(death) for _ in range(4)] == [[], [], [], []]
    assert inbox.loads == {0: LOAD}
    assert len(caplog.records) == 1


async def test_infinity_and_nan_reach_the_worker(
    inbox: DecisionInbox, sender: DecisionSender
) -> None:
    chats = (ChatForecast(128, math.nan),)
    queue = replace(QUEUE, demand=math.inf, chats=chats)
    death = asyncio.get_running_loop().create_future()
    sender.send_load(replace(LOAD, queue=queue), replica=0)
    assert await inbox.next(death) == []
    received = inbox.loads[0].queue
    assert received is not None
    assert received.demand == math.inf
    assert math.isnan(received.chats[0].ttft_s)
