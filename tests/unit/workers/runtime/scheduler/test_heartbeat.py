"""The scheduler's sign of life."""

from workers.runtime.messages import HEARTBEAT_S
from workers.runtime.scheduler.heartbeat import Heartbeat


def test_however_fast_the_loop_turns_heartbeats_are_a_second_apart() -> None:
    sent_s: list[float] = []
    now_s = 100.0
    heartbeat = Heartbeat(lambda: sent_s.append(now_s), lambda: now_s)
    for _ in range(300):
        heartbeat.turn()
        now_s += HEARTBEAT_S / 128
    assert sent_s == [100.0, 101.0, 102.0]


def test_a_turn_after_a_long_iteration_sends_one() -> None:
    sent_s: list[float] = []
    now_s = 100.0
    heartbeat = Heartbeat(lambda: sent_s.append(now_s), lambda: now_s)
    for _ in range(3):
        heartbeat.turn()
        now_s += 20.0
    assert sent_s == [100.0, 120.0, 140.0]
