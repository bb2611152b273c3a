"""The one-way channel from the scheduler process to the worker."""

from pathlib import Path

import zmq

from workers.policy.decision import Decision, DecisionKind, Forecast
from workers.runtime.messages import DecisionSender, decode

PARKED = Decision("a", DecisionKind.PARKED, 12.5, "for b", Forecast(3.5, 600.0))
STARTED = Decision("b", DecisionKind.STARTED, 12.5)


def test_one_message_carries_an_iteration(tmp_path: Path) -> None:
    address = f"ipc://{tmp_path}/d"
    with zmq.Context() as context, context.socket(zmq.PULL) as inbox:
        inbox.bind(address)
        sender = DecisionSender(address)
        sender.add(PARKED)
        sender.add(STARTED)
        sender.flush()
        assert inbox.poll(5000) == zmq.POLLIN
        assert decode(inbox.recv()) == [PARKED, STARTED]
        sender.flush()
        assert inbox.poll(50) == 0
        sender.close()


def test_without_a_worker_nothing_is_kept() -> None:
    sender = DecisionSender(None)
    sender.add(PARKED)
    sender.flush()
    assert sender.pending == 0


def test_a_worker_that_is_gone_does_not_stop_the_scheduler(tmp_path: Path) -> None:
    sender = DecisionSender(f"ipc://{tmp_path}/nobody", unread_messages=1)
    for _ in range(10):
        sender.add(PARKED)
        sender.flush()
    assert sender.pending == 0
    sender.close()
